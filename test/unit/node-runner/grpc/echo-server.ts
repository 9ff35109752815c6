/**
 * A gRPC server with echo services on a free port, for tests of the door without a peer behind it.
 */
import type { TlsOptions } from "node:tls";
import { RpcError } from "../../../../shared/api/errors.ts";
import { GrpcServer, isGrpc, type GrpcOptions } from "../../../../node-runner/grpc/server.ts";
import type {
  CallContext,
  MethodInfo,
  Services,
  StreamCall,
  StreamMethod,
  UnaryMethod,
} from "../../../../node-runner/grpc/service.ts";
import { createHttp1Server } from "../../../../node-runner/http2/http1-exchange.ts";
import { serveHttp } from "../../../../node-runner/http2/http2-exchange.ts";
import {
  readBody,
  type HttpRequest,
  type HttpResponse,
} from "../../../../node-runner/http2/http-handler.ts";
import { Http2Server, type Http2ServerOptions } from "../../../../node-runner/http2/server.ts";

/** Messages of the echo services are bytes: whatever the client's codec makes of them. */
const raw = {
  decode(bytes: Uint8Array): Uint8Array {
    if (bytes[0] === 0xff) throw new Error("proto: cannot parse invalid wire-format data");
    return bytes;
  },
  encode: (bytes: Uint8Array): Uint8Array => bytes,
};
type Unary = UnaryMethod<Uint8Array, Uint8Array>;
type Streaming = StreamMethod<Uint8Array, Uint8Array>;

/** What happened to calls, for assertions. */
export interface EchoEvents {
  cancelled: number;
  closed: number;
  halfClosed: number;
  drained: number;
  /** Messages that Flow has sent. */
  flowed: number;
}

function unary(handle: Unary["handle"]): Unary {
  return { kind: "unary", ...raw, handle };
}

function echoServices(events: EchoEvents): Services {
  const echoStream = (call: StreamCall<Uint8Array>) => ({
    receive: (bytes: Uint8Array): void => {
      call.send(bytes);
    },
    halfClose(): void {
      events.halfClosed += 1;
      call.end();
    },
    closed(): void {
      events.closed += 1;
    },
  });
  const bidi: Streaming = { kind: "bidi", ...raw, open: echoStream };
  const stay: Streaming = {
    ...bidi,
    open: (call) => ({ ...echoStream(call), halfClose: () => void (events.halfClosed += 1) }),
  };
  return {
    "test.Echo": {
      Echo: unary((request) => request),
      Later: unary((request) => new Promise((resolve) => setImmediate(resolve, request))),
      Refuse: unary((request) => {
        throw new RpcError("failedPrecondition", `refused: ${Buffer.from(request).toString()}`);
      }),
      Crash: unary(() => Promise.reject(new TypeError("unexpected"))),
      Metadata: unary((_request, call) => Buffer.from(call.metadata("token") ?? "none")),
      Never: unary((_request, call: CallContext) => {
        call.onCancel(() => (events.cancelled += 1));
        return new Promise<Uint8Array>(() => {});
      }),
      Chat: bidi,
      /** Like Chat, but stays open after the half-close, as a watch does. */
      Stay: stay,
      /**
       * Answers with as many messages as the request has octets, each of 64 KiB, as fast as the
       * client takes them.
       */
      Flow: {
        kind: "serverStream",
        ...raw,
        open(call: StreamCall<Uint8Array>) {
          const message = Buffer.alloc(64 * 1024, 7);
          let left = 0;
          const flow = (): void => {
            while (left > 0 && !call.isOver) {
              left -= 1;
              events.flowed += 1;
              if (!call.send(message)) return;
            }
            if (left === 0) call.end();
          };
          call.onDrain(() => {
            events.drained += 1;
            flow();
          });
          return {
            receive: (request: Uint8Array) => (left = request.length),
            halfClose: flow,
            closed: () => (events.closed += 1),
          };
        },
      },
    },
  };
}

/**
 * Answers `<version> <method> <target> <body>`; `/abort` never answers, `/large` answers with a
 * MiB.
 */
function echoHttp(request: HttpRequest, response: HttpResponse): void {
  if (request.target === "/abort") return;
  if (request.target === "/large") {
    response.end(Buffer.alloc(1024 * 1024, 1));
    return;
  }
  void readBody(request, 100_000).then(
    (body) => {
      response.writeHead(body === undefined ? 413 : 200, { "content-type": "text/plain" });
      response.write(`${request.httpVersion} ${request.method} ${request.target} `);
      response.end(body ?? "too large");
    },
    () => undefined,
  );
}

export interface EchoServer {
  readonly port: number;
  readonly server: Http2Server;
  readonly events: EchoEvents;
  /** Service, method and code of each handled call. */
  readonly handled: string[];
  readonly unexpected: unknown[];
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startEchoServer(
  options: {
    grpc?: Partial<GrpcOptions>;
    http2?: Partial<Http2ServerOptions>;
    tls?: TlsOptions;
  } = {},
): Promise<EchoServer> {
  const events: EchoEvents = { cancelled: 0, closed: 0, halfClosed: 0, drained: 0, flowed: 0 };
  const handled: string[] = [];
  const unexpected: unknown[] = [];
  const grpc = new GrpcServer({
    services: echoServices(events),
    onUnexpectedError: (error) => unexpected.push(error),
    observer: {
      started() {},
      handled: (info: MethodInfo, { code }) => handled.push(`${info.method} ${code}`),
      received() {},
      sent() {},
    },
    ...options.grpc,
  });
  const server = new Http2Server({
    http1: createHttp1Server(echoHttp),
    onStream: (stream, connection) =>
      isGrpc(stream.head)
        ? grpc.accept(stream, connection)
        : serveHttp(echoHttp, stream, connection),
    ...(options.tls === undefined ? {} : { tls: options.tls }),
    ...options.http2,
  });
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  return {
    port,
    server,
    events,
    handled,
    unexpected,
    [Symbol.asyncDispose]: () => server.close(0),
  };
}
