/** Takes snapshots on a link, one after the other, and grants their sender its window. */
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { SnapshotMark } from "../../raft/types.ts";
import type { PeerFrame } from "../../wire/peer-codec.ts";
import type { FrameLink } from "./frame-link.ts";

export class SnapshotReceiver {
  readonly #link: FrameLink;
  readonly #install: (mark: SnapshotMark, chunks: AsyncIterable<Bytes>) => Promise<void>;
  #chunks: ChunkQueue | undefined;
  /** The last one is installed, refused or broken. Never rejects. */
  #settled: Promise<void> = Promise.resolve();

  /** `install` reads the chunks and resolves once they are installed. */
  constructor(
    link: FrameLink,
    install: (mark: SnapshotMark, chunks: AsyncIterable<Bytes>) => Promise<void>,
  ) {
    this.#link = link;
    this.#install = install;
  }

  /** False: the frame is out of place. */
  receive(frame: PeerFrame): boolean {
    const chunks = this.#chunks;
    if (frame.kind === "snapshot") {
      chunks?.fail(new Error("replaced by a newer snapshot"));
      this.#begin(frame.mark);
      return true;
    }
    if (chunks === undefined) return false;
    if (frame.kind === "chunk") return chunks.push(frame.bytes);
    if (frame.kind === "end") chunks.end();
    else if (frame.kind === "refused") chunks.fail(new Error(`given up: ${frame.reason}`));
    else return false;
    return true;
  }

  closed(reason: string): void {
    this.#chunks?.fail(new Error(`the connection ended: ${reason}`));
  }

  #begin(mark: SnapshotMark): void {
    const link = this.#link;
    const chunks = new ChunkQueue(() => link.send({ kind: "taken", chunks: 1 }));
    this.#chunks = chunks;
    this.#settled = this.#settled.then(async () => {
      try {
        await this.#install(mark, chunks);
        link.send({ kind: "installed" });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        link.send({ kind: "refused", reason: reason.slice(0, 1000) });
      }
      chunks.over();
    });
  }
}

/** Received chunks, for one consumer. */
class ChunkQueue implements AsyncIterable<Bytes> {
  readonly #onTaken: () => void;
  #waiting: Bytes[] = [];
  #ended = false;
  #isOver = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(onTaken: () => void) {
    this.#onTaken = onTaken;
  }

  /** Nobody reads it any more: what is still under way is dropped. */
  over(): void {
    this.#isOver = true;
    this.#waiting = [];
  }

  /** False when the sender went past its window, or past the end. */
  push(bytes: Bytes): boolean {
    if (this.#isOver) return true;
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
