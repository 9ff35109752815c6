/** The methods of etcdserverpb.Maintenance. */
import {
  DowngradeRequest_DowngradeAction,
  Maintenance,
} from "../../api/gen/etcdserverpb/rpc_pb.js";
import { ETCD_STORAGE_VERSION, type MaintenanceService, type SnapshotPart } from "../services.ts";
import { streaming, unary, type AnswerSink, type ProtoMethod } from "./method.ts";
import { pullStream } from "./pull-stream.ts";
import { alarmMessage, headerMessage, statusMessage } from "./replies.ts";
import { alarmChangeOf, clampToSafe } from "./requests.ts";

const { VALIDATE, ENABLE } = DowngradeRequest_DowngradeAction;

export function maintenanceMethods(
  maintenance: MaintenanceService,
): Readonly<Record<string, ProtoMethod>> {
  const { method } = Maintenance;
  return {
    Alarm: unary(method.alarm, (request, call) => maintenance.alarm(alarmChangeOf(request), call), {
      message: alarmMessage,
    }),
    Status: unary(method.status, (_request, call) => maintenance.status(call), {
      message: statusMessage,
    }),
    Defragment: unary(method.defragment, (_request, call) => maintenance.defragment(call), {
      message: () => ({}),
    }),
    Hash: unary(method.hash, (_request, call) => maintenance.hash(call), {
      message: ({ header, hash }) => ({ header: headerMessage(header), hash }),
    }),
    HashKV: unary(
      method.hashKV,
      ({ revision }, call) => maintenance.hashKv(clampToSafe(revision), call),
      {
        message: (answer) => ({
          header: headerMessage(answer.header),
          hash: answer.hash,
          compactRevision: BigInt(answer.compactRevision),
          hashRevision: BigInt(answer.hashRevision),
        }),
      },
    ),
    Snapshot: streaming(
      "serverStream",
      method.snapshot,
      (sink: AnswerSink<SnapshotPart>, call) => pullStream(sink, () => maintenance.snapshot(call)),
      {
        message: ({ bytes, remainingBytes }) => ({
          blob: bytes,
          remainingBytes: BigInt(remainingBytes),
          version: ETCD_STORAGE_VERSION,
        }),
      },
    ),
    // Etcd's answer has no header either.
    MoveLeader: unary(
      method.moveLeader,
      ({ targetID }, call) => maintenance.moveLeader(targetID, call),
      { message: () => ({}) },
    ),
    Downgrade: unary(
      method.downgrade,
      ({ action, version }, call) =>
        maintenance.downgrade(
          {
            action: action === VALIDATE ? "validate" : action === ENABLE ? "enable" : "cancel",
            version,
          },
          call,
        ),
      { message: ({ header, version }) => ({ header: headerMessage(header), version }) },
    ),
  };
}
