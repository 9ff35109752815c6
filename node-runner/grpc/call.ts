/**
 * One gRPC call on one stream: what unary and streaming calls share. A call ends exactly once, by
 * its answer, the client's reset, its deadline or the connection's end; handlers hear of the last
 * three through `onCancel`.
 */
import type { Socket } from "node:net";
import { assert } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { RpcError, STATUS } from "../../shared/api/errors.ts";
import type { Http2Connection } from "../http2/connection.ts";
import type { Http2Stream, StreamListener } from "../http2/stream.ts";
import { deflateMessage, inflateMessage } from "./compression.ts";
import type { Deadlines, Expiring } from "./deadline.ts";
import { MessageReader, PREFIX_BYTES, type MessageSink } from "./message-reader.ts";
import type { CallContext, GrpcObserver, Method, MethodInfo } from "./service.ts";
import { GZIP_REPLY_HEADERS, OK_TRAILERS, REPLY_HEADERS } from "./status.ts";
import { failureOf, failureReply, failureTrailers, type Failure } from "./status.ts";

/** What all calls of a server share. */
export interface CallEnvironment {
  readonly messageBytesMax: number;
  readonly deadlines: Deadlines;
  readonly observer: GrpcObserver | undefined;
  /** An error that is no `RpcError`: the client sees UNKNOWN, the log should see more. */
  onUnexpectedError(error: unknown, info: MethodInfo): void;
}

/** A call's request, as its headers describe it. */
export interface CallHead {
  readonly method: Method;
  readonly info: MethodInfo;
  readonly deadline: number;
  readonly isGzip: boolean;
}

const DEADLINE_EXCEEDED: Failure = {
  code: STATUS.deadlineExceeded,
  message: "context deadline exceeded",
};
/** Rewritten for each message: the stream copies it. */
const prefix = new Uint8Array(PREFIX_BYTES);

export abstract class Call implements CallContext, StreamListener, MessageSink, Expiring {
  readonly info: MethodInfo;
  readonly deadline: number;
  isPaused = false;
  protected readonly method: Method;
  protected readonly stream: Http2Stream;
  protected readonly connection: Http2Connection;
  protected readonly environment: CallEnvironment;
  protected readonly reader: MessageReader;
  readonly #isGzip: boolean;
  readonly #startedAt: number;
  #onCancel: (() => void) | undefined;
  #isOver = false;
  /** With the keeper of deadlines; only if it has one. */
  #ticket = 0;

  constructor(
    head: CallHead,
    door: { stream: Http2Stream; connection: Http2Connection; environment: CallEnvironment },
  ) {
    this.method = head.method;
    this.info = head.info;
    this.deadline = head.deadline;
    this.#isGzip = head.isGzip;
    this.stream = door.stream;
    this.connection = door.connection;
    this.environment = door.environment;
    this.reader = new MessageReader(this, door.environment.messageBytesMax);
    this.#startedAt = door.environment.observer === undefined ? 0 : performance.now();
    if (head.deadline !== Infinity) this.#ticket = door.environment.deadlines.add(this);
    door.environment.observer?.started(head.info, this.metadata("client-api-version"));
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get socket(): Socket {
    return this.connection.socket;
  }

  metadata(name: string): string | undefined {
    return this.stream.head.header(name);
  }

  onCancel(callback: () => void): void {
    const before = this.#onCancel;
    this.#onCancel =
      before === undefined
        ? callback
        : () => {
            before();
            callback();
          };
  }

  /* Requests. */

  onData(chunk: Buffer): void {
    this.reader.read(chunk);
  }

  abstract onEnd(): void;
  abstract onWritable(): void;
  /** A request's message, in the clear. */
  protected abstract request(bytes: Buffer): void;
  /** The call is over: the handler is told if it must be. */
  protected abstract over(): void;

  hold(bytes: number): boolean {
    if (this.stream.isOver || this.stream.hold(bytes)) return true;
    this.fail({ code: STATUS.resourceExhausted, message: "too many unfinished requests" });
    return false;
  }

  tooLarge(length: number): void {
    const max = this.environment.messageBytesMax;
    const message = `grpc: received message larger than max (${length} vs. ${max})`;
    this.fail({ code: STATUS.resourceExhausted, message });
  }

  message(bytes: Buffer, flag: number): void {
    this.environment.observer?.received(this.info, bytes.length);
    if (flag === 0) {
      this.request(bytes);
      return;
    }
    const plain = this.#inflate(bytes, flag);
    if (plain !== undefined) this.request(plain);
  }

  #inflate(bytes: Buffer, flag: number): Buffer | undefined {
    try {
      if (flag !== 1) {
        throw new RpcError("internal", `grpc: received unexpected payload format ${flag}`);
      }
      if (!this.#isGzip) {
        const text = "grpc: compressed flag set with identity or empty encoding";
        throw new RpcError("internal", text);
      }
      return inflateMessage(bytes, this.environment.messageBytesMax);
    } catch (error) {
      this.fail(failureOf(error));
      return undefined;
    }
  }

  /** Decodes a message; undefined and the call has failed, when it is none. */
  protected decode(bytes: Buffer): { request: unknown } | undefined {
    try {
      return { request: this.method.decode(bytes) };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const text =
        this.method.kind === "unary"
          ? "grpc: error unmarshalling request: "
          : "grpc: failed to unmarshal the received message: ";
      this.fail({ code: STATUS.internal, message: text + reason });
      return undefined;
    }
  }

  /* Replies. */

  sendHeaders(): void {
    if (this.#isOver || this.stream.hasResponded) return;
    this.stream.respond(this.#isGzip ? GZIP_REPLY_HEADERS : REPLY_HEADERS);
  }

  protected sendMessage(bytes: Bytes): boolean {
    if (this.#isOver) return false;
    this.sendHeaders();
    this.environment.observer?.sent(this.info, bytes.length);
    const deflated = this.#isGzip ? deflateMessage(bytes) : undefined;
    const body = deflated ?? bytes;
    prefix[0] = deflated === undefined ? 0 : 1;
    prefix[1] = body.length >>> 24;
    prefix[2] = body.length >>> 16;
    prefix[3] = body.length >>> 8;
    prefix[4] = body.length;
    return this.stream.write(body, prefix);
  }

  /** Ends the call with OK. */
  protected succeed(): void {
    if (this.#isOver) return;
    this.sendHeaders();
    this.stream.end(OK_TRAILERS);
    this.#end(STATUS.ok);
  }

  /** Ends the call with what a handler threw. */
  protected failWith(error: unknown): void {
    const failure = failureOf(error);
    if (!(error instanceof RpcError)) this.environment.onUnexpectedError(error, this.info);
    this.fail(failure);
  }

  protected fail(failure: Failure): void {
    if (this.#isOver) return;
    if (this.stream.hasResponded) this.stream.end(failureTrailers(failure));
    else this.stream.respond(failureReply(failure), true);
    this.#end(failure.code);
  }

  /* The end. */

  onReset(): void {
    this.#cancel(STATUS.canceled);
  }

  expire(): void {
    if (this.#isOver) return;
    if (this.stream.hasResponded) this.stream.end(failureTrailers(DEADLINE_EXCEEDED));
    else this.stream.respond(failureReply(DEADLINE_EXCEEDED), true);
    this.#cancel(STATUS.deadlineExceeded);
  }

  #cancel(code: number): void {
    // A call that is answered may lose its stream while the answer waits for window: it has been
    // handled.
    if (this.#isOver) return;
    const cancelled = this.#onCancel;
    this.#end(code);
    cancelled?.();
  }

  #end(code: number): void {
    assert(!this.#isOver, "a call ends once");
    this.#isOver = true;
    this.#onCancel = undefined;
    this.reader.stop();
    const { deadlines, observer } = this.environment;
    if (this.deadline !== Infinity) deadlines.delete(this, this.#ticket);
    if (observer !== undefined) {
      observer.handled(this.info, { code, seconds: (performance.now() - this.#startedAt) / 1000 });
    }
    this.over();
  }
}
