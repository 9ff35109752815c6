/**
 * The hand-written decoder of Txn, in the manner of `decode.ts`: flat transactions of compares, ranges, puts and
 * deletions as clients' locks, elections and compare-and-set write them. Nested ones, and compares of ranges, are left
 * to protobuf-es.
 */
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  type Compare,
  type DeleteRangeRequest,
  type RequestOp,
  type TxnRequest,
} from "../../api/gen/etcdserverpb/rpc_pb.js";
import { LENGTH_DELIMITED, VARINT, WireReader } from "../../api/wire-format.ts";
import { EMPTY, type Bytes } from "../../base/bytes.ts";
import { decodePutRequest, decodeRangeRequest } from "./decode.ts";

const data = (field: number): number => (field << 3) | LENGTH_DELIMITED;
const varint = (field: number): number => (field << 3) | VARINT;

const TXN = { compare: data(1), success: data(2), failure: data(3) } as const;

/** Undefined: these bytes are left to protobuf-es. */
export function decodeTxnRequest(bytes: Bytes): TxnRequest | undefined {
  const reader = new WireReader(bytes);
  const message: TxnRequest = {
    $typeName: "etcdserverpb.TxnRequest",
    compare: [],
    success: [],
    failure: [],
  };
  while (reader.hasField) {
    const tag = reader.small();
    if (tag === TXN.compare) {
      const compare = decodeCompare(reader.data());
      if (compare === undefined) return undefined;
      message.compare.push(compare);
    } else if (tag === TXN.success || tag === TXN.failure) {
      const operation = decodeRequestOp(reader.data());
      if (operation === undefined) return undefined;
      (tag === TXN.success ? message.success : message.failure).push(operation);
    } else return undefined;
  }
  return reader.isUsual ? message : undefined;
}

const RESULTS: readonly Compare_CompareResult[] = [
  Compare_CompareResult.EQUAL,
  Compare_CompareResult.GREATER,
  Compare_CompareResult.LESS,
  Compare_CompareResult.NOT_EQUAL,
];
const TARGETS: readonly Compare_CompareTarget[] = [
  Compare_CompareTarget.VERSION,
  Compare_CompareTarget.CREATE,
  Compare_CompareTarget.MOD,
  Compare_CompareTarget.VALUE,
  Compare_CompareTarget.LEASE,
];

const COMPARE = {
  result: varint(1),
  target: varint(2),
  key: data(3),
  version: varint(4),
  createRevision: varint(5),
  modRevision: varint(6),
  value: data(7),
  lease: varint(8),
} as const;

function decodeCompare(bytes: Bytes): Compare | undefined {
  const reader = new WireReader(bytes);
  const message: Compare = {
    $typeName: "etcdserverpb.Compare",
    result: Compare_CompareResult.EQUAL,
    target: Compare_CompareTarget.VERSION,
    key: EMPTY,
    targetUnion: { case: undefined },
    rangeEnd: EMPTY,
  };
  while (reader.hasField) {
    const tag = reader.small();
    if (tag === COMPARE.result) {
      const result = RESULTS[reader.small()];
      if (result === undefined) return undefined;
      message.result = result;
    } else if (tag === COMPARE.target) {
      const target = TARGETS[reader.small()];
      if (target === undefined) return undefined;
      message.target = target;
    } else if (tag === COMPARE.key) message.key = reader.data();
    else if (tag === COMPARE.value) message.targetUnion = { case: "value", value: reader.data() };
    else {
      const name = numberCase(tag);
      if (name === undefined) return undefined;
      message.targetUnion = { case: name, value: reader.int64() };
    }
  }
  return reader.isUsual ? message : undefined;
}

function numberCase(
  tag: number,
): "version" | "createRevision" | "modRevision" | "lease" | undefined {
  switch (tag) {
    case COMPARE.version:
      return "version";
    case COMPARE.createRevision:
      return "createRevision";
    case COMPARE.modRevision:
      return "modRevision";
    default:
      return tag === COMPARE.lease ? "lease" : undefined;
  }
}

const OPERATION = { range: data(1), put: data(2), deleteRange: data(3) } as const;

/** One operation and nothing else: a second one would have to be merged with it. */
function decodeRequestOp(bytes: Bytes): RequestOp | undefined {
  const reader = new WireReader(bytes);
  const tag = reader.small();
  const request = decodeOperation(tag, reader.data());
  if (request === undefined || !reader.isUsual || reader.hasField) return undefined;
  return { $typeName: "etcdserverpb.RequestOp", request };
}

function decodeOperation(tag: number, bytes: Bytes): RequestOp["request"] | undefined {
  if (tag === OPERATION.put) {
    const value = decodePutRequest(bytes);
    return value && { case: "requestPut", value };
  }
  if (tag === OPERATION.range) {
    const value = decodeRangeRequest(bytes);
    return value && { case: "requestRange", value };
  }
  if (tag !== OPERATION.deleteRange) return undefined;
  const value = decodeDeleteRange(bytes);
  return value && { case: "requestDeleteRange", value };
}

const DELETE = { key: data(1), rangeEnd: data(2), prevKv: varint(3) } as const;

function decodeDeleteRange(bytes: Bytes): DeleteRangeRequest | undefined {
  const reader = new WireReader(bytes);
  const message: DeleteRangeRequest = {
    $typeName: "etcdserverpb.DeleteRangeRequest",
    key: EMPTY,
    rangeEnd: EMPTY,
    prevKv: false,
  };
  while (reader.hasField) {
    const tag = reader.small();
    if (tag === DELETE.key) message.key = reader.data();
    else if (tag === DELETE.rangeEnd) message.rangeEnd = reader.data();
    else if (tag === DELETE.prevKv) message.prevKv = reader.flag();
    else return undefined;
  }
  return reader.isUsual ? message : undefined;
}
