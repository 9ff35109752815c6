/**
 * The services' answers turned into etcd's reply messages: for the JSON gateway, and for replies
 * that aren't hot.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type AlarmResponseSchema,
  AlarmType,
  type MemberSchema,
  type RangeResponseSchema,
  type ResponseHeaderSchema,
  type ResponseOpSchema,
  type StatusResponseSchema,
  type WatchResponseSchema,
} from "../../api/gen/etcdserverpb/rpc_pb.js";
import { Event_EventType, type KeyValueSchema } from "../../api/gen/mvccpb/kv_pb.js";
import type { KeyValue, RangeResult } from "../../mvcc/types.ts";
import {
  ETCD_STORAGE_VERSION,
  ETCD_VERSION,
  type Header,
  type Member,
  type OpResult,
  type PeerStatus,
  type WatchResponse,
} from "../services.ts";

export function headerMessage(header: Header): MessageInitShape<typeof ResponseHeaderSchema> {
  return {
    clusterId: header.clusterId,
    memberId: header.memberId,
    revision: BigInt(header.revision),
    raftTerm: BigInt(header.raftTerm),
  };
}

/** Cluster's replies carry no revision. */
export function headerWithoutRevision(
  header: Header,
): MessageInitShape<typeof ResponseHeaderSchema> {
  return { ...headerMessage(header), revision: 0n };
}

export function keyValueMessage(kv: KeyValue): MessageInitShape<typeof KeyValueSchema> {
  return {
    key: kv.key,
    value: kv.value,
    createRevision: BigInt(kv.createRevision),
    modRevision: BigInt(kv.modRevision),
    version: BigInt(kv.version),
    lease: kv.lease,
  };
}

export function rangeMessage(
  header: MessageInitShape<typeof ResponseHeaderSchema>,
  result: RangeResult,
): MessageInitShape<typeof RangeResponseSchema> {
  return {
    header,
    kvs: result.kvs.map(keyValueMessage),
    more: result.more,
    count: BigInt(result.count),
  };
}

/**
 * Inside a transaction headers have the revision alone, and those of nested transactions nothing.
 */
export function opResultMessage(result: OpResult): MessageInitShape<typeof ResponseOpSchema> {
  if (result.kind === "txn") {
    const value = {
      header: {},
      succeeded: result.succeeded,
      responses: result.results.map(opResultMessage),
    };
    return { response: { case: "responseTxn", value } };
  }
  const header = { revision: BigInt(result.revision) };
  switch (result.kind) {
    case "put": {
      const value =
        result.previous === undefined
          ? { header }
          : { header, prevKv: keyValueMessage(result.previous) };
      return { response: { case: "responsePut", value } };
    }
    case "deleteRange": {
      const value = {
        header,
        deleted: BigInt(result.deleted),
        prevKvs: result.previous.map(keyValueMessage),
      };
      return { response: { case: "responseDeleteRange", value } };
    }
    default:
      return { response: { case: "responseRange", value: rangeMessage(header, result.result) } };
  }
}

export function watchMessage(
  response: WatchResponse,
): MessageInitShape<typeof WatchResponseSchema> {
  return {
    header: headerMessage(response.header),
    watchId: response.watchId,
    created: response.created,
    canceled: response.canceled,
    compactRevision: BigInt(response.compactRevision),
    cancelReason: response.cancelReason,
    fragment: response.fragment,
    events: response.events.map((event) => ({
      type: event.type === "delete" ? Event_EventType.DELETE : Event_EventType.PUT,
      kv: keyValueMessage(event.kv),
      ...(event.previous === undefined ? {} : { prevKv: keyValueMessage(event.previous) }),
    })),
  };
}

export function memberMessage(member: Member): MessageInitShape<typeof MemberSchema> {
  return {
    ID: member.id,
    name: member.name,
    peerURLs: [...member.peerUrls],
    clientURLs: [...member.clientUrls],
    isLearner: member.isLearner,
  };
}

export function statusMessage(status: PeerStatus): MessageInitShape<typeof StatusResponseSchema> {
  return {
    header: headerMessage(status.header),
    version: ETCD_VERSION,
    dbSize: BigInt(status.dbSize),
    leader: status.leader,
    raftIndex: BigInt(status.raftIndex),
    raftTerm: BigInt(status.raftTerm),
    raftAppliedIndex: BigInt(status.raftAppliedIndex),
    errors: [...status.errors],
    dbSizeInUse: BigInt(status.dbSizeInUse),
    isLearner: status.isLearner,
    storageVersion: ETCD_STORAGE_VERSION,
    dbSizeQuota: BigInt(status.dbSizeQuota),
    downgradeInfo: {},
  };
}

export function alarmMessage(answer: {
  header: Header;
  alarms: PeerStatus["alarms"];
}): MessageInitShape<typeof AlarmResponseSchema> {
  return {
    header: headerMessage(answer.header),
    alarms: answer.alarms.map(({ member, alarm }) => ({
      memberID: member,
      alarm: alarm === "nospace" ? AlarmType.NOSPACE : AlarmType.CORRUPT,
    })),
  };
}
