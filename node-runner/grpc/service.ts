/**
 * gRPC services as plain data: for each method its codec and its handler. Handlers are pushed to
 * (`StreamReceiver`) and push back (`StreamCall`); no stream object, iterator or AbortController
 * stands between, and a unary handler that returns its reply at once costs no promise.
 */
import type { Socket } from "node:net";
import type { Bytes } from "../../shared/base/bytes.ts";

/**
 * `Methods` by name, by full service name: `{ "etcdserverpb.KV": { Put: { kind: "unary", ... } }
 * }`.
 */
export type Services = Readonly<Record<string, Methods>>;
export type Methods = Readonly<Record<string, Method>>;
// Methods of an interface are checked bivariantly, so every concrete method below is a `Method`.
export type Method = UnaryMethod<unknown, unknown> | StreamMethod<unknown, unknown>;

export interface Codec<Request, Response> {
  /**
   * Throws when the bytes are no such message. The bytes belong to the caller's chunk: keep a
   * copy, not a view.
   */
  decode(bytes: Bytes): Request;
  /** The result belongs to the server until it is sent. */
  encode(response: Response): Bytes;
}

export interface UnaryMethod<Request, Response> extends Codec<Request, Response> {
  readonly kind: "unary";
  /**
   * Throws or rejects with an `RpcError`; anything else becomes status UNKNOWN with its message.
   */
  handle(request: Request, call: CallContext): Response | Promise<Response>;
}

export interface StreamMethod<Request, Response> extends Codec<Request, Response> {
  readonly kind: "serverStream" | "clientStream" | "bidi";
  /** A call has begun. What it throws ends the call. */
  open(call: StreamCall<Response>): StreamReceiver<Request>;
}

/** What a streaming handler is told. What these throw ends the call, as from a unary handler. */
export interface StreamReceiver<Request> {
  receive(request: Request): void;
  /** The client sends no more; replies may go on. */
  halfClose(): void;
  /** The call is over, for whatever reason; always the last thing told, once. */
  closed(): void;
}

/** A method's names as metrics label them. One object for all calls of a method. */
export interface MethodInfo {
  readonly service: string;
  readonly method: string;
  readonly type: "unary" | "client_stream" | "server_stream" | "bidi_stream";
}

export interface CallContext {
  readonly info: MethodInfo;
  /** The client's address and, with TLS, certificate are read from here. */
  readonly socket: Socket;
  /** Over: answered, cancelled, past its deadline, or the connection is gone. */
  readonly isOver: boolean;
  /** On the clock of `performance.now()`, in milliseconds; Infinity without one. */
  readonly deadline: number;
  /** A metadata value (of several, joined by ", "); names are in lower case. */
  metadata(name: string): string | undefined;
  /**
   * Calls back once if the call ends before it is answered: cancelled, past its deadline, or
   * disconnected.
   */
  onCancel(callback: () => void): void;
}

export interface StreamCall<Response> extends CallContext {
  /**
   * Sends a message. False: wait for `onDrain` before sending more (the message is queued all the
   * same) or it is over.
   */
  send(response: Response): boolean;
  /** Sends a message that is encoded already, such as an event for many watchers. */
  sendEncoded(bytes: Bytes): boolean;
  /** Sends the response's headers now, rather than with the first message. */
  sendHeaders(): void;
  /** Calls back each time after `send` returned false and the queue is short again. */
  onDrain(callback: () => void): void;
  /** No message is delivered until `resume`; the client is held to its window. */
  pause(): void;
  resume(): void;
  /** Ends the call: OK, or with an error as a unary handler throws it. */
  end(error?: unknown): void;
}

/** Watches calls from outside, for metrics. `handled` comes once for each `started`. */
export interface GrpcObserver {
  /** A method that is served: each is told once, before any call. */
  serves?(info: MethodInfo): void;
  /** `clientVersion`: the API version that the client says it speaks, if it does. */
  started(info: MethodInfo, clientVersion: string | undefined): void;
  handled(info: MethodInfo, result: { code: number; seconds: number }): void;
  /** Octets of one message, without gRPC's prefix. */
  received(info: MethodInfo, bytes: number): void;
  sent(info: MethodInfo, bytes: number): void;
}
