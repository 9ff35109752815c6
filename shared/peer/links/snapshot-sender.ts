/**
 * Sends a snapshot over a link, one at a time: frames don't name theirs, so the next one begins only
 * once the receiver has answered this one, even if it was given up here. The receiver grants a window:
 * at most `snapshotWindowChunks` are under way or waiting to be consumed, whatever either side's
 * buffers.
 */
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { SnapshotMark } from "../../raft/types.ts";
import type { PeerFrame } from "../../wire/peer-codec.ts";
import type { FrameLink } from "./frame-link.ts";

export class SnapshotSender {
  /** Resolves once the receiver has installed it; rejects on refusal or when the link ends. */
  readonly done: Promise<void>;
  readonly #settled = Promise.withResolvers<void>();
  readonly #window = new SendWindow();
  #isAnswered = false;

  /** Begins at once. */
  constructor(link: FrameLink, mark: SnapshotMark, chunks: AsyncIterable<Bytes>) {
    this.done = this.#settled.promise;
    this.#pump(link, mark, chunks).catch((cause: unknown) => {
      this.fail(new Error("the snapshot could not be sent", { cause }));
      // The link may live on: the receiver must not wait.
      link.send({ kind: "refused", reason: "the sender gave up" });
    });
  }

  /** The receiver has said how it ended: nothing more comes for it. */
  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** What the receiver says to it; false: the frame has no place here. */
  receive(frame: PeerFrame): boolean {
    this.#isAnswered ||= frame.kind === "refused" || frame.kind === "installed";
    if (frame.kind === "taken") this.#window.grant(frame.chunks);
    else if (frame.kind === "refused") this.fail(new Error(`refused: ${frame.reason}`));
    else if (frame.kind === "installed") this.#settled.resolve();
    else return false;
    return true;
  }

  /** Gives it up. */
  fail(error: Error): void {
    this.#window.break(error);
    this.#settled.reject(error);
  }

  async #pump(link: FrameLink, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void> {
    link.send({ kind: "snapshot", mark });
    for await (const bytes of chunks) {
      await this.#window.take();
      link.send({ kind: "chunk", bytes });
    }
    link.send({ kind: "end" });
  }
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
