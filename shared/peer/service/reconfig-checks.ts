/**
 * Whether a change of the members would endanger the quorum: etcd's rules of
 * `--strict-reconfig-check`. They look at this member's own connections and are asked before the
 * proposal; apply doesn't know them.
 */
import { rpcError } from "../../api/errors.ts";
import type { MemberStep } from "../../wire/command.ts";
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

/**
 * Before several changes at once: the old voters and those that come of it must both have a working
 * quorum, for meanwhile both decide. One change is judged as above.
 */
export function checkSteps(
  members: readonly Member[],
  steps: readonly MemberStep[],
  options: { readonly self: bigint; readonly health: MemberHealth },
): void {
  const [step] = steps;
  if (step === undefined) return;
  if (steps.length === 1) return checkStep(members, step, options);
  const { health } = options;
  const idsOf = (kind: MemberStep["kind"]): ReadonlySet<bigint> =>
    new Set(steps.filter((each) => each.kind === kind).map(({ member }) => member));
  const [removed, promoted] = [idsOf("memberRemove"), idsOf("memberPromote")];
  const voters = votersOf(members);
  const stay = voters.filter(({ id }) => !removed.has(id));
  const added = steps.filter((each) => each.kind === "memberAdd" && !each.isLearner).length;
  const quorum = quorumOf(stay.length + promoted.size + added);
  // From one to two, as with a single addition.
  const alone = voters.length === 1 && startedCount(stay) === 1;
  const grows = alone && added === 1 && promoted.size === 0;
  if (startedCount(stay) + promoted.size < quorum && !grows) {
    throw rpcError("memberNotEnoughStarted");
  }
  const present = [...promoted].filter((id) => health.isConnected(id)).length;
  const works = health.steadyCount(stay) + present >= quorum || grows;
  if (health.steadyCount(voters) < quorumOf(voters.length) || !works) throw rpcError("unhealthy");
}

function checkStep(
  members: readonly Member[],
  step: MemberStep,
  options: { readonly self: bigint; readonly health: MemberHealth },
): void {
  switch (step.kind) {
    case "memberAdd":
      return checkAdd(members, { isLearner: step.isLearner, health: options.health });
    case "memberRemove":
      return checkRemove(members, { ...options, id: step.member });
    default:
      return checkPromote(members);
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
