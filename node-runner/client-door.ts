/**
 * The doors for clients: gRPC, the JSON gateway, the link, health and metrics together on each
 * client URL; HTTP apart where --listen-client-http-urls says so; metrics and health alone on
 * --listen-metrics-urls.
 */
import type { Registry } from "prom-client";
import { LIMITS } from "../shared/base/limits.ts";
import type { ProtoServices } from "../shared/peer/proto/methods.ts";
import type { Services } from "../shared/peer/services.ts";
import type { Config } from "./config/config.ts";
import { urlOf, type ListenAddress } from "./config/url.ts";
import { grpcServices } from "./grpc/grpc-door.ts";
import { GrpcServer, isGrpc } from "./grpc/server.ts";
import { withCors } from "./http/cors.ts";
import { serveFetch } from "./http/fetch-adapter.ts";
import { createGateway, isGatewayTarget, isUnaryTarget } from "./http/gateway.ts";
import { GatewaySockets } from "./http/gateway-websocket.ts";
import { createMemberChange, isMemberChangeTarget } from "./http/member-change.ts";
import { clientRoutes, metricsRoutes } from "./http/routes.ts";
import { refuseUpgrade } from "./http/upgrade.ts";
import type { HttpHandler } from "./http2/http-handler.ts";
import { createHttp1Server } from "./http2/http1-exchange.ts";
import { serveHttp } from "./http2/http2-exchange.ts";
import { attachLink, isLinkTarget } from "./link/link-door.ts";
import type { Logger } from "./logger.ts";
import { createGrpcMetrics } from "./metrics/grpc-metrics.ts";
import { openPort, type Door } from "./port.ts";
import type { TlsIdentity } from "./tls/tls-identity.ts";

export interface ClientDoorOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly metrics: Registry;
  readonly identity: { readonly clusterId: bigint; readonly memberId: bigint };
  readonly services: Services;
  readonly methods: ProtoServices;
  readonly tls: TlsIdentity;
}

const NOT_FOUND: HttpHandler = (_request, response) => {
  response.writeHead(404, { "content-type": "text/plain; charset=utf-8" });
  response.end("404 page not found\n");
};

/** Opens them all; when one can't be, closes those that are open and says which. */
export async function openClientDoors(options: ClientDoorOptions): Promise<Door[]> {
  const { config } = options;
  const grpc = createGrpc(options);
  const http = clientHandler(options);
  const apart = config.listenClientHttpUrls.length > 0;
  const metricsOnly = fetchHandler(options, metricsRoutes(options.services, options.metrics));
  const onClientUrls = { grpc, http: apart ? NOT_FOUND : http, link: !apart };
  const wanted = [
    ...doorsAt(config.listenClientUrls, onClientUrls),
    ...doorsAt(config.listenClientHttpUrls, { grpc: undefined, http, link: true }),
    ...doorsAt(config.listenMetricsUrls, { grpc: undefined, http: metricsOnly, link: false }),
  ];
  const opened = await Promise.allSettled(wanted.map((door) => openDoor(options, door)));
  const doors = opened.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  const failed = opened.find((each) => each.status === "rejected");
  if (failed === undefined) return doors;
  await Promise.all(doors.map((door) => door.close()));
  throw failed.reason;
}

function createGrpc({ config, logger, metrics, methods }: ClientDoorOptions): GrpcServer {
  return new GrpcServer({
    services: grpcServices(methods),
    messageBytesMax: config.requestBytesMax + LIMITS.requestOverheadBytes,
    observer: createGrpcMetrics({
      registry: metrics,
      extensive: config.metrics === "extensive",
      onUnary({ service, method }, seconds) {
        if (seconds * 1000 < config.slowRequestMilliseconds) return;
        logger.report("warn", "request stats", { method: `/${service}/${method}`, seconds });
      },
    }),
    onUnexpectedError: (error, { service, method }) =>
      logger.report("error", "a call failed unexpectedly", {
        method: `/${service}/${method}`,
        error,
      }),
  });
}

/** Gateway and routes, for HTTP/1.1 and HTTP/2. */
function clientHandler(options: ClientDoorOptions): HttpHandler {
  const { config, methods, services, metrics } = options;
  const gateway = config.gateway ? createGateway(methods, config.requestBytesMax) : NOT_FOUND;
  const routes = fetchHandler(options, clientRoutes(services, metrics));
  const members = createMemberChange(services);
  return withCors(config.corsOrigins, (request, response) => {
    if (isGatewayTarget(request.target)) gateway(request, response);
    else if (isMemberChangeTarget(request.target)) members(request, response);
    else routes(request, response);
  });
}

function fetchHandler(
  options: ClientDoorOptions,
  routes: ReturnType<typeof clientRoutes>,
): HttpHandler {
  return serveFetch(
    (request) => routes.fetch(request),
    (error) => options.logger.report("error", "an HTTP request failed unexpectedly", { error }),
  );
}

interface DoorKind {
  readonly grpc: GrpcServer | undefined;
  readonly http: HttpHandler;
  readonly link: boolean;
}

interface WantedDoor extends DoorKind {
  readonly address: ListenAddress;
  /** The address is named with TLS and without. */
  readonly takesPlain: boolean;
}

/** One door for each address: `http://` and `https://` of one host and port share theirs, as in etcd. */
function doorsAt(addresses: readonly ListenAddress[], kind: DoorKind): WantedDoor[] {
  const byPlace = new Map<string, ListenAddress[]>();
  for (const address of addresses) {
    const place = urlOf({ ...address, tls: false });
    // Each asks the system for a port of its own.
    const key = address.kind === "tcp" && address.port === 0 ? `${place} ${byPlace.size}` : place;
    byPlace.set(key, [...(byPlace.get(key) ?? []), address]);
  }
  return [...byPlace.values()].map((same) => {
    const secure = same.find(({ tls }) => tls);
    const plain = same.find(({ tls }) => !tls);
    const address = (secure ?? plain) as ListenAddress;
    return { ...kind, address, takesPlain: secure !== undefined && plain !== undefined };
  });
}

async function openDoor(options: ClientDoorOptions, wanted: WantedDoor): Promise<Door> {
  const { config, services, identity } = options;
  const { grpc, http } = wanted;
  const http1 = createHttp1Server((request, response) => {
    if (!wanted.link || !isLinkTarget(request.target)) http(request, response);
  });
  const link = wanted.link
    ? attachLink(http1, services, {
        ...identity,
        secret: config.linkSecret,
        knowsCallers: wanted.address.tls && !wanted.takesPlain && options.tls.knowsCallers,
        origins: listedOrigins(config),
      })
    : undefined;
  const sockets = wanted.link && config.gateway ? gatewaySockets(options) : undefined;
  http1.on("upgrade", (request, socket, head) => {
    if (link?.owns(request) === true) return;
    if (sockets?.owns(request) === true) sockets.upgrade(request, socket, head);
    else refuseUpgrade(socket, 404);
  });
  const port = await openPort({
    address: wanted.address,
    endpoint: "client",
    http1,
    streamsMax: config.concurrentStreamsMax,
    takesPlain: wanted.takesPlain,
    keepalive: {
      milliseconds: config.keepaliveMilliseconds,
      timeoutMilliseconds: config.keepaliveTimeoutMilliseconds,
    },
    tls: options.tls,
    logger: options.logger,
    onStream: (stream, connection) =>
      grpc !== undefined && isGrpc(stream.head)
        ? grpc.accept(stream, connection)
        : serveHttp(http, stream, connection),
  });
  return {
    close: async () => {
      link?.close();
      sockets?.close();
      await port.close();
    },
  };
}

function gatewaySockets({ config, methods }: ClientDoorOptions): GatewaySockets {
  return new GatewaySockets({
    gateway: createGateway(methods, config.requestBytesMax),
    isUnary: (target) => isUnaryTarget(methods, target),
    requestBytesMax: config.requestBytesMax,
    origins: listedOrigins(config),
  });
}

/** WebSockets take pages of listed origins only: "*" is CORS's word, and doesn't open them. */
function listedOrigins(config: Config): string[] {
  return config.corsOrigins.filter((origin) => origin !== "*");
}
