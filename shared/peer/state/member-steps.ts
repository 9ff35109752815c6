/**
 * What the steps of a change make of the members: judged and computed alike on every member, for
 * one step as for several at once. Whether a change is wise (are enough members there?) its
 * proposer asked before.
 */
import { EMPTY } from "../../base/bytes.ts";
import { changeMembership } from "../../raft/membership.ts";
import type { ConfChange, Membership } from "../../raft/types.ts";
import type { MemberCommand, MemberStep } from "../../wire/command.ts";
import type { Member } from "../services.ts";
import { refused, type Refused } from "./apply-operations.ts";

export interface MemberPlan {
  readonly kind: "plan";
  /** Added and promoted members, as they are from now on. */
  readonly changed: readonly Member[];
  readonly removed: readonly Member[];
  /** As raft has it from now on: joint when several voters change. */
  readonly membership: Membership;
}

export interface KnownMembers {
  readonly members: readonly Member[];
  readonly membership: Membership;
  isRemoved(id: bigint): boolean;
}

/** A command's steps; none for one that leaves raft's members as they are. */
export function stepsOf(command: MemberCommand): readonly MemberStep[] {
  if (command.kind === "memberUpdate") return [];
  return command.kind === "memberChange" ? command.steps : [command];
}

/** The steps as raft takes them: joint only when several voters change, and left by itself. */
export function confChangeOf(steps: readonly MemberStep[]): ConfChange {
  return {
    steps: steps.map((step) => ({ action: actionOf(step), id: String(step.member) })),
    transition: "auto",
    context: EMPTY,
  };
}

export function planSteps(steps: readonly MemberStep[], known: KnownMembers): MemberPlan | Refused {
  const changed = new Map<bigint, Member>();
  const removed = new Map<bigint, Member>();
  for (const step of steps) {
    const { member: id } = step;
    if (changed.has(id) || removed.has(id)) return refused("memberExist");
    if (known.isRemoved(id)) return refused("memberNotFound");
    const member = known.members.find((each) => each.id === id);
    if (step.kind === "memberAdd") {
      if (member !== undefined) return refused("memberExist");
      const { peerUrls, isLearner } = step;
      // Also the URLs of members that this change removes: they are linked to until it is done.
      const others = [...known.members, ...changed.values()];
      if (urlsTaken(peerUrls, others)) return refused("peerUrlExist");
      changed.set(id, { id, name: "", peerUrls, clientUrls: [], isLearner });
    } else if (member === undefined) {
      return refused("memberNotFound");
    } else if (step.kind === "memberRemove") {
      removed.set(id, member);
    } else if (!member.isLearner) {
      return refused("memberNotLearner");
    } else {
      changed.set(id, { ...member, isLearner: false });
    }
  }
  if (tooManyLearners(steps, known.members, { changed, removed }))
    return refused("tooManyLearners");
  const membership = changeMembership(known.membership, confChangeOf(steps));
  // A cluster without voters could never decide anything again.
  if (membership === undefined) return refused("memberNotEnoughStarted");
  const lists = { changed: [...changed.values()], removed: [...removed.values()] };
  return { kind: "plan", ...lists, membership };
}

export function urlsTaken(urls: readonly string[], members: readonly Member[]): boolean {
  return members.some((each) => each.peerUrls.some((url) => urls.includes(url)));
}

/** Whether an added learner is one more than the change's proposer allows, when all is done. */
function tooManyLearners(
  steps: readonly MemberStep[],
  members: readonly Member[],
  plan: Record<"changed" | "removed", ReadonlyMap<bigint, Member>>,
): boolean {
  const stay = members.filter(({ id }) => !plan.changed.has(id) && !plan.removed.has(id));
  const learners = [...stay, ...plan.changed.values()].filter((each) => each.isLearner).length;
  return steps.some((step) => {
    return step.kind === "memberAdd" && step.isLearner && learners > step.learnersMax;
  });
}

function actionOf(step: MemberStep): ConfChange["steps"][number]["action"] {
  if (step.kind === "memberRemove") return "remove";
  return step.kind === "memberAdd" && step.isLearner ? "addLearner" : "addVoter";
}
