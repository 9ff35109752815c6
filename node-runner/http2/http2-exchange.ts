/** `HttpHandler` over a stream of the HTTP/2 server. */
import type { Socket } from "node:net";
import { utf8, type Bytes } from "../../shared/base/bytes.ts";
import type { Http2Connection } from "./connection.ts";
import { prepareHeaders } from "./hpack-encoder.ts";
import type { BodyReceiver, HttpHandler, HttpRequest, HttpResponse } from "./http-handler.ts";
import type { Http2Stream, StreamListener } from "./stream.ts";

/** Answers a stream by the same handler that serves HTTP/1.1. */
export function serveHttp(
  handler: HttpHandler,
  stream: Http2Stream,
  connection: Http2Connection,
): StreamListener {
  if (stream.head.method === "CONNECT") {
    stream.respond(prepareHeaders([[":status", "501"]]), true);
  }
  const exchange = new Http2Exchange(stream, connection);
  if (!stream.isOver) handler(exchange, exchange);
  return exchange;
}

const CONTINUE = prepareHeaders([[":status", "100"]]);
/** HTTP/1.1's own (RFC 9113 section 8.2.2). */
const CONNECTION_HEADERS: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);
/** What a response may not carry: it would break out of its header. */
const LINE_BREAKS = /[\r\n\0]/;

class Http2Exchange implements HttpRequest, HttpResponse, StreamListener {
  readonly httpVersion = "2.0";
  readonly #stream: Http2Stream;
  readonly #connection: Http2Connection;
  #receiver: BodyReceiver | undefined;
  #drainCallback: (() => void) | undefined;
  #abortCallback: (() => void) | undefined;
  #isEnded = false;

  constructor(stream: Http2Stream, connection: Http2Connection) {
    this.#stream = stream;
    this.#connection = connection;
    stream.pause();
    stream.listener = this;
  }

  get method(): string {
    return this.#stream.head.method;
  }

  get target(): string {
    return this.#stream.head.path;
  }

  get socket(): Socket {
    return this.#connection.socket;
  }

  header(name: string): string | undefined {
    if (name === "host") return this.#stream.head.authority;
    return this.#stream.head.header(name);
  }

  receive(receiver: BodyReceiver): void {
    this.#receiver = receiver;
    if (this.header("expect") === "100-continue") this.#stream.inform(CONTINUE);
    this.#stream.resume();
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  hold(bytes: number): boolean {
    return this.#stream.isOver || this.#stream.hold(bytes);
  }

  get isOver(): boolean {
    return this.#isEnded || this.#stream.isOver;
  }

  get hasHead(): boolean {
    return this.#stream.hasResponded;
  }

  writeHead(status: number, headers: Readonly<Record<string, string>> = {}): void {
    if (this.isOver) return;
    const fields: [string, string][] = [[":status", String(status)]];
    for (const [name, value] of Object.entries(headers)) {
      if (CONNECTION_HEADERS.has(name) || LINE_BREAKS.test(value)) continue;
      fields.push([name, value]);
    }
    this.#stream.respond(prepareHeaders(fields));
  }

  write(body: Bytes | string): boolean {
    if (this.isOver) return false;
    if (!this.hasHead) this.writeHead(200);
    if (this.method === "HEAD") return true;
    return this.#stream.write(typeof body === "string" ? utf8(body) : body);
  }

  end(body?: Bytes | string): void {
    if (this.isOver) return;
    if (!this.hasHead) this.writeHead(200);
    if (body !== undefined) this.write(body);
    this.#isEnded = true;
    this.#stream.end();
  }

  onDrain(callback: () => void): void {
    this.#drainCallback = callback;
  }

  onAbort(callback: () => void): void {
    this.#abortCallback = callback;
  }

  /* The stream's events. */

  onData(chunk: Buffer): void {
    this.#receiver?.data(chunk);
  }

  onEnd(): void {
    this.#receiver?.end();
  }

  onWritable(): void {
    this.#drainCallback?.();
  }

  onReset(): void {
    if (!this.#stream.hasEnded) this.#receiver?.aborted();
    if (!this.#isEnded) this.#abortCallback?.();
  }
}
