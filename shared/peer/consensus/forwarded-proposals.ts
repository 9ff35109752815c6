/**
 * The leader's memory of what others forwarded to it in its term, so that they may send again what
 * they hear nothing of: a proposal enters the log once in a term, however many copies arrive and in
 * whatever order. The memory need not outlast the leadership, because no other leader takes what
 * was forwarded in this term.
 *
 * Proposals are told apart by their request id: proposer (a member's incarnation) and sequence. Of
 * each proposer the newest `LIMITS.forwardsRemembered` sequences are remembered, a bit each; what is
 * older is not taken, as it may have been: its proposer has given it up, or waits for its time-out.
 */
import { assert } from "../../base/assert.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { ProposedEntry, RaftNode } from "../../raft/types.ts";
import { ownSequence, proposerOf } from "../../wire/command-codec.ts";

interface Proposer {
  readonly id: Bytes;
  readonly taken: SequenceWindow;
}

export class ForwardedProposals {
  #term = 0;
  /** By proposer, those that were last heard of at the end. */
  readonly #proposers = new Map<string, Proposer>();

  /** Takes what a message of `term` carries, but for what was taken before. */
  take(
    raft: Pick<RaftNode, "term" | "takeForwarded">,
    message: { readonly term: number; readonly entries: readonly ProposedEntry[] },
  ): void {
    const { term, entries } = message;
    const [first] = entries;
    const id = first === undefined ? undefined : proposerOf(first.data);
    if (id === undefined || term !== raft.term) {
      raft.takeForwarded(term, entries);
      return;
    }
    const { taken, id: own } = this.#proposer(term, id);
    const fresh = entries.filter((entry) => {
      const sequence = sequenceOf(entry, own);
      return sequence === undefined || !taken.has(sequence);
    });
    if (fresh.length === 0 || raft.takeForwarded(term, fresh) !== undefined) return;
    for (const entry of fresh) {
      const sequence = sequenceOf(entry, own);
      if (sequence !== undefined) taken.add(sequence);
    }
  }

  #proposer(term: number, id: Bytes): Proposer {
    if (term !== this.#term) this.#proposers.clear();
    this.#term = term;
    const key = String.fromCharCode(...id);
    const proposer = this.#proposers.get(key) ?? { id: id.slice(), taken: new SequenceWindow() };
    this.#proposers.delete(key);
    this.#proposers.set(key, proposer);
    // Each restart of a member makes one; messages of the longest gone are not under way any more.
    for (const oldest of this.#proposers.keys()) {
      if (this.#proposers.size <= LIMITS.forwardersRemembered) break;
      this.#proposers.delete(oldest);
    }
    return proposer;
  }
}

/** Changes of the members are made sure of by apply, and may come again on purpose. */
function sequenceOf({ kind, data }: ProposedEntry, proposer: Bytes): number | undefined {
  return kind === "normal" ? ownSequence(data, proposer) : undefined;
}

/** Which of the newest sequences have occurred: those of (newest - size, newest], a bit each. */
export class SequenceWindow {
  readonly #size: number;
  readonly #bits: Uint8Array;
  #newest = 0;

  constructor(size: number = LIMITS.forwardsRemembered) {
    assert(size > 0 && size % 8 === 0, "whole bytes of bits");
    this.#size = size;
    this.#bits = new Uint8Array(size / 8);
  }

  /** True as well for those that are too old to tell. */
  has(sequence: number): boolean {
    if (sequence > this.#newest) return false;
    if (sequence <= this.#newest - this.#size) return true;
    const place = sequence % this.#size;
    return ((this.#bits[place >> 3] as number) & (1 << (place & 7))) !== 0;
  }

  /** Those that are too old count as occurred anyway. */
  add(sequence: number): void {
    if (this.has(sequence)) return;
    if (sequence - this.#newest >= this.#size) this.#bits.fill(0);
    else for (let next = this.#newest + 1; next < sequence; next += 1) this.#clear(next);
    this.#newest = Math.max(this.#newest, sequence);
    const place = sequence % this.#size;
    this.#bits[place >> 3] = (this.#bits[place >> 3] as number) | (1 << (place & 7));
  }

  #clear(sequence: number): void {
    const place = sequence % this.#size;
    this.#bits[place >> 3] = (this.#bits[place >> 3] as number) & ~(1 << (place & 7));
  }
}
