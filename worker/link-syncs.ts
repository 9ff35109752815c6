/**
 * How much of what a link's client was sent has arrived. A runtime doesn't tell, so the client does:
 * now and then it is sent the failure of a call that it never made, which it answers by cancelling
 * that call. What lies before an unanswered one is held for a reader that may be slow.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { encodeReplyFrame, joinFrames } from "../shared/wire/link-codec.ts";
import type { LinkCallFrame } from "../shared/wire/link.ts";
import type { Reader } from "./readers.ts";

/** A client counts its calls from 1 on: it never gets here. */
const FIRST_SYNC = 2 ** 52;

export class LinkSyncs {
  readonly #reader: Reader;
  readonly #send: (batch: Bytes) => void;
  #next = FIRST_SYNC;
  #sinceSync = 0;
  /** Bytes before each sync that has yet to be answered, in order. */
  readonly #unanswered = new Map<number, number>();

  constructor(reader: Reader, send: (batch: Bytes) => void) {
    this.#reader = reader;
    this.#send = send;
  }

  /** So many bytes went to the client. */
  sent(bytes: number): void {
    this.#sinceSync += bytes;
    if (this.#sinceSync < LIMITS.edgeWatchBytesMax) return;
    const id = this.#next;
    this.#next += 1;
    this.#unanswered.set(id, this.#sinceSync);
    this.#send(joinFrames([encodeReplyFrame(syncOf(id))]));
    this.#reader.hold(this.#sinceSync);
    this.#sinceSync = 0;
  }

  /** The client's frames without its answers to syncs. */
  heard(frames: readonly LinkCallFrame[]): readonly LinkCallFrame[] {
    return frames.filter((frame) => {
      if (frame.kind !== "cancel" || frame.id < FIRST_SYNC) return true;
      const bytes = this.#unanswered.get(frame.id) ?? 0;
      this.#unanswered.delete(frame.id);
      this.#reader.took(bytes);
      return false;
    });
  }
}

function syncOf(id: number): Parameters<typeof encodeReplyFrame>[0] {
  const failure = { status: "unknown", message: "", code: undefined } as const;
  return { kind: "error", id, failure: { ...failure, outcome: "none", retryable: false } };
}
