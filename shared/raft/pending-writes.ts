/**
 * The batches of writes that the host has taken and not yet reported as durable, in order.
 *
 * A report names a batch, and what the batch wrote may have been overwritten since: a follower
 * takes entry 5 of term 1 (batch 1), a new leader replaces it (batch 2), the next leader puts the
 * very same entry 5 of term 1 back (batch 3). When batch 1 is durable, entry 5 looks durable by
 * index and term but isn't: batch 2 will still overwrite it. So an overwrite shortens the claim
 * of every batch before it, and entry 5 is durable only with batch 3.
 */
import { assert } from "../base/assert.ts";
import type { NodeId } from "./types.ts";

/** What becomes durable with a batch; zeros and `undefined` for what it doesn't write. */
export interface DurableClaim {
  /** Entries up to this index are durable, from the first one that was not. */
  readonly lastIndex: number;
  readonly snapshotIndex: number;
  /** The hard state's term and vote; term 0: it wasn't written. */
  readonly term: number;
  readonly vote: NodeId | undefined;
}

interface PendingWrite {
  readonly sequence: number;
  lastIndex: number;
  readonly snapshotIndex: number;
  readonly term: number;
  readonly vote: NodeId | undefined;
}

export class PendingWrites {
  #writes: PendingWrite[] = [];

  add(sequence: number, claim: DurableClaim): void {
    const last = this.#writes.at(-1);
    assert(last === undefined || last.sequence < sequence, "batches count up");
    const { lastIndex, snapshotIndex, term, vote } = claim;
    this.#writes.push({ sequence, lastIndex, snapshotIndex, term, vote });
  }

  /** The log was overwritten from `index` on, or reset behind a snapshot. */
  overwritten(index: number): void {
    for (const write of this.#writes) {
      if (write.lastIndex >= index) write.lastIndex = index - 1;
    }
  }

  /** The claims of all batches up to `sequence` as one; `undefined` when none was pending. */
  settle(sequence: number): DurableClaim | undefined {
    let settled: PendingWrite | undefined;
    let count = 0;
    for (const write of this.#writes) {
      if (write.sequence > sequence) break;
      count += 1;
      settled = settled === undefined ? write : merge(settled, write);
    }
    if (count > 0) this.#writes = this.#writes.slice(count);
    return settled;
  }
}

function merge(earlier: PendingWrite, later: PendingWrite): PendingWrite {
  const hardState = later.term > 0 ? later : earlier;
  return {
    sequence: later.sequence,
    lastIndex: Math.max(earlier.lastIndex, later.lastIndex),
    snapshotIndex: Math.max(earlier.snapshotIndex, later.snapshotIndex),
    term: hardState.term,
    vote: hardState.vote,
  };
}
