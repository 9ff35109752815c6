/**
 * Whether a change of the members would endanger the quorum: etcd's rules of
 * `--strict-reconfig-check`. They look at this member's own connections and are asked before the
 * proposal; apply doesn't know them.
 */
import { rpcError } from "../../api/errors.ts";
import type { Member } from "../services.ts";
import type { MemberHealth } from "./member-health.ts";

/** Before a member is added: it may never start, and the quorum must bear that. */
export function checkAdd(
  members: readonly Member[],
  options: { readonly isLearner: boolean; readonly health: MemberHealth },
): void {
  const voters = votersOf(members);
  const enough = startedCount(voters) >= quorumOf(voters.length + 1);
  // From one to two can't be refused, or no cluster could grow.
  const first = voters.length === 1 && startedCount(voters) === 1;
  if (!options.isLearner && !enough && !first) throw rpcError("memberNotEnoughStarted");
  if (voters.length === 1) return;
  if (options.health.steadyCount(voters) < quorumOf(voters.length + 1)) throw rpcError("unhealthy");
}

export function checkRemove(
  members: readonly Member[],
  options: { readonly id: bigint; readonly self: bigint; readonly health: MemberHealth },
): void {
  const { id, self, health } = options;
  if (members.find((each) => each.id === id)?.isLearner === true) return;
  const voters = votersOf(members);
  const rest = voters.filter((each) => each.id !== id);
  if (startedCount(rest) < quorumOf(rest.length)) throw rpcError("memberNotEnoughStarted");
  // One that isn't there adds nothing to the quorum that works.
  if (id !== self && !health.isConnected(id)) return;
  if (health.steadyCount(voters) - 1 < quorumOf(voters.length - 1)) throw rpcError("unhealthy");
}

/** Before a learner gets its vote: it counts as started, for the leader has just heard of it. */
export function checkPromote(members: readonly Member[]): void {
  const voters = votersOf(members);
  if (startedCount(voters) + 1 < quorumOf(voters.length + 1)) {
    throw rpcError("memberNotEnoughStarted");
  }
}

function votersOf(members: readonly Member[]): Member[] {
  return members.filter((each) => !each.isLearner);
}

/** A member has a name once it has started. */
function startedCount(members: readonly Member[]): number {
  return members.filter((each) => each.name !== "").length;
}

function quorumOf(count: number): number {
  return Math.floor(count / 2) + 1;
}
