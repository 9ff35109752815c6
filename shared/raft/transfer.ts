/**
 * Leadership transfer (thesis section 3.10): the leader stops taking proposals, brings the
 * transferee's log up to its own, and tells it to campaign at once. Given up after an election
 * timeout.
 */
import { assert } from "../base/assert.ts";
import type { Core } from "./core.ts";
import type { NodeId, Refusal } from "./types.ts";

export function transferLeader(core: Core, transferee: NodeId): Refusal | undefined {
  if (core.role !== "leader") {
    const { leader } = core;
    if (leader === undefined) return "noLeader";
    core.outbox.send({
      type: "transferLeader",
      from: core.id,
      to: leader,
      term: core.term,
      transferee,
    });
    return undefined;
  }
  if (core.retirement !== "none" || !core.tracker.isVoter(transferee)) return "notMember";
  if (transferee === core.id) {
    core.transferee = undefined;
    return undefined;
  }
  if (core.transferee === transferee) return undefined;
  core.transferee = transferee;
  core.lease.forfeit();
  // From here on an election timeout is counted, after which the transfer is given up.
  core.electionElapsed = 0;
  core.replicationDue = true;
  handOverWhenCaughtUp(core);
  return undefined;
}

/** Tells the transferee to campaign, once its log holds all that the leader's does. */
export function handOverWhenCaughtUp(core: Core): void {
  const { transferee } = core;
  if (transferee === undefined) return;
  assert(core.role === "leader", "only a leader hands over");
  const progress = core.tracker.progress.get(transferee);
  if (progress === undefined || progress.match < core.log.lastIndex) return;
  core.outbox.send({ type: "timeoutNow", from: core.id, to: transferee, term: core.term });
}

/** The membership has changed: a transferee that no longer votes can't lead. */
export function abortTransferToNonVoter(core: Core): void {
  const { transferee } = core;
  if (transferee !== undefined && !core.tracker.isVoter(transferee)) core.transferee = undefined;
}
