/**
 * A follower's side of replication (thesis section 3.5 and chapter 5). All acknowledgements leave
 * only once what they vouch for is durable.
 */
import { assert } from "../base/assert.ts";
import type { Core } from "./core.ts";
import type { Message } from "./types.ts";

type Append = Extract<Message, { type: "append" }>;
type Heartbeat = Extract<Message, { type: "heartbeat" }>;
type Snapshot = Extract<Message, { type: "snapshot" }>;

export function takeAppend(core: Core, append: Append): void {
  const { log } = core;
  if (core.tracker.progress.size === 0) {
    rejectAll(core, append);
    return;
  }
  if (append.previousIndex < log.commit) {
    // An old one: up to the commit index the logs match for certain.
    acknowledge(core, append, log.commit);
    return;
  }
  if (!log.matches(append.previousIndex, append.previousTerm)) {
    reject(core, append);
    return;
  }
  assertWellFormed(append);
  log.merge(append.entries);
  const lastNew = append.previousIndex + append.entries.length;
  const committed = log.commitTo(Math.min(append.commit, lastNew));
  // News of the commit index alone needs no answer; a leader that probes with it asks again after a heartbeat.
  if (append.entries.length > 0 || !committed) acknowledge(core, append, lastNew);
}

export function takeHeartbeat(core: Core, heartbeat: Heartbeat): void {
  core.log.commitTo(heartbeat.commit);
  const { from, round, sentAt } = heartbeat;
  const promise =
    sentAt === undefined
      ? undefined
      : { sentAt, promisedMilliseconds: core.lease.promisedMilliseconds };
  core.outbox.send({
    type: "heartbeatReply",
    from: core.id,
    to: from,
    term: core.term,
    round,
    ...promise,
  });
}

/** The snapshot's data are here: the host only passes this message on once they are. */
export function takeSnapshot(core: Core, message: Snapshot): void {
  const { log } = core;
  const { snapshot } = message;
  if (snapshot.index > log.commit) {
    if (log.matches(snapshot.index, snapshot.term)) {
      // The log holds all of it already, and goes on behind it.
      log.commitTo(snapshot.index);
    } else {
      log.restore(snapshot);
      core.tracker.setMembership(snapshot.membership, log.lastIndex);
    }
  }
  acknowledge(core, message, log.commit);
}

function acknowledge(core: Core, message: Message, index: number): void {
  core.outbox.acknowledge({ from: core.id, to: message.from, term: core.term, index });
}

/** The hint lets the leader skip whole terms, rather than probe entry by entry (section 3.5). */
function reject(core: Core, append: Append): void {
  const { log } = core;
  const hintIndex = log.lastAtOrBelowTerm(append.previousIndex, append.previousTerm);
  core.outbox.sendAfterDurable({
    type: "appendReply",
    from: core.id,
    to: append.from,
    term: core.term,
    index: append.previousIndex,
    reject: true,
    hintIndex,
    hintTerm: log.termOf(hintIndex) ?? 0,
  });
}

/**
 * A node that joins knows no members. The log alone can't tell it who they are, because the
 * founders of a cluster are not in it; taking the changes for the whole, it could believe that it
 * is alone, and lead itself. So it takes no entries, and asks for a snapshot, which names the
 * members: any log matches at index 0, and this is what its rejection means.
 */
function rejectAll(core: Core, append: Append): void {
  core.outbox.sendAfterDurable({
    type: "appendReply",
    from: core.id,
    to: append.from,
    term: core.term,
    index: 0,
    reject: true,
    hintIndex: 0,
    hintTerm: 0,
  });
}

function assertWellFormed(append: Append): void {
  let { previousIndex: index, previousTerm: term } = append;
  for (const entry of append.entries) {
    index += 1;
    assert(entry.index === index, `append from ${append.from}: entry ${entry.index} at ${index}`);
    assert(entry.term >= term && entry.term <= append.term, `append from ${append.from}: terms`);
    ({ term } = entry);
  }
}
