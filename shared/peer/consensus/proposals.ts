/**
 * Commands on their way through the log: from the call that wants them to the apply that settles
 * them. Those of one turn reach raft in one call. Times are checked by one sweep a tick, not by a
 * timer each.
 *
 * When the leader changes, what the old one had taken may be in the new one's log, or lost. Raft
 * ties a proposal to the term in which it was taken: the leader of that term appends it, whether it
 * is this peer or one that it was forwarded to, and no leader of a later term does, however late
 * the message arrives (a stalled link, a paused process, a leader behind a partition). Terms never
 * fall along a log. So once an entry of a later term is applied here, every entry of the old term
 * that will ever be committed is applied here too, and a proposal that is still pending is lost for
 * certain: it is proposed again, and its caller needn't know. That takes an election and the new
 * leader's first entry, not the caller's whole time-out.
 *
 * The one thing that breaks this proof is a snapshot: entries that it brings aren't seen one by one.
 * What was under way when one was installed is never proposed again; it fails as unknown.
 *
 * Within a term what was forwarded, and not heard of for a while, is sent again to the same leader,
 * which takes it once (`forwarded-proposals.ts`): the message may be lost, or refused by a leader
 * that was handing over. It still belongs to that term. Only if the transport vouches that the one
 * message with it never left is it free of it, and offered again like a new one.
 */
import { rpcError } from "../../api/errors.ts";
import type { ErrorCode, RpcError } from "../../api/errors.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import { RisingMap } from "../../base/rising-map.ts";
import type { Entry, ProposedEntry, Refusal, Role } from "../../raft/types.ts";
import { encodeCommand, ownSequence, proposerBytes } from "../../wire/command-codec.ts";
import type { Command, WriteIdentity } from "../../wire/command.ts";
import type { ApplyResult } from "../state/state-machine.ts";

/** Told once what became of the command. */
export interface ProposalOwner {
  applied(result: ApplyResult): void;
  failed(error: RpcError): void;
}

/** The version of the cluster from which on every leader takes copies of a proposal once. */
export const FORWARD_AGAIN_SINCE = 2;

interface Proposal {
  readonly sequence: number;
  readonly data: Bytes;
  readonly owner: ProposalOwner;
  readonly startedAt: number;
  readonly deadline: number;
  /**
   * The term in which raft has taken it: from then on it may be applied whatever its caller is
   * told. Undefined while it is queued.
   */
  takenIn: number | undefined;
  /** When it is sent again, if it was forwarded, and after how long again. */
  forwardAt: number;
  patienceMilliseconds: number;
  /** Several messages with it have left. */
  copied: boolean;
  /** It may be among the entries that a snapshot brought. */
  mayBeApplied: boolean;
}

/** Of raft: `term` is the one in which it takes what it is offered. */
export interface ProposalTaker {
  readonly term: number;
  readonly role: Role;
  propose(entries: readonly ProposedEntry[]): Refusal | undefined;
}

export interface ProposalOptions {
  readonly now: number;
  readonly deadline: number;
  /** Of a write that its client may send again. */
  readonly identity?: WriteIdentity | undefined;
}

export class Proposals {
  readonly #own: { readonly member: bigint; readonly incarnation: number };
  readonly #proposer: Bytes;
  readonly #forwardAgainMilliseconds: number;
  readonly #pending = new RisingMap<Proposal>();
  #queue: Proposal[] = [];
  /** Those whose message never left: they wait for the next tick, and perhaps a connection. */
  #unsent: Proposal[] = [];
  /** The queue is worth offering: something is new in it, or a leader was found. */
  #due = false;
  /** Of the last entry that was applied. */
  #appliedTerm = 0;
  #sequence = 0;

  constructor(
    own: { readonly member: bigint; readonly incarnation: number },
    options: { readonly forwardAgainMilliseconds: number },
  ) {
    this.#own = own;
    this.#forwardAgainMilliseconds = options.forwardAgainMilliseconds;
    this.#proposer = proposerBytes(own);
  }

  /** Proposals that their callers were told have failed. */
  failedCount = 0;

  get pendingCount(): number {
    return this.#pending.size;
  }

  /** `flush` has something to offer that it has not offered to this leader. */
  get due(): boolean {
    return this.#due && this.#queue.length > 0;
  }

  /** What was refused for want of a leader may be offered again. */
  leaderFound(): void {
    this.#due = true;
  }

  submit(command: Command, owner: ProposalOwner, options: ProposalOptions): void {
    this.#sequence += 1;
    const sequence = this.#sequence;
    const { member, incarnation } = this.#own;
    const data = encodeCommand({
      request: { member, incarnation, sequence },
      identity: options.identity,
      command,
    });
    const proposal: Proposal = {
      sequence,
      data,
      owner,
      startedAt: options.now,
      deadline: options.deadline,
      takenIn: undefined,
      forwardAt: 0,
      patienceMilliseconds: 0,
      copied: false,
      mayBeApplied: false,
    };
    this.#pending.add(sequence, proposal);
    this.#queue.push(proposal);
    this.#due = true;
  }

  /**
   * Hands what is queued to raft, in portions that fit a message. Without a leader, or while
   * leadership is handed over, the rest stays queued until its time is over; when too much is
   * uncommitted it is refused.
   */
  flush(raft: ProposalTaker, now: number): void {
    this.#due = false;
    while (this.#queue.length > 0) {
      let count = 0;
      let bytes = 0;
      const entries: ProposedEntry[] = [];
      for (const { data } of this.#queue) {
        if (count > 0 && bytes + data.length > LIMITS.appendBytesMax) break;
        entries.push({ kind: "normal", data });
        bytes += data.length;
        count += 1;
      }
      const refusal = raft.propose(entries);
      if (refusal === "tooMuchUncommitted") {
        for (const proposal of this.#queue.splice(0, count)) {
          this.#fail(proposal, rpcError("requestTooManyRequests"));
        }
        continue;
      }
      if (refusal !== undefined) return;
      const taken = count === this.#queue.length ? this.#queue : this.#queue.splice(0, count);
      if (taken === this.#queue) this.#queue = [];
      const patienceMilliseconds = this.#forwardAgainMilliseconds;
      const forwardAt = now + patienceMilliseconds;
      for (const proposal of taken) {
        proposal.takenIn = raft.term;
        proposal.forwardAt = forwardAt;
        proposal.patienceMilliseconds = patienceMilliseconds;
        proposal.copied = false;
      }
    }
  }

  /**
   * At each tick: what was forwarded in this term and not heard of for its time goes to the leader
   * again, as much as fits a message, in the order in which it was proposed.
   */
  forwardAgain(raft: ProposalTaker, now: number): void {
    if (raft.role === "leader" || this.#pending.size === 0) return;
    const again: Proposal[] = [];
    let bytes = 0;
    for (const proposal of this.#pending.values()) {
      if (proposal.takenIn !== raft.term || proposal.forwardAt > now) continue;
      if (again.length > 0 && bytes + proposal.data.length > LIMITS.appendBytesMax) break;
      again.push(proposal);
      bytes += proposal.data.length;
    }
    const entries = again.map(({ data }): ProposedEntry => ({ kind: "normal", data }));
    if (entries.length === 0 || raft.propose(entries) !== undefined) return;
    for (const proposal of again) {
      proposal.copied = true;
      // A leader that is slow has it already: not to make that worse.
      proposal.patienceMilliseconds *= 2;
      proposal.forwardAt = now + proposal.patienceMilliseconds;
    }
  }

  /** Of the proposal behind an entry, if it is one of this peer's that still waits; else 0. */
  sequenceOf(entry: Entry): number {
    const sequence = ownSequence(entry.data, this.#proposer);
    return sequence !== undefined && this.#pending.has(sequence) ? sequence : 0;
  }

  settle(sequence: number, result: ApplyResult): void {
    const proposal = this.#pending.get(sequence);
    if (proposal === undefined) return;
    this.#pending.delete(sequence);
    proposal.owner.applied(result);
  }

  /**
   * Entries up to one of `term` are applied, and those of them that were proposed here are settled.
   * What was taken in an earlier term and is still pending never will be: see above.
   */
  appliedIn(term: number): void {
    if (term === this.#appliedTerm) return;
    this.#appliedTerm = term;
    const lost: Proposal[] = [];
    for (const proposal of this.#pending.values()) {
      if (proposal.takenIn === undefined || proposal.takenIn >= term) continue;
      if (proposal.mayBeApplied) {
        this.#fail(proposal, rpcError("timeoutDueToLeaderFail", { outcome: "unknown" }));
        continue;
      }
      proposal.takenIn = undefined;
      lost.push(proposal);
    }
    if (lost.length === 0) return;
    this.#queue = [...lost, ...this.#queue];
    this.#due = true;
  }

  /** The message that forwarded these in `term` never left. */
  unsent(entries: readonly ProposedEntry[], term: number): void {
    for (const { data } of entries) {
      const proposal = this.#pending.get(ownSequence(data, this.#proposer) ?? 0);
      if (proposal?.takenIn !== term || proposal.copied) continue;
      proposal.takenIn = undefined;
      this.#unsent.push(proposal);
    }
  }

  /** At each tick: what wasn't sent is tried again. */
  offerUnsent(): void {
    if (this.#unsent.length === 0) return;
    const waiting = this.#unsent.filter((each) => this.#pending.has(each.sequence));
    this.#queue = [...waiting, ...this.#queue];
    this.#unsent = [];
    this.#due = true;
  }

  /** The state was replaced by one with entries that were not applied one by one here. */
  stateReplaced(): void {
    for (const proposal of this.#pending.values()) {
      if (proposal.takenIn !== undefined) proposal.mayBeApplied = true;
    }
  }

  /**
   * Fails what has waited too long; `reason` says why, from the time at which the proposal was
   * made.
   */
  sweep(now: number, reason: (startedAt: number) => ErrorCode): void {
    let dropQueued = false;
    for (const proposal of this.#pending.values()) {
      if (proposal.deadline > now) continue;
      if (proposal.takenIn === undefined) dropQueued = true;
      const error = rpcError(reason(proposal.startedAt), { outcome: outcomeOf(proposal) });
      this.#fail(proposal, error);
    }
    if (dropQueued) this.#queue = this.#queue.filter((each) => this.#pending.has(each.sequence));
  }

  /** Fails everything: the peer stops. */
  failAll(code: ErrorCode): void {
    this.#queue = [];
    this.#unsent = [];
    for (const proposal of this.#pending.values()) {
      this.#fail(proposal, rpcError(code, { outcome: outcomeOf(proposal) }));
    }
  }

  #fail(proposal: Proposal, error: RpcError): void {
    this.#pending.delete(proposal.sequence);
    this.failedCount += 1;
    proposal.owner.failed(error);
  }
}

/** Of one that is given up: what raft has not taken can't happen. */
function outcomeOf({ takenIn }: Proposal): "none" | "unknown" {
  return takenIn === undefined ? "none" : "unknown";
}
