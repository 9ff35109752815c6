/**
 * The JSON gateway over WebSocket, by etcd's rules (grpc-websocket-proxy): each incoming frame and
 * a newline are appended to the request's body, each line of the response becomes one text frame,
 * and the connection closes with the response. Whatever the upgrade's method, the request is a
 * POST. A call with one answer begins with the first complete JSON value; the end of a stream of
 * requests is the end of the connection.
 */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type {
  BodyReceiver,
  HttpHandler,
  HttpRequest,
  HttpResponse,
} from "../http2/http-handler.ts";
import { isGatewayTarget, jsonBytesMaxOf } from "./gateway.ts";
import { JsonSplitter } from "./json-splitter.ts";
import { isOriginAllowed, refuseUpgrade } from "./upgrade.ts";

export interface GatewaySocketsOptions {
  readonly gateway: HttpHandler;
  /** Whether a target's method takes one request. */
  readonly isUnary: (target: string) => boolean;
  /** As the gateway has it. */
  readonly requestBytesMax: number;
  /** Origins of browsers' pages that may connect, besides the peer's own. */
  readonly origins: readonly string[];
}

export class GatewaySockets {
  readonly #options: GatewaySocketsOptions;
  readonly #jsonBytesMax: number;
  readonly #server: WebSocketServer;

  constructor(options: GatewaySocketsOptions) {
    this.#options = options;
    this.#jsonBytesMax = jsonBytesMaxOf(options.requestBytesMax);
    this.#server = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: this.#jsonBytesMax,
    });
  }

  owns(request: IncomingMessage): boolean {
    return isGatewayTarget(request.url ?? "");
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (!isOriginAllowed(request, this.#options.origins)) return refuseUpgrade(socket, 403);
    this.#server.handleUpgrade(request, socket, head, (accepted) => {
      const isUnary = this.#options.isUnary(request.url ?? "");
      const exchange = new SocketExchange(accepted, {
        request,
        firstValue: isUnary ? new JsonSplitter(this.#jsonBytesMax) : undefined,
      });
      this.#options.gateway(exchange, exchange);
    });
  }

  close(): void {
    for (const client of this.#server.clients) client.terminate();
    this.#server.close();
  }
}

/** One request and its response on one WebSocket. */
class SocketExchange implements HttpRequest, HttpResponse {
  readonly method = "POST";
  readonly httpVersion = "1.1";
  readonly target: string;
  readonly socket: Socket;
  readonly #webSocket: WebSocket;
  readonly #request: IncomingMessage;
  /** Finds the end of the one request of a unary call. */
  readonly #firstValue: JsonSplitter | undefined;
  #hasHead = false;
  #isOver = false;
  #isFull = false;
  #onDrain: () => void = () => undefined;

  constructor(
    webSocket: WebSocket,
    options: { request: IncomingMessage; firstValue: JsonSplitter | undefined },
  ) {
    this.#webSocket = webSocket;
    this.#request = options.request;
    this.#firstValue = options.firstValue;
    this.target = options.request.url ?? "";
    this.socket = options.request.socket;
    // The close that follows an error does the work.
    webSocket.on("error", () => undefined);
  }

  header(name: string): string | undefined {
    const value = this.#request.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  }

  receive(receiver: BodyReceiver): void {
    const first = this.#firstValue;
    let isComplete = false;
    this.#webSocket.binaryType = "nodebuffer";
    this.#webSocket.on("message", (data) => {
      if (isComplete) return;
      const chunk = Buffer.concat([data as Buffer, Buffer.from("\n")]);
      receiver.data(chunk);
      if (first === undefined || !endsValue(first, chunk)) return;
      isComplete = true;
      receiver.end();
    });
    this.#webSocket.on("close", () => {
      if (!isComplete) receiver.aborted();
    });
  }

  pause(): void {
    this.#webSocket.pause();
  }

  resume(): void {
    this.#webSocket.resume();
  }

  hold(): boolean {
    // One request, which its reader bounds.
    return true;
  }

  get isOver(): boolean {
    return this.#isOver || this.#webSocket.readyState !== this.#webSocket.OPEN;
  }

  get hasHead(): boolean {
    return this.#hasHead;
  }

  /** WebSocket has no place for the status: errors show in the body. */
  writeHead(): void {
    this.#hasHead = true;
  }

  write(body: Bytes | string): boolean {
    if (this.isOver) return false;
    const text = typeof body === "string" ? body : Buffer.from(body).toString("utf8");
    for (const line of text.split("\n")) {
      if (line !== "") this.#webSocket.send(line, () => this.#sent());
    }
    if (this.#webSocket.bufferedAmount > LIMITS.linkUnsentBytesSlow) this.#isFull = true;
    return !this.#isFull;
  }

  end(body?: Bytes | string): void {
    if (this.isOver) return;
    if (body !== undefined) this.write(body);
    this.#isOver = true;
    this.#webSocket.close(1000);
  }

  onDrain(callback: () => void): void {
    this.#onDrain = callback;
  }

  onAbort(callback: () => void): void {
    this.#webSocket.once("close", () => {
      if (!this.#isOver) callback();
    });
  }

  #sent(): void {
    if (!this.#isFull || this.#webSocket.bufferedAmount > LIMITS.linkUnsentBytesSlow / 2) return;
    this.#isFull = false;
    this.#onDrain();
  }
}

/** Whether the first JSON value is complete, or can't become one: the gateway then says why. */
function endsValue(splitter: JsonSplitter, chunk: Buffer): boolean {
  try {
    return splitter.push(chunk).length > 0;
  } catch {
    return true;
  }
}
