/**
 * How a leader leaves that a membership change has taken the vote from (thesis section 4.2.2).
 *
 * It can't simply stop: members apply a change only once they know that it is committed, so the
 * others may still wait for the vote of the one that has gone, and its log may be longer than any
 * of theirs. So it goes on without counting itself and takes no more proposals, until all of its
 * log is committed and, in a confirmation round that begins after that, a quorum of the new voters
 * has been told so. Then at least one voter has both the whole log and the new membership, and that
 * one is told to campaign.
 */
import { assert } from "../base/assert.ts";
import type { Core } from "./core.ts";
import type { PendingRead } from "./read-rounds.ts";

/** No host's read has this context. */
const RETIREMENT_CONTEXT = 0;

export function startRetirement(core: Core): void {
  assert(core.role === "leader" && !core.tracker.isVoter(core.id), "a leader without a vote");
  core.transferee = undefined;
  if (core.retirement === "none") core.retirement = "committing";
  confirmWhenCommitted(core);
}

/** Once nothing is left to commit, the round that tells the others goes along with the reads. */
export function confirmWhenCommitted(core: Core): void {
  if (core.retirement !== "committing" || core.log.commit < core.log.lastIndex) return;
  core.retirement = "confirming";
  core.reads.addFirst({ from: core.id, context: RETIREMENT_CONTEXT });
}

/** True for the round's own read, which no host asked for. */
export function isRetirement(read: PendingRead): boolean {
  return read.context === RETIREMENT_CONTEXT;
}

/** The others can go on: names a successor and steps down. */
export function retireWhenConfirmed(core: Core): void {
  if (core.retirement !== "done") return;
  const { lastIndex } = core.log;
  const successor = core.tracker.peers.find((each) => {
    return core.tracker.isVoter(each.id) && each.match === lastIndex;
  });
  if (successor !== undefined) {
    const { id } = successor;
    core.outbox.send({ type: "timeoutNow", from: core.id, to: id, term: core.term });
  }
  core.becomeFollower(core.term, undefined);
}
