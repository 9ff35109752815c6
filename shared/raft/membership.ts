/**
 * How a committed `ConfChange` changes the membership (thesis chapter 4). One step that moves at
 * most one voter is safe by itself, since the old and the new majorities overlap; more go through
 * a joint membership, in which majorities of the old and of the new voters must agree.
 *
 * A pure function of the membership and the change: every peer computes the same, and the host may
 * ask it beforehand whether a change is valid.
 */
import { assert } from "../base/assert.ts";
import type { ConfChange, Membership, NodeId } from "./types.ts";

/** Draft of a membership; the steps edit it. */
interface Draft {
  readonly voters: Set<NodeId>;
  readonly learners: Set<NodeId>;
  readonly votersOutgoing: Set<NodeId>;
  readonly learnersNext: Set<NodeId>;
}

/**
 * The membership after the change; `undefined` when it is not valid: it would leave no voter,
 * starts while a joint change is under way, or ends one where there is none.
 */
export function changeMembership(current: Membership, change: ConfChange): Membership | undefined {
  if (change.steps.length === 0) return leaveJoint(current);
  if (isJoint(current)) return undefined;
  const draft = draftOf(current);
  const simple = apply(draft, change);
  if (simple.voters.length === 0) return undefined;
  const joint = change.transition === "explicit" || changedVoters(current, simple) > 1;
  if (!joint) return simple;
  // A new cluster has no old half to agree with.
  if (current.voters.length === 0) return undefined;
  const jointDraft: Draft = { ...draftOf(current), votersOutgoing: new Set(current.voters) };
  const entered = apply(jointDraft, change);
  return { ...entered, autoLeave: change.transition === "auto" };
}

/** True while majorities of two sets of voters must agree. */
export function isJoint(membership: Membership): boolean {
  return membership.votersOutgoing.length > 0;
}

/** Every member, each once, in the order voters, outgoing voters, learners. */
export function membersOf(membership: Membership): NodeId[] {
  const { voters, votersOutgoing, learners } = membership;
  return [...new Set([...voters, ...votersOutgoing, ...learners])];
}

function leaveJoint(current: Membership): Membership | undefined {
  if (!isJoint(current)) return undefined;
  return {
    voters: current.voters,
    learners: [...current.learners, ...current.learnersNext],
    votersOutgoing: [],
    learnersNext: [],
    autoLeave: false,
  };
}

function draftOf(membership: Membership): Draft {
  return {
    voters: new Set(membership.voters),
    learners: new Set(membership.learners),
    votersOutgoing: new Set(membership.votersOutgoing),
    learnersNext: new Set(membership.learnersNext),
  };
}

function apply(draft: Draft, change: ConfChange): Membership {
  for (const { action, id } of change.steps) {
    const wasVoter = draft.voters.has(id);
    if (action === "addLearner" && !wasVoter && draft.learners.has(id)) continue;
    draft.voters.delete(id);
    draft.learners.delete(id);
    draft.learnersNext.delete(id);
    if (action === "addVoter") draft.voters.add(id);
    // An outgoing voter still votes in the old half, so it can't be a learner yet.
    if (action === "addLearner" && draft.votersOutgoing.has(id)) draft.learnersNext.add(id);
    else if (action === "addLearner") draft.learners.add(id);
  }
  for (const id of draft.learners) assert(!draft.voters.has(id), `${id} learns and votes`);
  return {
    voters: [...draft.voters],
    learners: [...draft.learners],
    votersOutgoing: [...draft.votersOutgoing],
    learnersNext: [...draft.learnersNext],
    autoLeave: false,
  };
}

function changedVoters(before: Membership, after: Membership): number {
  const gone = before.voters.filter((id) => !after.voters.includes(id));
  const come = after.voters.filter((id) => !before.voters.includes(id));
  return gone.length + come.length;
}
