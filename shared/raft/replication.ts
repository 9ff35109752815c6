/**
 * The leader's side of replication (thesis sections 3.5, 3.6.2, 10.2.1): what goes to each member,
 * what its answers tell, and how far the log is committed.
 *
 * Appends are not sent as entries come but put together when a `Ready` is taken: one append then
 * carries all that was proposed since, and the commit index with it.
 */
import { assert } from "../base/assert.ts";
import type { Core } from "./core.ts";
import { bytesOf } from "./memory-log.ts";
import type { Progress } from "./progress.ts";
import { confirmWhenCommitted } from "./retirement.ts";
import { handOverWhenCaughtUp } from "./transfer.ts";
import type { Entry, Message, NodeId } from "./types.ts";

export type AppendReply = Extract<Message, { type: "appendReply" }>;

const NO_ENTRIES: readonly Entry[] = [];

/** The last slice that was read: followers in step with each other share it. */
interface Shared {
  low: number;
  entries: readonly Entry[];
}

/** Sends every member the appends that are due. */
export function replicate(core: Core): void {
  assert(core.role === "leader", "only a leader replicates");
  core.replicationDue = false;
  const shared: Shared = { low: 0, entries: NO_ENTRIES };
  const { lastIndex, commit } = core.log;
  for (const progress of core.tracker.peers) {
    while (progress.wantsAppend(lastIndex, commit)) {
      if (!sendAppend(core, progress, shared)) break;
    }
  }
}

/** True when an append went out; else a snapshot did, or nothing can go now. */
function sendAppend(core: Core, progress: Progress, shared: Shared): boolean {
  const { log } = core;
  const previousIndex = progress.next - 1;
  const previousTerm = log.termOf(previousIndex);
  const compacted = previousTerm === undefined || progress.next < log.firstIndex;
  if (compacted || progress.snapshotWanted) {
    sendSnapshot(core, progress);
    return false;
  }
  const room = progress.state === "probe" || !progress.inflights.full;
  const entries = room ? entriesFrom(core, progress.next, shared) : NO_ENTRIES;
  core.outbox.send({
    type: "append",
    from: core.id,
    to: progress.id,
    term: core.term,
    previousIndex,
    previousTerm,
    entries,
    commit: log.commit,
  });
  progress.sentAppend({ count: entries.length, bytes: bytesOf(entries), commit: log.commit });
  return true;
}

function entriesFrom(core: Core, low: number, shared: Shared): readonly Entry[] {
  const { log, config } = core;
  if (low > log.lastIndex) return NO_ENTRIES;
  if (shared.low !== low) {
    shared.entries = log.slice(low, log.lastIndex + 1, config.appendBytesMax);
    shared.low = low;
  }
  return shared.entries;
}

/** The entries that this member needs next are compacted: it gets a snapshot (chapter 5). */
function sendSnapshot(core: Core, progress: Progress): void {
  // One that doesn't answer would only tie up the stream; a heartbeat's answer brings it back.
  const snapshot = progress.recentlyActive ? core.log.snapshot() : undefined;
  if (snapshot === undefined) {
    if (progress.state === "replicate") progress.becomeProbe();
    progress.paused = true;
    return;
  }
  assert(snapshot.index >= core.log.firstIndex - 1, "a snapshot that the log continues");
  core.outbox.send({
    type: "snapshot",
    from: core.id,
    to: progress.id,
    term: core.term,
    snapshot,
  });
  progress.becomeSnapshot(snapshot.index);
}

export function takeAppendReply(core: Core, reply: AppendReply): void {
  const progress = core.tracker.progress.get(reply.from);
  if (progress === undefined) return;
  progress.recentlyActive = true;
  if (reply.reject) {
    const { hintIndex, hintTerm } = reply;
    // Term 0: it doesn't know its term there any more, so its index is all there is to go by.
    const retryAt = hintTerm > 0 ? core.log.lastAtOrBelowTerm(hintIndex, hintTerm) : hintIndex;
    const isNews =
      reply.index === 0 ? progress.rejectedAll() : progress.rejected(reply.index, retryAt);
    if (isNews) core.replicationDue = true;
    return;
  }
  assert(reply.index <= core.log.lastIndex, `${reply.from} has more than its leader`);
  const probed = progress.state === "probe" && progress.match === reply.index;
  if (!progress.accepted(reply.index) && !probed) return;
  core.replicationDue = true;
  progress.inflights.freeTo(reply.index);
  if (progress.state === "probe") progress.becomeReplicate();
  else if (progress.state === "snapshot" && progress.match + 1 >= core.log.firstIndex) {
    // What it has now is continued by the log: whichever way it came, no snapshot is needed.
    progress.becomeReplicate();
  }
  advanceCommit(core);
  if (reply.from === core.transferee) handOverWhenCaughtUp(core);
}

/** This node's own entries up to the log's durable index count for it (section 10.2.1). */
export function ownEntriesDurable(core: Core): void {
  const { self } = core.tracker;
  if (core.role !== "leader" || self === undefined) return;
  if (self.accepted(core.log.durableIndex)) advanceCommit(core);
}

/**
 * Commits what a quorum holds durably, but only up to an entry of the own term: earlier ones are
 * committed along with it, never by counting alone (section 3.6.2, figure 3.7).
 */
export function advanceCommit(core: Core): void {
  const index = core.tracker.committed();
  if (index < core.termStart) return;
  assert(index <= core.log.lastIndex, `committed ${index}, log up to ${core.log.lastIndex}`);
  if (!core.log.commitTo(index)) return;
  core.replicationDue = true;
  confirmWhenCommitted(core);
}

/** The leader is there. A follower is told of no commit beyond what it has. */
export function sendHeartbeat(core: Core, progress: Progress): void {
  core.outbox.send({
    type: "heartbeat",
    from: core.id,
    to: progress.id,
    term: core.term,
    commit: Math.min(progress.match, core.log.commit),
    round: core.reads.newest,
    sentAt: core.lease.sentAt,
  });
}

/** The host could not deliver: what was sent ahead is probably lost. */
export function unreachable(core: Core, to: NodeId): void {
  const progress = core.tracker.progress.get(to);
  if (core.role === "leader" && progress?.state === "replicate") progress.becomeProbe();
}

/** A snapshot stream has ended. */
export function snapshotReported(core: Core, to: NodeId, outcome: "delivered" | "failed"): void {
  const progress = core.tracker.progress.get(to);
  if (core.role !== "leader" || progress?.state !== "snapshot") return;
  if (outcome === "failed") progress.pendingSnapshot = 0;
  progress.becomeProbe();
  // The member may still be installing it: its acknowledgement or next heartbeat answer goes on.
  progress.paused = true;
}
