/**
 * What waits for the log: messages that may leave, and batches that raft may count, only once
 * their writes are durable. Batches that wrote nothing wait for the last one that did.
 */
import { assert } from "../../base/assert.ts";
import type { Message, Ready } from "../../raft/types.ts";

interface WaitingBatch {
  readonly sequence: number;
  /** The last batch with writes, up to this one. */
  readonly writtenSequence: number;
  readonly messages: readonly Message[];
}

export class DurableQueue {
  #waiting: WaitingBatch[] = [];
  #written = 0;
  #durable = 0;

  /** Takes a batch in order; `wrote`: it was handed to the log under its sequence. */
  push(ready: Ready, wrote: boolean): void {
    const last = this.#waiting[this.#waiting.length - 1];
    assert(last === undefined || ready.sequence > last.sequence, "batches come in order");
    if (wrote) this.#written = ready.sequence;
    this.#waiting.push({
      sequence: ready.sequence,
      writtenSequence: this.#written,
      messages: ready.messagesAfterDurable,
    });
  }

  /** The log is durable up to this batch. */
  durable(sequence: number): void {
    if (sequence > this.#durable) this.#durable = sequence;
  }

  /**
   * The batches that may count by now, as one: the last one's sequence and all their messages;
   * undefined if none.
   */
  take(): { readonly sequence: number; readonly messages: readonly Message[] } | undefined {
    let count = 0;
    for (const batch of this.#waiting) {
      if (batch.writtenSequence > this.#durable) break;
      count += 1;
    }
    if (count === 0) return undefined;
    const taken = this.#waiting.slice(0, count);
    this.#waiting = count === this.#waiting.length ? [] : this.#waiting.slice(count);
    const sequence = (taken[count - 1] as WaitingBatch).sequence;
    const messages =
      count === 1 ? (taken[0] as WaitingBatch).messages : taken.flatMap((b) => b.messages);
    return { sequence, messages };
  }
}
