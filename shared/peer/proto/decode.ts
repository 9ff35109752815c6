/**
 * Hand-written decoders of the hot requests: Put, Range and LeaseKeepAlive. protobuf-es spends
 * microseconds on each, and allocates for every field. What they read is what encoders write;
 * anything else (sorted ranges, unknown fields, malformed bytes) is left to protobuf-es, which so
 * decides alone what is an error. Byte strings are views of the request. `test/unit/peer/proto`
 * shows that both decode alike.
 */
import {
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  type LeaseKeepAliveRequest,
  type PutRequest,
  type RangeRequest,
} from "../../api/gen/etcdserverpb/rpc_pb.js";
import { LENGTH_DELIMITED, VARINT, WireReader } from "../../api/wire-format.ts";
import { EMPTY, type Bytes } from "../../base/bytes.ts";

/** Tags: a field's number and how it is written. */
const data = (field: number): number => (field << 3) | LENGTH_DELIMITED;
const varint = (field: number): number => (field << 3) | VARINT;

const PUT = {
  key: data(1),
  value: data(2),
  lease: varint(3),
  prevKv: varint(4),
  ignoreValue: varint(5),
  ignoreLease: varint(6),
} as const;

export function decodePutRequest(bytes: Bytes): PutRequest | undefined {
  const reader = new WireReader(bytes);
  const message: PutRequest = {
    $typeName: "etcdserverpb.PutRequest",
    key: EMPTY,
    value: EMPTY,
    lease: 0n,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
  };
  while (reader.hasField) {
    const tag = reader.small();
    if (tag === PUT.key) message.key = reader.data();
    else if (tag === PUT.value) message.value = reader.data();
    else if (tag === PUT.lease) message.lease = reader.int64();
    else if (tag === PUT.prevKv) message.prevKv = reader.flag();
    else if (tag === PUT.ignoreValue) message.ignoreValue = reader.flag();
    else if (tag === PUT.ignoreLease) message.ignoreLease = reader.flag();
    else return undefined;
  }
  return reader.isUsual ? message : undefined;
}

const RANGE = {
  key: data(1),
  rangeEnd: data(2),
  limit: varint(3),
  revision: varint(4),
  serializable: varint(7),
  keysOnly: varint(8),
  countOnly: varint(9),
} as const;

export function decodeRangeRequest(bytes: Bytes): RangeRequest | undefined {
  const reader = new WireReader(bytes);
  const message: RangeRequest = {
    $typeName: "etcdserverpb.RangeRequest",
    key: EMPTY,
    rangeEnd: EMPTY,
    limit: 0n,
    revision: 0n,
    sortOrder: RangeRequest_SortOrder.NONE,
    sortTarget: RangeRequest_SortTarget.KEY,
    serializable: false,
    keysOnly: false,
    countOnly: false,
    minModRevision: 0n,
    maxModRevision: 0n,
    minCreateRevision: 0n,
    maxCreateRevision: 0n,
  };
  while (reader.hasField) {
    const tag = reader.small();
    if (tag === RANGE.key) message.key = reader.data();
    else if (tag === RANGE.rangeEnd) message.rangeEnd = reader.data();
    else if (tag === RANGE.limit) message.limit = reader.int64();
    else if (tag === RANGE.revision) message.revision = reader.int64();
    else if (tag === RANGE.serializable) message.serializable = reader.flag();
    else if (tag === RANGE.keysOnly) message.keysOnly = reader.flag();
    else if (tag === RANGE.countOnly) message.countOnly = reader.flag();
    else return undefined;
  }
  return reader.isUsual ? message : undefined;
}

export function decodeKeepAliveRequest(bytes: Bytes): LeaseKeepAliveRequest | undefined {
  const reader = new WireReader(bytes);
  const message: LeaseKeepAliveRequest = {
    $typeName: "etcdserverpb.LeaseKeepAliveRequest",
    ID: 0n,
  };
  while (reader.hasField) {
    if (reader.small() !== varint(1)) return undefined;
    message.ID = reader.int64();
  }
  return reader.isUsual ? message : undefined;
}
