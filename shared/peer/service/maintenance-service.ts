/** What operators ask of one peer: its status, and the hash of its key-values. */
import { errorText, rpcError } from "../../api/errors.ts";
import type { CallContext, Header, MaintenanceService, PeerStatus } from "../services.ts";
import type { HashResult } from "../../mvcc/store.ts";
import type { ServiceContext } from "./context.ts";
import { headerOnly } from "./kv-service.ts";
import type { Quota } from "./quota.ts";
import { runCursor } from "./range-reader.ts";

export function createMaintenanceService(
  context: ServiceContext,
  quota: Quota,
): MaintenanceService {
  return {
    async status(): Promise<PeerStatus> {
      const { state, consensus, config } = context;
      const raft = consensus.raft.status();
      const sizes = state.backend.sizes();
      const { alarms } = state.members;
      const errors = raft.leader === undefined ? [errorText("noLeader")] : [];
      for (const { member, alarm } of alarms) {
        errors.push(`memberID:${member} alarm:${alarm.toUpperCase()} `);
      }
      return {
        header: context.header(),
        leader: BigInt(raft.leader ?? "0"),
        raftIndex: raft.commit,
        raftTerm: consensus.leadership.term,
        raftAppliedIndex: state.appliedIndex,
        dbSize: sizes.totalBytes,
        dbSizeInUse: sizes.inUseBytes,
        dbSizeQuota: quota.limitBytes,
        isLearner: state.members.member(config.memberId)?.isLearner ?? false,
        errors,
        alarms,
      };
    },

    async alarm({ action, member, alarm }, call) {
      if (action === "get" || alarm === "none") {
        return context.atReadPoint({ serializable: false }, call, () => ({
          header: context.header(),
          alarms:
            action === "get"
              ? context.state.members.alarms.filter(
                  (each) => alarm === "none" || each.alarm === alarm,
                )
              : [],
        }));
      }
      const known = (): boolean =>
        context.state.members.alarms.some((each) => each.alarm === alarm && each.member === member);
      const before = known();
      const { header } = await context.write(
        { kind: "alarm", action, member, alarm },
        call,
        headerOnly,
      );
      const touched = action === "activate" || before;
      return { header, alarms: touched ? [{ member, alarm }] : [] };
    },

    async hashKv(revision: number, call: CallContext): Promise<{ header: Header } & HashResult> {
      context.checkLeader(call);
      const cursor = context.state.store.openHash(revision);
      if ("code" in cursor) throw rpcError(cursor.code);
      const result = await runCursor(cursor, context.state, context.host);
      return { header: context.header(), ...result };
    },
  };
}
