/**
 * `/link` at the edge. POST: one batch is passed on to a peer. WebSocket: frames are passed both
 * ways, one upstream link a client, except keepalives, which go through the lease hub so that many
 * clients' renewals become one message. What a client sends is decoded here first: malformed
 * frames and a wrong secret end its link and reach no peer.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { rpcError } from "../shared/api/errors.ts";
import type { SocketLike } from "../shared/client/platform.ts";
import { socketUrl } from "../shared/client/endpoints.ts";
import { WireError } from "../shared/wire/cbor.ts";
import {
  decodeCallBatch,
  encodeCallFrame,
  encodeReplyFrame,
  joinFrames,
} from "../shared/wire/link-codec.ts";
import type { LinkCallFrame } from "../shared/wire/link.ts";
import { isLinkWrite } from "../shared/wire/link-writes.ts";
import { sameSecret } from "./access.ts";
import type { Exchange } from "./exchange.ts";
import { sendToPeer } from "./gateway.ts";
import { answerKeepAlive } from "./link-renewals.ts";
import { readBody } from "./params.ts";
import { HttpError } from "./problem.ts";
import { workerd } from "./workerd.ts";

export async function proxyLink(exchange: Exchange): Promise<Response> {
  const { request } = exchange;
  if (request.headers.get("upgrade")?.toLowerCase() === "websocket") return upgrade(exchange);
  if (request.method !== "POST") {
    throw new HttpError(426, "open a WebSocket, or POST a batch of frames", {
      upgrade: "websocket",
      allow: "POST",
    });
  }
  if (request.headers.get("content-type") !== "application/cbor") {
    throw new HttpError(415, "a batch of frames has the content type application/cbor");
  }
  const body = await readBody(request, LIMITS.frameBytesMax);
  let frames: LinkCallFrame[];
  try {
    frames = decodeCallBatch(body);
  } catch (error) {
    if (error instanceof WireError) throw new HttpError(400, error.message);
    throw error;
  }
  checkHello(exchange, frames[0]);
  return sendToPeer(exchange.config, {
    path: "/link",
    headers: { "content-type": "application/cbor" },
    body,
    // A write with an identity applies once, however often it is sent.
    write: frames.some(
      (frame) =>
        frame.kind === "call" && frame.identity === undefined && isLinkWrite(frame.request),
    ),
  });
}

/** The secret that a browser can't show in a header stands in its hello. */
function checkHello({ config }: Exchange, frame: LinkCallFrame | undefined): void {
  if (frame?.kind !== "hello") throw new WireError("a link begins with hello");
  if (config.secret !== undefined && !sameSecret(frame.token, config.secret)) {
    throw rpcError("invalidAuthToken");
  }
}

function upgrade(exchange: Exchange): Response {
  if (workerd.WebSocketPair === undefined) {
    throw new HttpError(
      501,
      "this runtime has no WebSockets for the edge: open the link at a peer",
    );
  }
  const { 0: client, 1: server } = new workerd.WebSocketPair();
  server.binaryType = "arraybuffer";
  server.accept();
  new LinkRelay(exchange, server).start();
  return new Response(null, { status: 101, webSocket: client } as ResponseInit);
}

/** One client's link: its frames to a peer and back. */
class LinkRelay {
  readonly #exchange: Exchange;
  readonly #client: SocketLike;
  #peer: SocketLike | undefined;
  #peerOpen = false;
  /** What the client sent while the peer's link was opening. */
  #waiting: Bytes[] = [];
  #waitingBytes = 0;
  #greeted = false;
  #ended = false;

  constructor(exchange: Exchange, client: SocketLike) {
    this.#exchange = exchange;
    this.#client = client;
  }

  start(): void {
    this.#client.addEventListener("message", ({ data }) => this.#fromClient(data));
    this.#client.addEventListener("close", () => this.#end(1000, ""));
    this.#client.addEventListener("error", () => this.#end(1011, ""));
    void this.#dial(0);
  }

  /** No frame was sent anywhere yet, so every peer may be tried. */
  async #dial(attempt: number): Promise<void> {
    const { endpoints, platform } = this.#exchange.config;
    if (this.#ended) return;
    if (attempt >= endpoints.count) {
      this.#end(1013, "no peer can be reached: try again");
      return;
    }
    const endpoint = endpoints.current;
    let peer: SocketLike;
    try {
      peer = await platform.openSocket(socketUrl(endpoint));
    } catch {
      endpoints.leave(endpoint);
      return this.#dial(attempt + 1);
    }
    peer.binaryType = "arraybuffer";
    this.#peer = peer;
    let given = false;
    const next = (): void => {
      clearTimeout(timer);
      if (this.#peerOpen) {
        this.#end(1012, "the link to the peer broke");
      } else if (!given) {
        given = true;
        endpoints.leave(endpoint);
        void this.#dial(attempt + 1);
      }
    };
    const timer = setTimeout(() => {
      if (this.#peerOpen) return;
      next();
      peer.close();
    }, LIMITS.clientConnectMilliseconds);
    const opened = (): void => {
      clearTimeout(timer);
      if (given || this.#ended) {
        peer.close();
        return;
      }
      this.#peerOpen = true;
      for (const batch of this.#waiting) peer.send(batch);
      this.#waiting = [];
    };
    if (peer.readyState === 1) opened();
    else peer.addEventListener("open", opened);
    peer.addEventListener("message", ({ data }) => {
      if (!this.#ended && data instanceof ArrayBuffer) this.#client.send(new Uint8Array(data));
    });
    peer.addEventListener("close", ({ code, reason }) => {
      if (this.#peerOpen) this.#end(code ?? 1012, reason ?? "");
      else next();
    });
    peer.addEventListener("error", next);
  }

  #fromClient(data: unknown): void {
    if (this.#ended) return;
    try {
      if (!(data instanceof ArrayBuffer)) throw new WireError("frames are binary messages");
      const batch = new Uint8Array(data);
      if (batch.length > LIMITS.frameBytesMax) throw new WireError("the batch is too large");
      const frames = decodeCallBatch(batch);
      if (!this.#greeted) {
        checkHello(this.#exchange, frames[0]);
        this.#greeted = true;
      }
      this.#passOn(batch, frames);
    } catch (error) {
      this.#end(1002, error instanceof Error ? error.message : String(error));
    }
  }

  #passOn(batch: Bytes, frames: readonly LinkCallFrame[]): void {
    const isRenewal = (frame: LinkCallFrame): boolean =>
      this.#exchange.env.LEASE_HUB !== undefined &&
      frame.kind === "call" &&
      frame.request.method === "leaseKeepAlive";
    if (!frames.some(isRenewal)) {
      this.#toPeer(batch);
      return;
    }
    const others = frames.filter((frame) => !isRenewal(frame));
    if (others.length > 0) this.#toPeer(joinFrames(others.map(encodeCallFrame)));
    for (const frame of frames) {
      if (frame.kind !== "call" || frame.request.method !== "leaseKeepAlive") continue;
      const { env, config } = this.#exchange;
      void answerKeepAlive(env, config, frame.id, frame.request.ids).then((reply) => {
        if (!this.#ended) this.#client.send(joinFrames([encodeReplyFrame(reply)]));
      });
    }
  }

  #toPeer(batch: Bytes): void {
    if (this.#peerOpen) {
      this.#peer?.send(batch);
      return;
    }
    this.#waiting.push(batch);
    this.#waitingBytes += batch.length;
    if (this.#waitingBytes > LIMITS.frameBytesMax)
      this.#end(1013, "too much before the link opened");
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#waiting = [];
    // 1005 and 1006 say that no code came; they may not be sent.
    const sendable =
      code === 1000 || (code >= 1001 && code <= 1013 && code !== 1005 && code !== 1006);
    this.#client.close(sendable ? code : 1012, reason.slice(0, 40));
    this.#peer?.close(1000, "");
  }
}
