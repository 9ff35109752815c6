/**
 * Commands on their way through the log: from the call that wants them to the apply that settles
 * them. Those of one turn reach raft in one call. Times are checked by one sweep a tick, not by a
 * timer each.
 */
import { rpcError } from "../../api/errors.ts";
import type { ErrorCode, RpcError } from "../../api/errors.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { Entry, ProposedEntry, Refusal } from "../../raft/types.ts";
import { encodeCommand, ownSequence, proposerBytes } from "../../wire/command-codec.ts";
import type { Command } from "../../wire/command.ts";
import type { ApplyResult } from "../state/state-machine.ts";

/** Told once what became of the command. */
export interface ProposalOwner {
  applied(result: ApplyResult): void;
  failed(error: RpcError): void;
}

interface Proposal {
  readonly sequence: number;
  readonly data: Bytes;
  readonly owner: ProposalOwner;
  readonly startedAt: number;
  readonly deadline: number;
  /** Raft has taken it: from now on it may be applied whatever its caller is told. */
  proposed: boolean;
}

export interface ProposalOptions {
  readonly now: number;
  readonly deadline: number;
}

export class Proposals {
  readonly #own: { readonly member: bigint; readonly incarnation: number };
  readonly #proposer: Bytes;
  readonly #pending = new Map<number, Proposal>();
  #queue: Proposal[] = [];
  #sequence = 0;

  constructor(own: { readonly member: bigint; readonly incarnation: number }) {
    this.#own = own;
    this.#proposer = proposerBytes(own);
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  get hasQueued(): boolean {
    return this.#queue.length > 0;
  }

  submit(command: Command, owner: ProposalOwner, options: ProposalOptions): void {
    this.#sequence += 1;
    const sequence = this.#sequence;
    const { member, incarnation } = this.#own;
    const data = encodeCommand({
      request: { member, incarnation, sequence },
      identity: undefined,
      command,
    });
    const proposal: Proposal = {
      sequence,
      data,
      owner,
      startedAt: options.now,
      deadline: options.deadline,
      proposed: false,
    };
    this.#pending.set(sequence, proposal);
    this.#queue.push(proposal);
  }

  /**
   * Hands what is queued to raft, in portions that fit a message. Without a leader, or while
   * leadership is handed over, the rest stays queued until its time is over; when too much is
   * uncommitted it is refused.
   */
  flush(propose: (entries: readonly ProposedEntry[]) => Refusal | undefined): void {
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
      const refusal = propose(entries);
      if (refusal === "tooMuchUncommitted") {
        for (const proposal of this.#queue.splice(0, count)) {
          this.#fail(proposal, rpcError("requestTooManyRequests"));
        }
        continue;
      }
      if (refusal !== undefined) return;
      const taken = count === this.#queue.length ? this.#queue : this.#queue.splice(0, count);
      if (taken === this.#queue) this.#queue = [];
      for (const proposal of taken) proposal.proposed = true;
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
   * Fails what has waited too long; `reason` says why, from the time at which the proposal was
   * made.
   */
  sweep(now: number, reason: (startedAt: number) => ErrorCode): void {
    let dropQueued = false;
    for (const proposal of this.#pending.values()) {
      if (proposal.deadline > now) continue;
      const outcome = proposal.proposed ? "unknown" : "none";
      if (!proposal.proposed) dropQueued = true;
      this.#fail(proposal, rpcError(reason(proposal.startedAt), { outcome }));
    }
    if (dropQueued) this.#queue = this.#queue.filter((each) => this.#pending.has(each.sequence));
  }

  /** Fails everything: the peer stops. */
  failAll(code: ErrorCode): void {
    this.#queue = [];
    for (const proposal of this.#pending.values()) {
      this.#fail(proposal, rpcError(code, { outcome: proposal.proposed ? "unknown" : "none" }));
    }
  }

  #fail(proposal: Proposal, error: RpcError): void {
    this.#pending.delete(proposal.sequence);
    proposal.owner.failed(error);
  }
}
