/**
 * ReadIndex (thesis section 6.4): how a leader confirms reads, and how a follower asks its leader.
 * Under a lease (`leader-lease.ts`) the leader answers at once.
 */
import { assert } from "../base/assert.ts";
import { LIMITS } from "../base/limits.ts";
import type { Core } from "./core.ts";
import type { Progress } from "./progress.ts";
import type { PendingRead } from "./read-rounds.ts";
import { sendHeartbeat } from "./replication.ts";
import { isRetirement, retireWhenConfirmed } from "./retirement.ts";
import type { Refusal } from "./types.ts";

/** Takes a read of this node's host. */
export function askRead(core: Core, context: number, now: number | undefined): Refusal | undefined {
  assert(Number.isSafeInteger(context) && context > 0, `read context ${context}`);
  if (core.role === "leader") {
    takeRead(core, { from: core.id, context }, now);
    return undefined;
  }
  const { leader } = core;
  if (leader === undefined) return "noLeader";
  core.outbox.send({
    type: "readIndex",
    from: core.id,
    to: leader,
    term: core.term,
    context: core.forwardedReads.add(context),
  });
  return undefined;
}

/** Takes a follower's read; one that reaches no leader is lost, and its host asks again. */
export function askReadFor(core: Core, read: PendingRead, now: number | undefined): void {
  if (core.role === "leader") takeRead(core, read, now);
}

/** Answers at once under a lease; else the read waits for a round. */
function takeRead(core: Core, read: PendingRead, now: number | undefined): void {
  if (!hasLease(core, now)) return core.reads.add(read);
  core.leaseReads += 1;
  answer(core, read, core.log.commit);
}

/** True while nobody else can have been elected, and this leader knows all that is committed. */
function hasLease(core: Core, now: number | undefined): boolean {
  if (!core.committedInTerm || core.retirement !== "none") return false;
  return core.lease.covers(now, core.tracker.leasedUntil());
}

/** What a heartbeat's answer promises. */
export function takePromise(
  core: Core,
  progress: Progress,
  promise: { readonly sentAt: number; readonly milliseconds: number },
): void {
  progress.leasedUntil = Math.max(progress.leasedUntil, core.lease.endOf(promise));
}

/** Takes the leader's answer. */
export function takeReadAnswer(core: Core, number: number, index: number): void {
  const context = core.forwardedReads.take(number);
  if (context !== undefined) core.readStates.push({ context, index });
}

/** True when the reads that wait can begin a round now. */
export function readRoundDue(core: Core): boolean {
  if (core.role !== "leader" || !core.reads.hasWaiting) return false;
  // Until an entry of its term is committed, a leader may not know the newest commit index.
  return core.committedInTerm && core.reads.inFlight < LIMITS.readRoundsInFlightMax;
}

/** Begins a round for all reads that wait; a leader that is alone confirms it at once. */
export function beginReadRound(core: Core): void {
  nameRound(core);
  for (const progress of core.tracker.peers) {
    if (!progress.learner) sendHeartbeat(core, progress);
  }
}

/**
 * The heartbeat of a tick. Reads that wait go along whatever number of rounds is under way: their
 * heartbeats may be lost, and an answer to this one confirms them all.
 */
export function broadcastHeartbeat(core: Core): void {
  if (core.reads.hasWaiting && core.committedInTerm) nameRound(core);
  for (const progress of core.tracker.peers) sendHeartbeat(core, progress);
}

/** The heartbeats that are sent from here on name a new round. */
function nameRound(core: Core): void {
  assert(core.role === "leader" && core.committedInTerm, "only an established leader confirms");
  const round = core.reads.begin(core.log.commit);
  const { self } = core.tracker;
  if (self !== undefined) self.round = round;
  confirmReads(core);
}

/** Answers the reads of all rounds that a quorum has confirmed by now. */
export function confirmReads(core: Core): void {
  if (core.reads.inFlight === 0) return;
  core.reads.confirm(core.tracker.confirmedRound(), (read, index) => answer(core, read, index));
  retireWhenConfirmed(core);
}

function answer(core: Core, read: PendingRead, index: number): void {
  if (isRetirement(read)) {
    core.retirement = "done";
  } else if (read.from === core.id) {
    core.readStates.push({ context: read.context, index });
  } else {
    core.outbox.send({
      type: "readIndexReply",
      from: core.id,
      to: read.from,
      term: core.term,
      context: read.context,
      index,
    });
  }
}
