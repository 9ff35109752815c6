/**
 * Snapshots between members, on connections of their own so that they never delay heartbeats. The receiver grants the
 * sender a window: at most `snapshotWindowChunks` are under way or waiting to be consumed, whatever either side's
 * buffers.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { SnapshotMark } from "../../shared/raft/types.ts";
import type { PeerFrame } from "../../shared/wire/peer-codec.ts";
import { dial } from "./dialler.ts";
import type { DialOptions } from "./dialler.ts";
import { CLOSE } from "./frame-socket.ts";
import type { FrameSocket } from "./frame-socket.ts";

export interface SnapshotSendOptions extends Pick<DialOptions, "identity" | "to" | "tls" | "url"> {
  readonly mark: SnapshotMark;
  readonly chunks: AsyncIterable<Bytes>;
  /** Gets the function that gives the transfer up. */
  readonly onStart: (giveUp: () => void) => void;
}

/** Resolves once the receiver has installed it; rejects on refusal or when the connection ends. */
export function sendSnapshot(options: SnapshotSendOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const window = new SendWindow();
    let link: FrameSocket | undefined;
    const fail = (error: Error): void => {
      window.break(error);
      reject(error);
      giveUp();
    };
    const giveUp = dial({
      ...options,
      purpose: "snapshot",
      onReady: (opened) => {
        link = opened;
        pump(opened, options, window).catch((cause: unknown) => {
          fail(new Error("the snapshot could not be sent", { cause }));
        });
      },
      onFrame: (frame) => {
        if (frame.kind === "taken") return window.grant(frame.chunks);
        if (frame.kind === "refused") return fail(new Error(`refused: ${frame.reason}`));
        if (frame.kind !== "installed") return link?.close(CLOSE.protocol, frame.kind);
        resolve();
        link?.close(CLOSE.done, "");
      },
      onClose: (_code, reason) => fail(new Error(`the connection ended: ${reason}`)),
    });
    options.onStart(giveUp);
  });
}

async function pump(
  link: FrameSocket,
  { mark, chunks }: SnapshotSendOptions,
  window: SendWindow,
): Promise<void> {
  link.send({ kind: "snapshot", mark });
  for await (const bytes of chunks) {
    await window.take();
    link.send({ kind: "chunk", bytes });
  }
  link.send({ kind: "end" });
}

/** How many more chunks may leave. */
class SendWindow {
  #free: number = LIMITS.snapshotWindowChunks;
  #wake: (() => void) | undefined;
  #broken: Error | undefined;

  async take(): Promise<void> {
    while (this.#free === 0 && this.#broken === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#broken !== undefined) throw this.#broken;
    this.#free -= 1;
  }

  grant(chunks: number): void {
    this.#free = Math.min(this.#free + chunks, LIMITS.snapshotWindowChunks);
    this.#wake?.();
  }

  break(error: Error): void {
    this.#broken = error;
    this.#wake?.();
  }
}

/** Takes one snapshot on a link that a listener accepted for it. */
export class SnapshotReceiver {
  readonly #link: FrameSocket;
  readonly #install: (mark: SnapshotMark, chunks: AsyncIterable<Bytes>) => Promise<void>;
  #chunks: ChunkQueue | undefined;

  constructor(
    link: FrameSocket,
    install: (mark: SnapshotMark, chunks: AsyncIterable<Bytes>) => Promise<void>,
  ) {
    this.#link = link;
    this.#install = install;
  }

  receive(frame: PeerFrame): void {
    if (frame.kind === "snapshot" && this.#chunks === undefined) return this.#begin(frame.mark);
    if (frame.kind === "chunk" && this.#chunks?.push(frame.bytes) === true) return;
    if (frame.kind === "end" && this.#chunks !== undefined) return this.#chunks.end();
    this.#link.close(CLOSE.protocol, `a ${frame.kind} frame out of place`);
  }

  closed(reason: string): void {
    this.#chunks?.fail(new Error(`the connection ended: ${reason}`));
  }

  #begin(mark: SnapshotMark): void {
    const link = this.#link;
    this.#chunks = new ChunkQueue(() => link.send({ kind: "taken", chunks: 1 }));
    this.#install(mark, this.#chunks).then(
      () => link.send({ kind: "installed" }),
      (error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        link.send({ kind: "refused", reason: reason.slice(0, 1000) });
      },
    );
  }
}

/** Received chunks, for one consumer. */
class ChunkQueue implements AsyncIterable<Bytes> {
  readonly #onTaken: () => void;
  readonly #waiting: Bytes[] = [];
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(onTaken: () => void) {
    this.#onTaken = onTaken;
  }

  /** False when the sender went past its window, or past the end. */
  push(bytes: Bytes): boolean {
    if (this.#ended || this.#waiting.length >= LIMITS.snapshotWindowChunks) return false;
    this.#waiting.push(bytes);
    this.#wake?.();
    return true;
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  fail(error: Error): void {
    if (!this.#ended) this.#error = error;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Bytes> {
    for (;;) {
      const bytes = this.#waiting.shift();
      if (bytes !== undefined) {
        yield bytes;
        this.#onTaken();
        continue;
      }
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
