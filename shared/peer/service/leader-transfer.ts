/** Hands leadership to a member of the operator's choice (etcd: MoveLeader). */
import { rpcError } from "../../api/errors.ts";
import type { CallContext } from "../services.ts";
import type { ServiceContext } from "./context.ts";

/** Resolves once `target` is seen to lead. */
export async function moveLeader(
  { consensus, config, host, state }: ServiceContext,
  target: bigint,
  call: CallContext,
): Promise<void> {
  if (!consensus.leadership.leads) throw rpcError("notLeader");
  const member = state.members.member(target);
  if (member === undefined || member.isLearner) throw rpcError("badLeaderTransferee");
  const limit = consensus.requestMilliseconds;
  const deadline = host.now() + Math.min(limit, call.timeoutMilliseconds ?? limit);
  const transferee = String(target);
  consensus.with((raft) => raft.transferLeader(transferee));
  while (consensus.leadership.leader !== transferee) {
    if (host.now() >= deadline) throw rpcError("leaderTransferTimeout");
    await new Promise<void>((resolve) => {
      host.schedule(config.tickMilliseconds, resolve);
    });
  }
}
