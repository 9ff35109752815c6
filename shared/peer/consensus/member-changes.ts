/**
 * Changes of the members on their way through the log, one at a time: raft takes the next only once
 * the last is applied, so the others wait here rather than being refused.
 *
 * A change that was sent on to a leader may be lost there without a word (another one was under
 * way, or the leader went). So it is proposed again until it is applied. That does no harm: a
 * second copy is refused at apply, since ids are never used again.
 */
import { rpcError } from "../../api/errors.ts";
import type { ErrorCode } from "../../api/errors.ts";
import type { Bytes } from "../../base/bytes.ts";
import type { ConfChange, Entry } from "../../raft/types.ts";
import { encodeCommand, ownSequence, proposerBytes } from "../../wire/command-codec.ts";
import type { MemberCommand } from "../../wire/command.ts";
import { confChangeOf, stepsOf } from "../state/member-steps.ts";
import type { ApplyResult } from "../state/state-machine.ts";
import type { ProposalOptions, ProposalOwner, ProposalTaker } from "./proposals.ts";

interface Change {
  readonly sequence: number;
  readonly data: Bytes;
  readonly owner: ProposalOwner;
  readonly startedAt: number;
  readonly deadline: number;
  /** Raft took it then; undefined: not yet. */
  proposedAt: number | undefined;
  /** It was applied, and is answered once the joint change that it began has ended. */
  result: ApplyResult | undefined;
}

const RETRY_MILLISECONDS = 500;

export class MemberChanges {
  readonly #own: { readonly member: bigint; readonly incarnation: number };
  readonly #proposer: Bytes;
  #changes: readonly Change[] = [];
  #sequence = 0;

  constructor(own: { readonly member: bigint; readonly incarnation: number }) {
    this.#own = own;
    this.#proposer = proposerBytes(own);
  }

  get hasWaiting(): boolean {
    return this.#changes.length > 0;
  }

  submit(command: MemberCommand, owner: ProposalOwner, options: ProposalOptions): void {
    this.#sequence += 1;
    const sequence = this.#sequence;
    const request = { ...this.#own, sequence };
    const data = encodeCommand({ request, identity: undefined, command });
    const { now: startedAt, deadline } = options;
    const change = { sequence, data, owner, startedAt, deadline };
    this.#changes = [...this.#changes, { ...change, proposedAt: undefined, result: undefined }];
  }

  /** Proposes the first that waits, if it isn't under way. */
  flush(raft: ProposalTaker, now: number): void {
    const change = this.#changes[0];
    if (change === undefined || change.result !== undefined) return;
    const { proposedAt, data } = change;
    if (proposedAt !== undefined && now - proposedAt < RETRY_MILLISECONDS) return;
    if (raft.propose([{ kind: "membership", data }]) === undefined) change.proposedAt = now;
  }

  /** A membership entry was applied. */
  applied(entry: Entry, result: ApplyResult): void {
    const sequence = ownSequence(entry.data, this.#proposer);
    const change = this.#changes.find((each) => each.sequence === sequence);
    if (change !== undefined) change.result = result;
  }

  /** No joint change is under way: what was applied is done. */
  settle(): void {
    const done = this.#changes.filter((each) => each.result !== undefined);
    if (done.length === 0) return;
    this.#changes = this.#changes.filter((each) => each.result === undefined);
    for (const { owner, result } of done) if (result !== undefined) owner.applied(result);
  }

  sweep(now: number, reason: (startedAt: number) => ErrorCode): void {
    const overdue = this.#changes.filter((each) => each.deadline <= now);
    if (overdue.length === 0) return;
    this.#changes = this.#changes.filter((each) => each.deadline > now);
    for (const change of overdue) fail(change, reason(change.startedAt));
  }

  /** Fails everything: the peer stops. */
  failAll(code: ErrorCode): void {
    const changes = this.#changes;
    this.#changes = [];
    for (const change of changes) fail(change, code);
  }
}

/** What raft makes of an applied change; undefined: its members are as before. */
export function raftChangeOf(command: MemberCommand, result: ApplyResult): ConfChange | undefined {
  const steps = result.kind === "refused" ? [] : stepsOf(command);
  return steps.length === 0 ? undefined : confChangeOf(steps);
}

function fail(change: Change, code: ErrorCode): void {
  const outcome = change.proposedAt === undefined ? "none" : "unknown";
  change.owner.failed(rpcError(code, { outcome }));
}
