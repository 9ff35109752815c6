/**
 * What operators ask of one peer: its status, alarms, hashes, a snapshot of its state, a smaller
 * database.
 */
import { errorText, RpcError, rpcError } from "../../api/errors.ts";
import { BackendError } from "../../backend/backend.ts";
import type { HashResult } from "../../mvcc/store.ts";
import { openTableHash } from "../../mvcc/table-hash.ts";
import { chunksOf, markOf } from "../consensus/snapshots.ts";
import type {
  CallContext,
  Header,
  MaintenanceService,
  PeerStatus,
  SnapshotPart,
} from "../services.ts";
import { TERM_KEY } from "../state/member-table.ts";
import { fileOf } from "../state/snapshot-file.ts";
import type { ServiceContext } from "./context.ts";
import { checkDowngrade } from "./downgrade.ts";
import { headerOnly } from "./kv-service.ts";
import { moveLeader } from "./leader-transfer.ts";
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

    moveLeader: (target, call) => moveLeader(context, target, call),

    async hashKv(revision: number, call: CallContext): Promise<{ header: Header } & HashResult> {
      context.checkLeader(call);
      const cursor = context.state.store.openHash(revision);
      if ("code" in cursor) throw rpcError(cursor.code);
      const result = await runCursor(cursor, context.state, context.host);
      return { header: context.header(), ...result };
    },

    async hash() {
      const { state, host } = context;
      // As etcd: the same state has the same hash, whoever has led since.
      const cursor = openTableHash(state.backend.pin(), { table: "meta", key: TERM_KEY });
      const hash = await runCursor(cursor, state, host);
      return { header: context.header(), hash };
    },

    async defragment() {
      const { state, host } = context;
      host.report("info", "defragmentation begins", { ...state.backend.sizes() });
      try {
        await state.backend.defragment();
      } catch (cause) {
        if (!(cause instanceof BackendError)) throw cause;
        throw new RpcError("unknown", cause.message, { cause });
      }
      host.report("info", "defragmentation is done", { ...state.backend.sizes() });
    },

    snapshot: () => snapshotParts(context),

    async downgrade({ action, version }, call) {
      const answer = () => ({ header: context.header(), version: checkDowngrade(action, version) });
      return context.atReadPoint({ serializable: false }, call, answer);
    },
  };
}

/** Of the state as it is when the first part is asked for. */
async function* snapshotParts(
  context: ServiceContext,
): AsyncGenerator<SnapshotPart, void, undefined> {
  const { state, host, config } = context;
  const header = { clusterId: config.clusterId, leaderTerm: 0, mark: markOf(state) };
  let remainingBytes = state.backend.sizes().inUseBytes;
  const view = state.backend.pin();
  try {
    let held: Uint8Array | undefined;
    for await (const bytes of fileOf(chunksOf(view, header, host), host)) {
      if (held !== undefined) {
        remainingBytes = Math.max(1, remainingBytes - held.length);
        yield { bytes: held, remainingBytes };
      }
      held = bytes;
    }
    if (held !== undefined) yield { bytes: held, remainingBytes: 0 };
  } finally {
    view.release();
  }
}
