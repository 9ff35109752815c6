/**
 * The leader's linearizable reads (thesis section 6.4): reads wait, a confirmation round takes all
 * that wait along, and is confirmed once a quorum has answered a heartbeat of this round or a
 * later one. A read never joins a round that has begun: an answer to that round may have been sent
 * before the read arrived, and proves nothing about the time since.
 */
import { assert } from "../base/assert.ts";
import type { NodeId } from "./types.ts";

export interface PendingRead {
  /** Who asked: this node or a follower. */
  readonly from: NodeId;
  readonly context: number;
}

interface Round {
  readonly round: number;
  /** The commit index when the round began. */
  readonly index: number;
  readonly reads: readonly PendingRead[];
}

export class ReadRounds {
  readonly #pendingMax: number;
  #waiting: PendingRead[] = [];
  #rounds: Round[] = [];
  #newest = 0;
  #pending = 0;

  /** More than `pendingMax` unanswered reads are dropped as they come. */
  constructor(pendingMax: number) {
    this.#pendingMax = pendingMax;
  }

  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Rounds that are not confirmed yet. */
  get inFlight(): number {
    return this.#rounds.length;
  }

  /** 0 before the first round of the term. */
  get newest(): number {
    return this.#newest;
  }

  add(read: PendingRead): void {
    if (this.#pending >= this.#pendingMax) return;
    this.#pending += 1;
    this.#waiting.push(read);
  }

  /** Adds a read of the core's own, whatever the bound. */
  addFirst(read: PendingRead): void {
    this.#pending += 1;
    this.#waiting.unshift(read);
  }

  /** Begins a round for all reads that wait; the heartbeats that name it go out after this. */
  begin(commit: number): number {
    assert(this.#waiting.length > 0, "a round for no read");
    this.#newest += 1;
    this.#rounds.push({ round: this.#newest, index: commit, reads: this.#waiting });
    this.#waiting = [];
    return this.#newest;
  }

  /** The rounds up to this one are confirmed: calls `answer` for each of their reads. */
  confirm(round: number, answer: (read: PendingRead, index: number) => void): void {
    assert(round <= this.#newest, `round ${round} confirmed, ${this.#newest} begun`);
    let done = 0;
    for (const each of this.#rounds) {
      if (each.round > round) break;
      done += 1;
      this.#pending -= each.reads.length;
      for (const read of each.reads) answer(read, each.index);
    }
    if (done > 0) this.#rounds.splice(0, done);
  }

  /** Drops everything: this node no longer leads, or leads anew. */
  reset(): void {
    this.#waiting = [];
    this.#rounds = [];
    this.#newest = 0;
    this.#pending = 0;
  }
}
