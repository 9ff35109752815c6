/**
 * Proposals: a leader turns them into entries of its term, a follower sends them on to its leader.
 * They are taken or refused whole.
 */
import { EMPTY } from "../base/bytes.ts";
import { assert } from "../base/assert.ts";
import type { Core } from "./core.ts";
import { bytesOf } from "./memory-log.ts";
import type { Entry, ProposedEntry, Refusal } from "./types.ts";

/** What opens a leader's term (thesis section 6.4): an entry without a command. */
const OPENING: readonly ProposedEntry[] = [{ kind: "normal", data: EMPTY }];
/** A membership entry without data ends the joint change that is under way. */
const LEAVE_JOINT: readonly ProposedEntry[] = [{ kind: "membership", data: EMPTY }];

export function propose(core: Core, proposed: readonly ProposedEntry[]): Refusal | undefined {
  if (proposed.length === 0) return undefined;
  if (core.role === "leader") return proposeAsLeader(core, proposed);
  const { leader } = core;
  if (leader === undefined) return "noLeader";
  core.outbox.send({
    type: "propose",
    from: core.id,
    to: leader,
    term: core.term,
    entries: proposed,
  });
  return undefined;
}

export function proposeAsLeader(
  core: Core,
  proposed: readonly ProposedEntry[],
): Refusal | undefined {
  assert(core.role === "leader", "only a leader appends");
  if (core.retirement !== "none") return "notMember";
  if (core.transferee !== undefined) return "transferring";
  const changes = membershipEntries(proposed);
  if (changes > 0 && (changes > 1 || membershipChangePending(core))) {
    return "membershipChangePending";
  }
  const bytes = bytesOf(proposed);
  // One proposal is always let through, however large, when nothing else waits.
  if (core.uncommittedBytes > 0 && bytes > 0) {
    if (core.uncommittedBytes + bytes > core.config.uncommittedBytesMax) {
      return "tooMuchUncommitted";
    }
  }
  appendEntries(core, proposed);
  core.uncommittedBytes += bytes;
  if (changes > 0) core.pendingMembershipIndex = core.log.lastIndex;
  return undefined;
}

/** The first entry of a leader's term. */
export function appendOpening(core: Core): void {
  assert(core.termStart === core.log.lastIndex + 1, "the term opens behind the log");
  appendEntries(core, OPENING);
}

/** Ends a joint change that ends by itself, once the state machine holds its entry. */
export function leaveJointWhenApplied(core: Core): void {
  if (core.role !== "leader" || !core.tracker.membership.autoLeave) return;
  if (core.log.applied < core.pendingMembershipIndex || core.transferee !== undefined) return;
  appendEntries(core, LEAVE_JOINT);
  core.pendingMembershipIndex = core.log.lastIndex;
}

function membershipChangePending(core: Core): boolean {
  return core.pendingMembershipIndex > core.log.applied || core.tracker.membership.autoLeave;
}

function membershipEntries(proposed: readonly ProposedEntry[]): number {
  let count = 0;
  for (const entry of proposed) if (entry.kind === "membership") count += 1;
  return count;
}

function appendEntries(core: Core, proposed: readonly ProposedEntry[]): void {
  const { term } = core;
  let index = core.log.lastIndex;
  const entries: Entry[] = [];
  for (const { kind, data } of proposed) {
    index += 1;
    entries.push({ term, index, kind, data });
  }
  core.log.append(entries);
  const { self } = core.tracker;
  if (self !== undefined) self.next = index + 1;
  core.replicationDue = true;
}
