/**
 * Linearizable read points (ReadIndex, thesis section 6.4). Whoever waits joins the next round,
 * never one that began before; all that wait in one turn share one round. A waiter is told once
 * this peer has applied everything that was committed when its round began. Rounds without an
 * answer are asked again with a new number.
 */
import { rpcError } from "../../api/errors.ts";
import type { ErrorCode, RpcError } from "../../api/errors.ts";
import { RisingMap } from "../../base/rising-map.ts";
import type { ReadState, Refusal } from "../../raft/types.ts";

export interface ConfirmationOwner {
  confirmed(): void;
  failed(error: RpcError): void;
}

interface Waiter {
  readonly owner: ConfirmationOwner;
  readonly deadline: number;
}

interface Round {
  waiters: readonly Waiter[];
  /** All the numbers that it was asked with: an answer to any of them settles it. */
  readonly contexts: number[];
  askedAt: number;
  readonly begunAt: number;
  /** Raft took the request: its leader owes an answer. */
  asked: boolean;
}

/** A round that was answered, with the index that this peer has yet to apply. */
interface Confirmed {
  readonly index: number;
  readonly waiters: readonly Waiter[];
  readonly begunAt: number;
}

/** Etcd's readIndexRetryTime. */
const RETRY_MILLISECONDS = 500;

export class Confirmations {
  /** Joined since the last round began. */
  #joining: Waiter[] = [];
  /** Rounds under way by their first context, and the same by all of their contexts. */
  readonly #rounds = new RisingMap<Round>();
  readonly #byContext = new RisingMap<Round>();
  /** Confirmed, not yet applied so far. */
  #confirmed: Confirmed[] = [];
  #context = 0;
  #freshAt: number | undefined;

  /**
   * Everything that was committed anywhere before this time is applied here: when the newest of
   * the rounds began that are confirmed and applied. Undefined before the first.
   */
  get freshAt(): number | undefined {
    return this.#freshAt;
  }

  get waitingCount(): number {
    let count = this.#joining.length;
    for (const round of this.#rounds.values()) count += round.waiters.length;
    for (const each of this.#confirmed) count += each.waiters.length;
    return count;
  }

  /** Rounds that were begun and whose waiters were not told. */
  get roundCount(): number {
    return this.#rounds.size + this.#confirmed.length;
  }

  get hasJoining(): boolean {
    return this.#joining.length > 0;
  }

  join(owner: ConfirmationOwner, deadline: number): void {
    this.#joining.push({ owner, deadline });
  }

  /** Begins a round for those who joined. */
  flush(readIndex: ReadIndex, now: number): void {
    if (this.#joining.length === 0) return;
    const round: Round = {
      waiters: this.#joining,
      contexts: [],
      askedAt: now,
      begunAt: now,
      asked: false,
    };
    this.#joining = [];
    this.#rounds.add(this.#context + 1, round);
    this.#ask(round, readIndex, now);
  }

  /** A round was answered. Tells its waiters at once if `applied` is there already. */
  answered(state: ReadState, applied: number): void {
    const round = this.#byContext.get(state.context);
    if (round === undefined) return; // Answered before by another of its contexts, or given up.
    this.#forget(round);
    const { waiters, begunAt } = round;
    const confirmed = { index: state.index, waiters, begunAt };
    if (state.index <= applied) this.#tell(confirmed);
    else this.#confirmed.push(confirmed);
  }

  /** Tells those whose index is applied by now. */
  appliedTo(applied: number): void {
    if (this.#confirmed.length === 0) return;
    const ready = this.#confirmed.filter((each) => each.index <= applied);
    if (ready.length === 0) return;
    this.#confirmed = this.#confirmed.filter((each) => each.index > applied);
    for (const each of ready) this.#tell(each);
  }

  /**
   * A new leader was found: what was asked of the old one fails; what no leader has heard of is
   * asked now.
   */
  leaderChanged(readIndex: ReadIndex, now: number): void {
    for (const round of this.#rounds.values()) {
      if (!round.asked) {
        this.#ask(round, readIndex, now);
        continue;
      }
      this.#forget(round);
      fail(round.waiters, "leaderChanged");
    }
  }

  /** Fails what has waited too long, and asks again what has had no answer for a while. */
  sweep(readIndex: ReadIndex, now: number): void {
    this.#confirmed = this.#confirmed
      .map(({ waiters, ...rest }) => ({
        ...rest,
        waiters: failOverdue(waiters, now, "timeoutWaitAppliedIndex"),
      }))
      .filter((each) => each.waiters.length > 0);
    this.#joining = failOverdue(this.#joining, now, "timeout");
    for (const round of this.#rounds.values()) {
      round.waiters = failOverdue(round.waiters, now, "timeout");
      if (round.waiters.length === 0) this.#forget(round);
      else if (round.askedAt + RETRY_MILLISECONDS <= now) this.#ask(round, readIndex, now);
    }
  }

  failAll(code: ErrorCode): void {
    fail(this.#joining, code);
    this.#joining = [];
    for (const round of this.#rounds.values()) fail(round.waiters, code);
    this.#rounds.clear();
    this.#byContext.clear();
    for (const each of this.#confirmed) fail(each.waiters, code);
    this.#confirmed = [];
  }

  #tell({ begunAt, waiters }: Confirmed): void {
    this.#freshAt = Math.max(this.#freshAt ?? begunAt, begunAt);
    for (const waiter of waiters) waiter.owner.confirmed();
  }

  #ask(round: Round, readIndex: ReadIndex, now: number): void {
    this.#context += 1;
    round.contexts.push(this.#context);
    this.#byContext.add(this.#context, round);
    round.askedAt = now;
    if (readIndex(this.#context) === undefined) round.asked = true;
  }

  #forget(round: Round): void {
    this.#rounds.delete(round.contexts[0] as number);
    for (const context of round.contexts) this.#byContext.delete(context);
  }
}

/** Raft's `readIndex`. */
type ReadIndex = (context: number) => Refusal | undefined;

/** Fails those whose time is over; returns the others. */
function failOverdue(waiters: readonly Waiter[], now: number, code: ErrorCode): Waiter[] {
  fail(
    waiters.filter((each) => each.deadline <= now),
    code,
  );
  return waiters.filter((each) => each.deadline > now);
}

function fail(waiters: readonly Waiter[], code: ErrorCode): void {
  for (const waiter of waiters) waiter.owner.failed(rpcError(code));
}
