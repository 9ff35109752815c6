/**
 * gRPC over the HTTP/2 server: judges a request's headers, finds its method, begins the call.
 * Texts of refusals are grpc-go's, as clients and their tests know them.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import { STATUS } from "../../shared/api/errors.ts";
import type { Http2Connection } from "../http2/connection.ts";
import { ERROR } from "../http2/protocol.ts";
import type { RequestHead } from "../http2/request-head.ts";
import type { Http2Stream, StreamListener } from "../http2/stream.ts";
import type { CallEnvironment, CallHead } from "./call.ts";
import { Deadlines, parseTimeout } from "./deadline.ts";
import type { GrpcObserver, Method, MethodInfo, Services } from "./service.ts";
import { failureReply } from "./status.ts";
import { StreamingCall } from "./stream-call.ts";
import { UnaryCall } from "./unary-call.ts";

export interface GrpcOptions {
  readonly services: Services;
  /** A request message's bound (etcd: --max-request-bytes plus 512 KiB). */
  readonly messageBytesMax?: number;
  readonly observer?: GrpcObserver;
  /** Handlers that one connection may keep at work, answered or not. */
  readonly callsMax?: number;
  onUnexpectedError?(error: unknown, info: MethodInfo): void;
}

const TYPES = {
  unary: "unary",
  clientStream: "client_stream",
  serverStream: "server_stream",
  bidi: "bidi_stream",
} as const;

const CONTENT_TYPE = "application/grpc";
const IGNORED: StreamListener = { onData() {}, onEnd() {}, onWritable() {}, onReset() {} };

/** True for requests that `GrpcServer.accept` should answer; others are plain HTTP. */
export function isGrpc(head: RequestHead): boolean {
  return head.header("content-type")?.startsWith(CONTENT_TYPE) ?? false;
}

export class GrpcServer {
  readonly #methods = new Map<string, { method: Method; info: MethodInfo }>();
  readonly #services: ReadonlySet<string>;
  readonly #environment: CallEnvironment;
  readonly #callsMax: number;

  constructor(options: GrpcOptions) {
    this.#services = new Set(Object.keys(options.services));
    for (const [service, methods] of Object.entries(options.services)) {
      for (const [name, method] of Object.entries(methods)) {
        const info: MethodInfo = { service, method: name, type: TYPES[method.kind] };
        this.#methods.set(`/${service}/${name}`, { method, info });
        options.observer?.serves?.(info);
      }
    }
    this.#callsMax = options.callsMax ?? LIMITS.http2StreamsMax;
    this.#environment = {
      messageBytesMax:
        options.messageBytesMax ?? LIMITS.requestBytesMax + LIMITS.requestOverheadBytes,
      deadlines: new Deadlines(),
      observer: options.observer,
      onUnexpectedError: (error, info) => options.onUnexpectedError?.(error, info),
    };
  }

  /** Begins the call that this stream carries. */
  accept(stream: Http2Stream, connection: Http2Connection): StreamListener {
    const { head } = stream;
    const contentType = head.header("content-type");
    if (contentType !== CONTENT_TYPE && !isContentType(contentType)) {
      const message = `invalid gRPC request content-type ${quote(contentType ?? "")}`;
      return refuse(stream, STATUS.invalidArgument, message, 415);
    }
    if (head.method !== "POST") {
      const message = `Received a HEADERS frame with :method ${quote(head.method)} which should be POST`;
      return refuse(stream, STATUS.internal, message, 405);
    }
    const found = this.#methods.get(head.path);
    if (found === undefined) return refuse(stream, STATUS.unimplemented, this.#unknown(head.path));
    const encoding = head.header("grpc-encoding");
    if (encoding !== undefined && encoding !== "gzip" && encoding !== "identity") {
      const message = `grpc: Decompressor is not installed for grpc-encoding ${quote(encoding)}`;
      return refuse(stream, STATUS.unimplemented, message);
    }
    const timeout = head.header("grpc-timeout");
    const deadline = timeout === undefined ? Infinity : deadlineAfter(timeout);
    if (deadline === undefined) {
      const message = `malformed grpc-timeout: ${quote(timeout ?? "")}`;
      return refuse(stream, STATUS.internal, message, 400);
    }
    if (connection.runningCalls >= this.#callsMax) {
      stream.reset(ERROR.refusedStream);
      return IGNORED;
    }
    return this.#begin({ ...found, deadline, isGzip: encoding === "gzip" }, stream, connection);
  }

  #begin(head: CallHead, stream: Http2Stream, connection: Http2Connection): StreamListener {
    const door = { stream, connection, environment: this.#environment };
    if (head.method.kind === "unary") return new UnaryCall(head, door);
    const call = new StreamingCall(head, door);
    call.start();
    return call;
  }

  #unknown(path: string): string {
    const slash = path.lastIndexOf("/");
    if (slash <= 0) return `malformed method name: ${quote(path)}`;
    const service = path.slice(1, slash);
    const method = path.slice(slash + 1);
    return this.#services.has(service)
      ? `unknown method ${method} for service ${service}`
      : `unknown service ${service}`;
  }
}

/** "application/grpc", alone or with a subtype or parameters. */
function isContentType(contentType: string | undefined): boolean {
  const next = contentType?.[CONTENT_TYPE.length];
  return (
    contentType !== undefined &&
    contentType.startsWith(CONTENT_TYPE) &&
    (next === undefined || next === "+" || next === ";")
  );
}

function deadlineAfter(timeout: string): number | undefined {
  const milliseconds = parseTimeout(timeout);
  return milliseconds === undefined ? undefined : performance.now() + milliseconds;
}

function refuse(
  stream: Http2Stream,
  code: number,
  message: string,
  httpStatus = 200,
): StreamListener {
  stream.respond(failureReply({ code, message }, httpStatus), true);
  return IGNORED;
}

function quote(text: string): string {
  return JSON.stringify(text);
}
