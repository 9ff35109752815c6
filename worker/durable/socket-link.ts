/**
 * A WebSocket of another member at a Durable Object, as a link of frames. What leaves passes the
 * fence first; only an answer to a ping doesn't, since it vouches for nothing.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import type { SocketLike } from "../../shared/client/platform.ts";
import { CLOSE, type FrameLink } from "../../shared/peer/links/frame-link.ts";
import type { NodeId } from "../../shared/raft/types.ts";
import {
  decodePeerFrame,
  encodePeerFrame,
  type LinkEnds,
  type PeerFrame,
} from "../../shared/wire/peer-codec.ts";

export interface SocketLinkOptions {
  /** Called in the turn in which something leaves, before it does. */
  beforeSend(): void;
  /** Milliseconds of a clock that never steps back. */
  now(): number;
}

export class SocketLink implements FrameLink {
  onFrame: (frame: PeerFrame) => void = () => {};
  /** Once. */
  onClose: (reason: string) => void = () => {};
  readonly #socket: SocketLike;
  readonly #options: SocketLinkOptions;
  /** Undefined before the hello. */
  #ends: LinkEnds | undefined;
  #lastReceived: number;
  #open = true;

  /** `socket` is open. */
  constructor(socket: SocketLike, options: SocketLinkOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#lastReceived = options.now();
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => this.#receive(data));
    socket.addEventListener("close", ({ reason }) => this.#closed(reason ?? ""));
    socket.addEventListener("error", ({ message }) => this.#closed(message ?? "an error"));
  }

  /** Who speaks; "0" before the hello. */
  get from(): NodeId {
    return this.#ends?.from ?? "0";
  }

  get lastReceived(): number {
    return this.#lastReceived;
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount ?? 0;
  }

  identify(ends: LinkEnds): void {
    this.#ends = ends;
  }

  send(frame: PeerFrame): void {
    if (!this.#open) return;
    if (frame.kind !== "pong") this.#options.beforeSend();
    try {
      this.#socket.send(encodePeerFrame(frame));
    } catch (error) {
      // It has closed, and its event is still to come.
      this.#closed(String(error));
    }
  }

  close(code: number, reason: string): void {
    if (!this.#open) return;
    try {
      this.#socket.close(code, reason.slice(0, 120));
    } finally {
      this.#closed(reason);
    }
  }

  #receive(data: unknown): void {
    if (!this.#open) return;
    this.#lastReceived = this.#options.now();
    if (!(data instanceof ArrayBuffer)) return this.close(CLOSE.malformed, "a text frame");
    const bytes = new Uint8Array(data);
    if (this.#ends === undefined && bytes.length > LIMITS.peerHelloBytesMax) {
      return this.close(CLOSE.malformed, "the hello is too long");
    }
    const frame = decodePeerFrame(bytes, this.#ends ?? { from: "1", to: "1" });
    if (frame.kind === "malformed") return this.close(CLOSE.malformed, frame.reason);
    if (frame.kind === "ping") return this.send({ kind: "pong", number: frame.number });
    if (frame.kind !== "pong") this.onFrame(frame);
  }

  #closed(reason: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.onClose(reason);
  }
}
