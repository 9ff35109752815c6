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
import { EMPTY, type Bytes } from "../../base/bytes.ts";
import { membersOf } from "../../raft/membership.ts";
import type { ConfChange, Entry, Membership, NodeId } from "../../raft/types.ts";
import { encodeCommand, ownSequence, proposerBytes } from "../../wire/command-codec.ts";
import type { MemberCommand } from "../../wire/command.ts";
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
}

type Action = ConfChange["steps"][number]["action"];

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
    const change = { sequence, data, owner, startedAt, deadline, proposedAt: undefined };
    this.#changes = [...this.#changes, change];
  }

  /** Proposes the first that waits, if it isn't under way. */
  flush(raft: ProposalTaker, now: number): void {
    const change = this.#changes[0];
    if (change === undefined) return;
    const { proposedAt, data } = change;
    if (proposedAt !== undefined && now - proposedAt < RETRY_MILLISECONDS) return;
    if (raft.propose([{ kind: "membership", data }]) === undefined) change.proposedAt = now;
  }

  /** A membership entry was applied. */
  applied(entry: Entry, result: ApplyResult): void {
    const sequence = ownSequence(entry.data, this.#proposer);
    const change = this.#changes.find((each) => each.sequence === sequence);
    if (change === undefined) return;
    this.#changes = this.#changes.filter((each) => each !== change);
    change.owner.applied(result);
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
  if (result.kind === "refused" || command.kind === "memberUpdate") return undefined;
  return single(actionOf(command), String(command.member));
}

/**
 * The single changes that lead from one membership to another, neither of them joint: for raft to
 * catch up with a state that was installed whole.
 */
export function changesBetween(from: Membership, to: Membership): ConfChange[] {
  const wanted = new Set(membersOf(to));
  return [
    ...to.voters.filter((id) => !from.voters.includes(id)).map((id) => single("addVoter", id)),
    ...to.learners
      .filter((id) => !from.learners.includes(id))
      .map((id) => single("addLearner", id)),
    ...membersOf(from)
      .filter((id) => !wanted.has(id))
      .map((id) => single("remove", id)),
  ];
}

function single(action: Action, id: NodeId): ConfChange {
  return { steps: [{ action, id }], transition: "auto", context: EMPTY };
}

function actionOf(command: Exclude<MemberCommand, { kind: "memberUpdate" }>): Action {
  if (command.kind === "memberRemove") return "remove";
  return command.kind === "memberAdd" && command.isLearner ? "addLearner" : "addVoter";
}

function fail(change: Change, code: ErrorCode): void {
  const outcome = change.proposedAt === undefined ? "none" : "unknown";
  change.owner.failed(rpcError(code, { outcome }));
}
