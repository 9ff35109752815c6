/** `HttpHandler` over `node:http`. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { BodyReceiver, HttpHandler, HttpRequest, HttpResponse } from "./http-handler.ts";
import { http } from "./node-http.ts";

/**
 * A `node:http` server for this handler, as `Http2Server` takes it. A request's body may last as
 * long as its stream of replies (a watch over the gateway), so only headers and idle connections
 * are timed.
 */
export function createHttp1Server(handler: HttpHandler): Server {
  const options = {
    headersTimeout: LIMITS.http1HeadersSeconds * 1000,
    requestTimeout: 0,
    keepAliveTimeout: LIMITS.http1IdleSeconds * 1000,
    maxHeaderSize: LIMITS.http2HeaderListBytesMax,
    // What is no WebSocket - curl --http2 asks for h2c - is served as if no upgrade were asked for.
    shouldUpgradeCallback: ({ headers }: IncomingMessage) =>
      headers.upgrade?.toLowerCase() === "websocket",
  };
  return http.createServer(options, (request, response) => {
    const exchange = new Http1Exchange(request, response);
    handler(exchange, exchange);
  });
}

class Http1Exchange implements HttpRequest, HttpResponse {
  readonly httpVersion = "1.1";
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#request = request;
    this.#response = response;
    // A broken connection is told by `close`; an error nobody listens for would end the process.
    response.on("error", () => {});
    request.on("error", () => {});
  }

  get method(): string {
    return this.#request.method ?? "";
  }

  get target(): string {
    return this.#request.url ?? "";
  }

  get socket(): Socket {
    return this.#request.socket;
  }

  header(name: string): string | undefined {
    const value = this.#request.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  }

  receive(receiver: BodyReceiver): void {
    const request = this.#request;
    request.on("data", (chunk: Buffer) => receiver.data(chunk));
    request.on("end", () => receiver.end());
    request.on("close", () => {
      if (!request.complete) receiver.aborted();
    });
  }

  pause(): void {
    this.#request.pause();
  }

  resume(): void {
    this.#request.resume();
  }

  hold(): boolean {
    // HTTP/1.1 has one request at a time, which its reader bounds.
    return true;
  }

  get isOver(): boolean {
    return this.#response.writableEnded || this.#response.destroyed;
  }

  get hasHead(): boolean {
    return this.#response.headersSent;
  }

  writeHead(status: number, headers: Readonly<Record<string, string>> = {}): void {
    this.#response.writeHead(status, headers);
  }

  write(body: Bytes | string): boolean {
    return !this.isOver && this.#response.write(body);
  }

  end(body?: Bytes | string): void {
    if (this.isOver) return;
    if (body === undefined) this.#response.end();
    else this.#response.end(body);
  }

  onDrain(callback: () => void): void {
    this.#response.on("drain", callback);
  }

  onAbort(callback: () => void): void {
    this.#response.on("close", () => {
      if (!this.#response.writableFinished) callback();
    });
  }
}
