/**
 * `/link` at the edge. POST: one batch is passed on to a peer. WebSocket: frames are passed both
 * ways, one upstream link a client, except keepalives, which go through the lease hub so that many
 * clients' renewals become one message. What a client sends is decoded here first: malformed
 * frames and a wrong secret end its link and reach no peer. So does a client that reads too slowly
 * (`readers.ts`): 1013, and its watches resume on the next link.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { RpcError } from "../shared/api/errors.ts";
import type { SocketLike } from "../shared/client/platform.ts";
import { socketUrl } from "../shared/client/endpoints.ts";
import { WireError } from "../shared/wire/cbor.ts";
import {
  decodeCallBatch,
  encodeCallFrame,
  encodeReplyFrame,
  joinBatches,
  joinFrames,
} from "../shared/wire/link-codec.ts";
import type { LinkCallFrame } from "../shared/wire/link.ts";
import { isLinkWrite } from "../shared/wire/link-writes.ts";
import type { Exchange } from "./exchange.ts";
import { sendToPeer } from "./gateway.ts";
import { LinkGuard } from "./link-guard.ts";
import { LinkSyncs } from "./link-syncs.ts";
import { answerKeepAlive } from "./link-renewals.ts";
import { readBody } from "./params.ts";
import { HttpError } from "./problem.ts";
import type { Reader } from "./readers.ts";
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
  const guard = new LinkGuard(exchange.config, exchange.grant);
  const [first, ...rest] = frames;
  const hello = await greeted(guard, first);
  const { onward, replies } = guard.sort(rest, Date.now());
  const answer = await sendToPeer(exchange.config, {
    path: "/link",
    headers: { "content-type": "application/cbor" },
    body: joinFrames([hello, ...onward].map(encodeCallFrame)),
    // A write with an identity applies once, however often it is sent.
    write: onward.some(
      (frame) =>
        frame.kind === "call" && frame.identity === undefined && isLinkWrite(frame.request),
    ),
  });
  if (replies.length === 0 || answer.status !== 200) return answer;
  const answered = new Uint8Array(await answer.arrayBuffer());
  const refused = joinFrames(replies.map(encodeReplyFrame));
  const { headers } = answer;
  return new Response(Uint8Array.from(joinBatches([answered, refused])), { headers });
}

async function greeted(
  guard: LinkGuard,
  frame: LinkCallFrame | undefined,
): ReturnType<LinkGuard["greet"]> {
  try {
    return await guard.greet(frame);
  } catch (error) {
    if (error instanceof WireError) throw new HttpError(400, error.message);
    throw error;
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
  readonly #guard: LinkGuard;
  /** Batches of the client that wait for the one before, while its token is checked. */
  #arrived: Promise<void> = Promise.resolve();
  #arrivedBytes = 0;
  #peer: SocketLike | undefined;
  #peerOpen = false;
  /** What the client sent while the peer's link was opening. */
  #waiting: Bytes[] = [];
  #waitingBytes = 0;
  readonly #reader: Reader;
  readonly #syncs: LinkSyncs;
  #ended = false;

  constructor(exchange: Exchange, client: SocketLike) {
    this.#exchange = exchange;
    this.#client = client;
    this.#guard = new LinkGuard(exchange.config, exchange.grant);
    this.#reader = exchange.config.readers.enter(() => {
      this.#end(1013, "too slow a reader: begin anew");
    });
    this.#syncs = new LinkSyncs(this.#reader, (batch) => client.send(batch));
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
      if (data instanceof ArrayBuffer) this.#fromPeer(new Uint8Array(data));
    });
    peer.addEventListener("close", ({ code, reason }) => {
      if (this.#peerOpen) this.#end(code ?? 1012, reason ?? "");
      else next();
    });
    peer.addEventListener("error", next);
  }

  #fromPeer(batch: Bytes): void {
    if (this.#ended) return;
    try {
      this.#guard.checkExpiry(Date.now());
      this.#toClient(batch);
    } catch (error) {
      this.#refuse(error);
    }
  }

  #fromClient(data: unknown): void {
    if (this.#ended) return;
    const length = data instanceof ArrayBuffer ? data.byteLength : 0;
    this.#arrivedBytes += length;
    if (this.#arrivedBytes > 2 * LIMITS.frameBytesMax) {
      this.#end(1013, "too much before the link opened");
      return;
    }
    this.#arrived = this.#arrived.then(async () => {
      this.#arrivedBytes -= length;
      if (this.#ended) return;
      try {
        await this.#handle(data);
      } catch (error) {
        this.#refuse(error);
      }
    });
  }

  async #handle(data: unknown): Promise<void> {
    if (!(data instanceof ArrayBuffer)) throw new WireError("frames are binary messages");
    const batch = new Uint8Array(data);
    if (batch.length > LIMITS.frameBytesMax) throw new WireError("the batch is too large");
    let frames = this.#syncs.heard(decodeCallBatch(batch));
    if (!this.#guard.greeted) {
      const [first, ...rest] = frames;
      this.#toPeer(joinFrames([encodeCallFrame(await this.#guard.greet(first))]));
      frames = rest;
    }
    const { onward, replies } = this.#guard.sort(frames, Date.now());
    if (replies.length > 0) this.#toClient(joinFrames(replies.map(encodeReplyFrame)));
    if (onward.length > 0) this.#passOn(onward);
  }

  /** A wrong token is a policy's close, everything else a protocol's. */
  #refuse(error: unknown): void {
    const refused = error instanceof HttpError || error instanceof RpcError;
    this.#end(refused ? 1008 : 1002, error instanceof Error ? error.message : String(error));
  }

  #passOn(frames: readonly LinkCallFrame[]): void {
    const hubbed = this.#exchange.env.LEASE_HUB !== undefined;
    const isRenewal = (frame: LinkCallFrame): boolean =>
      hubbed && frame.kind === "call" && frame.request.method === "leaseKeepAlive";
    const others = frames.filter((frame) => !isRenewal(frame));
    if (others.length > 0) this.#toPeer(joinFrames(others.map(encodeCallFrame)));
    for (const frame of frames) {
      if (!hubbed || frame.kind !== "call" || frame.request.method !== "leaseKeepAlive") continue;
      void answerKeepAlive(this.#exchange, frame.id, frame.request.ids).then((reply) => {
        if (!this.#ended) this.#toClient(joinFrames([encodeReplyFrame(reply)]));
      });
    }
  }

  #toClient(batch: Bytes): void {
    this.#client.send(batch);
    this.#syncs.sent(batch.length);
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
    this.#reader.leave();
    this.#waiting = [];
    // 1005 and 1006 say that no code came; they may not be sent.
    const sendable =
      code === 1000 || (code >= 1001 && code <= 1013 && code !== 1005 && code !== 1006);
    this.#client.close(sendable ? code : 1012, reason.slice(0, 40));
    this.#peer?.close(1000, "");
  }
}
