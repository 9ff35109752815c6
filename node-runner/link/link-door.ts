/**
 * The link on a `node:http` server: WebSocket upgrades and POSTs of `/link`. Without a configured
 * secret it serves loopback only, by the connection's address and by the name in `Host` (a page
 * that rebinds its DNS name to 127.0.0.1 still shows that name). Every request's `Origin` must be
 * absent, the same host, or listed: CORS does not cover WebSocket. Bodies and messages are bounded
 * before they are buffered.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { EMPTY, concatBytes } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { exchangeLink } from "../../shared/peer/link-exchange.ts";
import { LINK_CLOSE, serveLink } from "../../shared/peer/link-service.ts";
import type { LinkOptions } from "../../shared/peer/link-service.ts";
import type { Services } from "../../shared/peer/services.ts";
import { WireError } from "../../shared/wire/cbor.ts";
import { joinBatches } from "../../shared/wire/link-codec.ts";
import { isOriginAllowed, refuseUpgrade } from "../http/upgrade.ts";
import { sameSecret } from "../same-secret.ts";

export interface LinkDoorOptions {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** What callers show in their hello; undefined: none is needed, and only loopback is served. */
  readonly secret: string | undefined;
  /** Whether TLS has let in those alone whose certificate a trusted authority signed: as good as a secret. */
  readonly knowsCallers: boolean;
  /** Origins of browsers' pages that may call, besides the peer's own: `https://app.example`. */
  readonly origins: readonly string[];
}

export interface LinkDoor {
  /** Whether this request is the link's to answer. */
  owns(request: IncomingMessage): boolean;
  request(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Cuts all links. */
  close(): void;
}

/** Whether a request's target is the link's. */
export function isLinkTarget(target: string): boolean {
  return target === "/link" || target.startsWith("/link?");
}

/** Serves `/link` on this server. Its other listeners must leave that path alone. */
export function attachLink(server: Server, services: Services, options: LinkDoorOptions): LinkDoor {
  const door = new Door(services, options);
  server.on("upgrade", (request, socket, head) => {
    if (door.owns(request)) door.upgrade(request, socket, head);
  });
  server.on("request", (request, response) => {
    if (door.owns(request)) door.request(request, response);
  });
  return door;
}

/** How long a link may stay without hello, and how often a silent one is asked whether it still lives. */
const HELLO_MILLISECONDS = 10_000;
const PING_MILLISECONDS = 20_000;

class Door implements LinkDoor {
  readonly #services: Services;
  readonly #options: LinkDoorOptions;
  readonly #link: Omit<LinkOptions, "push">;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: LIMITS.frameBytesMax,
  });
  /** Links, and whether each has answered the last ping. */
  readonly #alive = new Map<WebSocket, boolean>();
  readonly #pings: NodeJS.Timeout;

  constructor(services: Services, options: LinkDoorOptions) {
    this.#services = services;
    this.#options = options;
    const { clusterId, memberId, secret } = options;
    this.#link = {
      clusterId,
      memberId,
      accepts: (token) => secret === undefined || sameSecret(token, secret),
    };
    this.#pings = setInterval(() => this.#ping(), PING_MILLISECONDS);
    this.#pings.unref();
  }

  owns(request: IncomingMessage): boolean {
    return isLinkTarget(request.url ?? "");
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const refusal = this.#refusal(request);
    if (refusal !== undefined) {
      return refuseUpgrade(socket, 403, refusal);
    }
    this.#sockets.handleUpgrade(request, socket, head, (link) => this.#serve(link));
  }

  request(request: IncomingMessage, response: ServerResponse): void {
    const refusal = this.#refusal(request);
    if (refusal !== undefined) {
      refuse(response, 403, refusal);
    } else if (request.method !== "POST") {
      response.setHeader("allow", "POST");
      refuse(response, 405, "POST a batch of frames, or open a WebSocket");
    } else if (request.headers["content-type"] !== "application/cbor") {
      // Besides being right, this keeps pages of other origins out: they can't send the type
      // without being asked first.
      refuse(response, 415, "a batch of frames has the content type application/cbor");
    } else {
      readBody(request, (body) => {
        if (body === undefined) {
          refuse(response, 413, `a batch holds at most ${LIMITS.frameBytesMax} bytes`);
        } else {
          this.#exchange(body, response);
        }
      });
    }
  }

  close(): void {
    clearInterval(this.#pings);
    for (const link of this.#alive.keys()) link.terminate();
    this.#alive.clear();
    this.#sockets.close();
  }

  #exchange(body: Bytes, response: ServerResponse): void {
    const defer = (callback: () => void): void => void setImmediate(callback);
    const exchange = exchangeLink(this.#services, body, { ...this.#link, defer });
    response.on("close", () => exchange.cancel());
    exchange.answer
      .then((batches) => {
        const answer = joinBatches(batches);
        response.writeHead(200, {
          "content-type": "application/cbor",
          "content-length": answer.length,
          "cache-control": "no-store",
        });
        response.end(answer);
      })
      .catch((error: unknown) => {
        const text = error instanceof Error ? error.message : String(error);
        refuse(response, error instanceof WireError ? 400 : 500, text);
      });
  }

  #serve(link: WebSocket): void {
    this.#alive.set(link, true);
    let full = false;
    const session = serveLink(
      this.#services,
      {
        send: (batch) => {
          link.send(batch, () => {
            if (!full || link.bufferedAmount > LIMITS.linkUnsentBytesSlow / 2) return;
            full = false;
            link.resume();
            session.drained();
          });
          if (link.bufferedAmount > LIMITS.linkUnsentBytesMax) link.terminate();
          if (!full && link.bufferedAmount > LIMITS.linkUnsentBytesSlow) {
            full = true;
            link.pause();
          }
          return !full;
        },
        close: (code, reason) => link.close(code, reason),
        defer: (callback) => void setImmediate(callback),
      },
      { ...this.#link, push: true },
    );
    const hello = setTimeout(() => {
      if (!session.greeted) link.close(LINK_CLOSE.refused, "no hello came");
    }, HELLO_MILLISECONDS);
    link.binaryType = "nodebuffer";
    link.on("message", (data, isBinary) => {
      if (isBinary) session.receive(plainBytes(data as Buffer));
      else link.close(LINK_CLOSE.protocolError, "frames are binary messages");
    });
    link.on("pong", () => this.#alive.set(link, true));
    // The close that follows an error does the work.
    link.on("error", () => undefined);
    link.on("close", () => {
      clearTimeout(hello);
      this.#alive.delete(link);
      session.closed();
    });
  }

  #ping(): void {
    for (const [link, alive] of this.#alive) {
      if (!alive) {
        link.terminate();
        continue;
      }
      this.#alive.set(link, false);
      link.ping();
    }
  }

  /** Why this caller is not served; undefined: it is. */
  #refusal(request: IncomingMessage): string | undefined {
    const host = request.headers.host ?? "";
    if (this.#options.secret === undefined && !this.#options.knowsCallers) {
      if (!isLoopbackAddress(request.socket.remoteAddress) || !isLoopbackName(host)) {
        return "without a configured secret or clients' certificates the link serves loopback only: set one, or call 127.0.0.1";
      }
    }
    if (isOriginAllowed(request, this.#options.origins)) return undefined;
    return `origin ${request.headers.origin} is not allowed: list it in the peer's configuration`;
  }
}

function isLoopbackAddress(address: string | undefined): boolean {
  return address === "::1" || address?.replace(/^::ffff:/, "").startsWith("127.") === true;
}

function isLoopbackName(host: string): boolean {
  const name = host.replace(/:\d+$/, "");
  return name === "localhost" || name === "[::1]" || /^127(\.\d+){3}$/.test(name);
}

function plainBytes(buffer: Buffer): Bytes {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** Calls back with the body, or with undefined as soon as it is larger than a frame may be. */
function readBody(request: IncomingMessage, callback: (body: Bytes | undefined) => void): void {
  const parts: Buffer[] = [];
  let length = 0;
  let over = false;
  request.on("data", (part: Buffer) => {
    if (over) return;
    length += part.length;
    parts.push(part);
    if (length <= LIMITS.frameBytesMax) return;
    over = true;
    parts.length = 0;
    callback(undefined);
  });
  request.on("end", () => {
    if (!over) callback(parts.length === 0 ? EMPTY : concatBytes(...parts));
  });
}

function refuse(response: ServerResponse, status: number, text: string): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, {
    "content-type": "application/problem+json",
    "cache-control": "no-store",
    ...(status === 413 ? { connection: "close" } : {}),
  });
  response.end(JSON.stringify({ status, title: text }));
}
