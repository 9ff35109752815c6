/**
 * etcd's request messages turned into the plain values of the services. Numbers past JavaScript's
 * exact ones keep their meaning: a revision that large is a future one, a limit that large is none.
 */
import { rpcError } from "../../api/errors.ts";
import {
  AlarmRequest_AlarmAction,
  AlarmType,
  Compare_CompareResult,
  Compare_CompareTarget,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  WatchCreateRequest_FilterType,
  type AlarmRequest,
  type Compare as CompareMessage,
  type DeleteRangeRequest,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  type TxnRequest,
  type WatchCreateRequest,
} from "../../api/gen/etcdserverpb/rpc_pb.js";
import { EMPTY, type Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { Compare, DeleteRangeOp, Op, PutOp, RangeOp, TxnOp } from "../../wire/command.ts";
import type { AlarmChange, WatchCreate } from "../services.ts";

const SAFE_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/** The number, or the nearest exact one. */
export function clampToSafe(value: bigint): number {
  if (value > SAFE_MAX) return Number.MAX_SAFE_INTEGER;
  if (value < -SAFE_MAX) return -Number.MAX_SAFE_INTEGER;
  return Number(value);
}

/**
 * A copy of its own memory. Not `slice`: what Node hands in is a Buffer, whose `slice` shares the
 * network chunk.
 */
function copyOf(bytes: Bytes): Bytes {
  return new Uint8Array(bytes);
}

const SORT_ORDERS: Readonly<Record<number, RangeOp["sortOrder"]>> = {
  [RangeRequest_SortOrder.NONE]: "none",
  [RangeRequest_SortOrder.ASCEND]: "ascend",
  [RangeRequest_SortOrder.DESCEND]: "descend",
};

const SORT_TARGETS: Readonly<Record<number, RangeOp["sortTarget"]>> = {
  [RangeRequest_SortTarget.KEY]: "key",
  [RangeRequest_SortTarget.VERSION]: "version",
  [RangeRequest_SortTarget.CREATE]: "create",
  [RangeRequest_SortTarget.MOD]: "mod",
  [RangeRequest_SortTarget.VALUE]: "value",
};

export function rangeOpOf(request: RangeRequest): RangeOp {
  const sortOrder = SORT_ORDERS[request.sortOrder];
  const sortTarget = SORT_TARGETS[request.sortTarget];
  if (sortOrder === undefined || sortTarget === undefined) throw rpcError("invalidSortOption");
  return {
    kind: "range",
    key: request.key,
    rangeEnd: request.rangeEnd,
    revision: clampToSafe(request.revision),
    limit: clampToSafe(request.limit),
    sortOrder,
    sortTarget,
    keysOnly: request.keysOnly,
    countOnly: request.countOnly,
    minModRevision: clampToSafe(request.minModRevision),
    maxModRevision: clampToSafe(request.maxModRevision),
    minCreateRevision: clampToSafe(request.minCreateRevision),
    maxCreateRevision: clampToSafe(request.maxCreateRevision),
  };
}

/**
 * Key and value stay views of the request, whose chunk of input they must not hold for long: they
 * are written into a log entry at once, and read from there.
 */
export function putOpOf(request: PutRequest): PutOp {
  return {
    kind: "put",
    key: request.key,
    value: request.value,
    lease: request.lease,
    previousKv: request.prevKv,
    ignoreValue: request.ignoreValue,
    ignoreLease: request.ignoreLease,
  };
}

export function deleteRangeOpOf(request: DeleteRangeRequest): DeleteRangeOp {
  return {
    kind: "deleteRange",
    key: copyOf(request.key),
    rangeEnd: copyOf(request.rangeEnd),
    previousKv: request.prevKv,
  };
}

/**
 * Nested transactions are followed to `LIMITS.txnDepthMax`; past it there would be too many
 * operations in any case.
 */
export function txnOpOf(request: TxnRequest, depth = 1): TxnOp {
  if (depth > LIMITS.txnDepthMax) throw rpcError("tooManyOps");
  return {
    kind: "txn",
    compares: request.compare.map(compareOf),
    success: request.success.map((each) => opOf(each, depth)),
    failure: request.failure.map((each) => opOf(each, depth)),
  };
}

function opOf({ request }: RequestOp, depth: number): Op {
  switch (request.case) {
    case "requestRange":
      return rangeOpOf(request.value);
    case "requestPut":
      return putOpOf(request.value);
    case "requestDeleteRange":
      return deleteRangeOpOf(request.value);
    case "requestTxn":
      return txnOpOf(request.value, depth + 1);
    default:
      throw rpcError("keyNotFound");
  }
}

/**
 * True when all of its ranges are serializable, at least as far as its own level goes: what decides
 * for read-only ones.
 */
export function isSerializableTxn(request: TxnRequest): boolean {
  return [...request.success, ...request.failure].every(
    ({ request: each }) => each.case === "requestRange" && each.value.serializable,
  );
}

const RESULTS: Readonly<Record<number, Compare["result"]>> = {
  [Compare_CompareResult.EQUAL]: "equal",
  [Compare_CompareResult.GREATER]: "greater",
  [Compare_CompareResult.LESS]: "less",
  [Compare_CompareResult.NOT_EQUAL]: "notEqual",
};

const TARGETS: Readonly<Record<number, Exclude<Compare["target"], "value">>> = {
  [Compare_CompareTarget.VERSION]: "version",
  [Compare_CompareTarget.CREATE]: "create",
  [Compare_CompareTarget.MOD]: "mod",
  [Compare_CompareTarget.LEASE]: "lease",
};

/** Which field of the union belongs to a target; another one counts as absent, and so as zero. */
const UNION_CASES: Readonly<Record<Compare["target"], string>> = {
  version: "version",
  create: "createRevision",
  mod: "modRevision",
  value: "value",
  lease: "lease",
};

function compareOf(message: CompareMessage): Compare {
  const target = message.target === Compare_CompareTarget.VALUE ? "value" : TARGETS[message.target];
  const result = RESULTS[message.result];
  if (target === undefined || result === undefined) throw rpcError("invalidSortOption");
  return {
    target,
    result,
    key: copyOf(message.key),
    rangeEnd: copyOf(message.rangeEnd),
    operand: operandOf(message, target),
  };
}

function operandOf(message: CompareMessage, target: Compare["target"]): Bytes | bigint {
  const union = message.targetUnion;
  const value = union.case === UNION_CASES[target] ? union.value : undefined;
  if (target === "value") return value instanceof Uint8Array ? copyOf(value) : EMPTY;
  return typeof value === "bigint" ? value : 0n;
}

export function watchCreateOf(request: WatchCreateRequest): WatchCreate {
  const { NOPUT, NODELETE } = WatchCreateRequest_FilterType;
  return {
    key: copyOf(request.key),
    rangeEnd: copyOf(request.rangeEnd),
    startRevision: clampToSafe(request.startRevision),
    progressNotify: request.progressNotify,
    noPut: request.filters.includes(NOPUT),
    noDelete: request.filters.includes(NODELETE),
    previousKv: request.prevKv,
    watchId: request.watchId,
    fragment: request.fragment,
  };
}

/** Unknown actions and kinds do as etcd's: nothing happens. */
export function alarmChangeOf({ action, memberID: member, alarm }: AlarmRequest): AlarmChange {
  return { action: ALARM_ACTIONS[action] ?? "activate", member, alarm: ALARMS[alarm] ?? "none" };
}

const ALARM_ACTIONS: Readonly<Record<number, AlarmChange["action"]>> = {
  [AlarmRequest_AlarmAction.GET]: "get",
  [AlarmRequest_AlarmAction.ACTIVATE]: "activate",
  [AlarmRequest_AlarmAction.DEACTIVATE]: "deactivate",
};

const ALARMS: Readonly<Record<number, AlarmChange["alarm"]>> = {
  [AlarmType.NOSPACE]: "nospace",
  [AlarmType.CORRUPT]: "corrupt",
};
