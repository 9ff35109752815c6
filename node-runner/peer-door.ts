/** The doors for the other members: their links, and who is who, on each peer URL. */
import type { Services } from "../shared/peer/services.ts";
import type { ListenAddress } from "./config/url.ts";
import { serveFetch } from "./http/fetch-adapter.ts";
import { peerRoutes } from "./http/routes.ts";
import { createHttp1Server } from "./http2/http1-exchange.ts";
import { serveHttp } from "./http2/http2-exchange.ts";
import type { Logger } from "./logger.ts";
import type { WsPeerTransport } from "./peer-transport/ws-peer-transport.ts";
import { openPort, type Door } from "./port.ts";
import type { TlsIdentity } from "./tls/tls-identity.ts";

export interface PeerDoorOptions {
  readonly transport: WsPeerTransport;
  readonly services: Services;
  readonly tls: TlsIdentity;
  readonly logger: Logger;
  /** What members show each other. */
  readonly secret: string | undefined;
}

export async function openPeerDoor(
  address: ListenAddress,
  options: PeerDoorOptions,
): Promise<Door> {
  const { logger, tls } = options;
  const routes = peerRoutes(options.services, options.secret);
  const handler = serveFetch(
    (request) => routes.fetch(request),
    (error) => logger.report("error", "a peer's HTTP request failed", { error }),
  );
  const http1 = createHttp1Server(handler);
  options.transport.attach(http1);
  return openPort({
    address,
    endpoint: "peer",
    http1,
    tls,
    logger,
    onStream: (stream, connection) => serveHttp(handler, stream, connection),
  });
}
