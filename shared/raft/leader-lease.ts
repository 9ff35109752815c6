/**
 * Reads under a leader's lease (thesis section 6.4.1): an option beside ReadIndex that saves the
 * round. It rests on the members' clocks: two of them may differ in rate by `driftMax` at most, and
 * none may stand still while its machine goes on.
 *
 * A voter that answers a leader's heartbeat promises to grant nobody a vote, itself included, for
 * an election timeout. It keeps that whatever terms it hears of, and, since a crash makes it forget
 * whom it heard, also for an election timeout from its start. A leader's lease lasts as long as the
 * promises of a quorum do: counted from when it sent the heartbeats (not from when the answers
 * came, which may have been long under way), on its own steady clock, and shortened by the drift.
 * Until then nobody else can be elected, so whatever is committed anywhere is committed here.
 *
 *   leader's clock   sent 1000 ------------------ read ----- 1810 lease ends
 *   voter's clock          heard 7020 ------------------------------ 7920 may vote again
 *
 * Promises of which the leader doesn't know the end are those of a transfer: its transferee asks
 * for votes in spite of them, and its request may be under way for any time. So a leader that has
 * begun a transfer has no lease for the rest of its term.
 */
import { assert } from "../base/assert.ts";

export interface LeaderLeaseConfig {
  /** What a tick of this host takes, by its steady clock. */
  readonly tickMilliseconds: number;
  /** The part of any time by which two members' clocks may differ over it: 0 <= driftMax < 1. */
  readonly driftMax: number;
}

/** Hosts' timers may be so early. */
const TIMER_ERROR_MILLISECONDS = 1;
/** A tick that comes so many ticks after the one before shows a pause. */
const PAUSE_TICKS = 2;

export class LeaderLease {
  readonly #config: LeaderLeaseConfig | undefined;
  readonly #electionTicks: number;
  /** Voter: for so many ticks it still grants no vote. */
  #refusingTicks = 0;
  /** The time of the last tick, if the host told it. */
  #tickedAt: number | undefined;
  /** Leader: what it sent before doesn't count: it was paused since. */
  #countsFrom = 0;
  /** Leader: it has begun to hand over. */
  #forfeited = false;

  /** `config` undefined: no promise is made, and no lease held. */
  constructor(config: LeaderLeaseConfig | undefined, electionTicks: number) {
    this.#config = config;
    this.#electionTicks = electionTicks;
    if (config === undefined) return;
    assert(config.tickMilliseconds > 0, "a tick takes time");
    assert(config.driftMax >= 0 && config.driftMax < 1, `clock drift ${config.driftMax}`);
    this.#refusingTicks = electionTicks;
  }

  /**
   * A tick; `now` is the host's steady clock, undefined where no lease is wanted now. True after a
   * pause: what was promised before it is to be forgotten.
   */
  ticked(now: number | undefined): boolean {
    if (this.#refusingTicks > 0) this.#refusingTicks -= 1;
    const last = this.#tickedAt;
    this.#tickedAt = now;
    if (this.#config === undefined || now === undefined || last === undefined) return false;
    assert(now >= last, "the steady clock went back");
    if (now - last < PAUSE_TICKS * this.#config.tickMilliseconds) return false;
    this.#countsFrom = now;
    return true;
  }

  /** Voter: a promise is in force. */
  get refusesVotes(): boolean {
    return this.#refusingTicks > 0;
  }

  /** Voter: the leader of its term was heard; its answer carries the promise. */
  leaderHeard(): void {
    if (this.#config !== undefined) this.#refusingTicks = this.#electionTicks;
  }

  /** Voter: how long it grants no vote from now on, at least, in milliseconds of its own clock. */
  get promisedMilliseconds(): number | undefined {
    if (this.#config === undefined) return undefined;
    // The next tick may be due at once.
    const wholeTicks = this.#electionTicks - 1;
    return wholeTicks * Math.max(0, this.#config.tickMilliseconds - TIMER_ERROR_MILLISECONDS);
  }

  /** Leader: what its heartbeats say; not later than they are sent. */
  get sentAt(): number | undefined {
    if (this.#config === undefined || this.#tickedAt === undefined) return undefined;
    return Math.max(0, Math.floor(this.#tickedAt));
  }

  /** Leader: until when, by its own clock, a voter grants no vote that has promised this. */
  endOf(promise: { readonly sentAt: number; readonly milliseconds: number }): number {
    const { sentAt, milliseconds } = promise;
    if (this.#config === undefined || sentAt < this.#countsFrom) return 0;
    return sentAt + milliseconds * (1 - this.#config.driftMax);
  }

  /** Leader: true while a lease whose promises end at `leasedUntil` can be read under. */
  covers(now: number | undefined, leasedUntil: number): boolean {
    if (this.#config === undefined || now === undefined || this.#forfeited) return false;
    return now < leasedUntil;
  }

  /** Leader: it begins to hand over. */
  forfeit(): void {
    this.#forfeited = true;
  }

  /** Another term, or another role in it. */
  reset(): void {
    this.#forfeited = false;
  }
}
