/**
 * A WebSocket that carries peer frames: decodes, answers pings, pings, and ends the connection when nothing was
 * received for too long (a half-open connection looks healthy to TCP for minutes). Used by both ends of every link.
 */
import type { RawData, WebSocket } from "ws";
import { LIMITS } from "../../shared/base/limits.ts";
import { CLOSE } from "../../shared/peer/links/frame-link.ts";
import type { FrameLink } from "../../shared/peer/links/frame-link.ts";
import type { NodeId } from "../../shared/raft/types.ts";
import { decodePeerFrame, encodePeerFrame } from "../../shared/wire/peer-codec.ts";
import type { LinkEnds, PeerFrame } from "../../shared/wire/peer-codec.ts";

/** Milliseconds of a clock that never steps back. */
export function monotonicNow(): number {
  return performance.now();
}

export interface FrameSocketEvents {
  onFrame(frame: PeerFrame): void;
  /** Once; `reason` says who closed and why. */
  onClose(code: number, reason: string): void;
}

export class FrameSocket implements FrameLink {
  readonly #socket: WebSocket;
  readonly #events: FrameSocketEvents;
  readonly #timer: NodeJS.Timeout;
  readonly #bytesMax: number;
  #ends: LinkEnds;
  #lastReceived = monotonicNow();
  #pings = 0;
  #closeReason: string | undefined;
  #helloPending: boolean;

  /** `socket` is open. A listener's socket starts with `helloPending`: its first frame is bounded tightly. */
  constructor(
    socket: WebSocket,
    options: {
      ends: LinkEnds;
      helloPending: boolean;
      events: FrameSocketEvents;
      /** Of one frame. */
      bytesMax: number;
    },
  ) {
    this.#socket = socket;
    this.#events = options.events;
    this.#bytesMax = options.bytesMax;
    this.#ends = options.ends;
    this.#helloPending = options.helloPending;
    socket.on("message", (data, isBinary) => this.#receive(data, isBinary));
    socket.on("error", (error) => (this.#closeReason ??= error.message));
    socket.once("close", (code, reason) => {
      clearInterval(this.#timer);
      this.#events.onClose(code, this.#closeReason ?? reason.toString());
    });
    this.#timer = setInterval(() => this.#keepAlive(), LIMITS.peerPingMilliseconds);
    this.#timer.unref();
  }

  /** Who speaks, as its hello says. */
  get from(): NodeId {
    return this.#ends.from;
  }

  /** On the monotonic clock. */
  get lastReceived(): number {
    return this.#lastReceived;
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  /** Who speaks is known from the hello on. */
  identify(ends: LinkEnds): void {
    this.#ends = ends;
    this.#helloPending = false;
  }

  /** Nothing happens when the connection is closing. */
  send(frame: PeerFrame): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(encodePeerFrame(frame));
  }

  close(code: number, reason: string): void {
    this.#closeReason ??= reason;
    this.#socket.close(code, reason.slice(0, 120));
  }

  /** Without the closing handshake: the other side may be gone. */
  terminate(reason: string): void {
    this.#closeReason ??= reason;
    this.#socket.terminate();
  }

  #receive(data: RawData, isBinary: boolean): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#lastReceived = monotonicNow();
    const bytes = data as Buffer;
    if (!isBinary || (this.#helloPending && bytes.length > LIMITS.peerHelloBytesMax)) {
      return this.close(CLOSE.malformed, isBinary ? "the hello is too long" : "a text frame");
    }
    const frame = decodePeerFrame(bytes, this.#ends, this.#bytesMax);
    if (frame.kind === "malformed") return this.close(CLOSE.malformed, frame.reason);
    if (frame.kind === "ping") return this.send({ kind: "pong", number: frame.number });
    if (frame.kind === "pong") return;
    this.#events.onFrame(frame);
  }

  #keepAlive(): void {
    const idle = monotonicNow() - this.#lastReceived;
    if (idle > LIMITS.peerIdleMillisecondsMax) return this.terminate("nothing was received");
    if (this.#helloPending) return;
    this.#pings += 1;
    this.send({ kind: "ping", number: this.#pings });
  }
}
