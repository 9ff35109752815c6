/**
 * Byte layout of the link's values, each a CBOR array (`link-codec.ts` has the frames around
 * them). Numbers in flags are bits; ids are 8 bytes (0 for none).
 *
 *   key-value  [key, value, createRevision, modRevision, version, lease]
 *   range      [0, key, rangeEnd, revision, limit, flags, minMod, maxMod, minCreate, maxCreate]
 *              flags: 1 keysOnly, 2 countOnly, then 4 * sortOrder (0 to 2), then 16 * sortTarget (0 to 4)
 *   put        [1, key, value, lease, flags]           flags: 1 previousKv, 2 ignoreValue, 4 ignoreLease
 *   delete     [2, key, rangeEnd, flags]               flags: 1 previousKv
 *   txn        [3, [compare...], [op...], [op...]]
 *   compare    [target, result, key, rangeEnd, operand]    operand: bytes for "value", else 64 bits
 *   results    range [0, revision, [kv...], count, more], put [1, revision, kv|null],
 *              delete [2, revision, deleted, [kv...]], txn [3, succeeded, [result...]]
 *   event      [isDelete, key-value, previous|null]
 *   failure    [status, message, code|null, outcomeIsUnknown, retryable]
 */
import * as LIMITS from "../base/link-limits.ts";
import { WireError } from "./cbor.ts";
import {
  bytesOf,
  countOf,
  encodeInt64,
  int64Of,
  integerOf,
  listOf,
  nameOf,
  optionalText,
  textOfField,
} from "./cbor-fields.ts";
import type { Fields } from "./cbor-fields.ts";
import type { Compare, Op, RangeOp, TxnOp } from "./command.ts";
import type {
  LinkEvent,
  LinkFailure,
  LinkKeyValue,
  LinkOpResult,
  LinkRangeResult,
} from "./link.ts";

const SORT_ORDERS = ["none", "ascend", "descend"] as const;
const SORT_TARGETS = ["key", "version", "create", "mod", "value"] as const;
const COMPARE_TARGETS = ["version", "create", "mod", "value", "lease"] as const;
const COMPARE_RESULTS = ["equal", "greater", "less", "notEqual"] as const;
const OP_KINDS = ["range", "put", "deleteRange", "txn"] as const;

export function encodeKeyValue(kv: LinkKeyValue): unknown[] {
  return [kv.key, kv.value, kv.createRevision, kv.modRevision, kv.version, encodeInt64(kv.lease)];
}

export function keyValueOf(value: unknown): LinkKeyValue {
  const fields = listOf(value);
  return {
    key: bytesOf(fields[0]),
    value: bytesOf(fields[1]),
    createRevision: countOf(fields[2]),
    modRevision: countOf(fields[3]),
    version: countOf(fields[4]),
    lease: int64Of(fields[5]),
  };
}

function optionalKeyValue(value: unknown): LinkKeyValue | undefined {
  return value === null || value === undefined ? undefined : keyValueOf(value);
}

function encodeOptional(kv: LinkKeyValue | undefined): unknown[] | null {
  return kv === undefined ? null : encodeKeyValue(kv);
}

export function encodeOp(op: Op): unknown[] {
  switch (op.kind) {
    case "range":
      return encodeRange(op);
    case "put": {
      const flags = (op.previousKv ? 1 : 0) | (op.ignoreValue ? 2 : 0) | (op.ignoreLease ? 4 : 0);
      return [1, op.key, op.value, encodeInt64(op.lease), flags];
    }
    case "deleteRange":
      return [2, op.key, op.rangeEnd, op.previousKv ? 1 : 0];
    case "txn":
      return [
        3,
        op.compares.map(encodeCompare),
        op.success.map(encodeOp),
        op.failure.map(encodeOp),
      ];
  }
}

function encodeRange(op: RangeOp): unknown[] {
  const flags =
    (op.keysOnly ? 1 : 0) |
    (op.countOnly ? 2 : 0) |
    (SORT_ORDERS.indexOf(op.sortOrder) * 4) |
    (SORT_TARGETS.indexOf(op.sortTarget) * 16);
  return [
    0,
    op.key,
    op.rangeEnd,
    op.revision,
    op.limit,
    flags,
    op.minModRevision,
    op.maxModRevision,
    op.minCreateRevision,
    op.maxCreateRevision,
  ];
}

export function opOf(value: unknown, depth = 0): Op {
  const fields = listOf(value, "operation");
  const kind = nameOf(fields[0], OP_KINDS, "operation's kind");
  switch (kind) {
    case "range":
      return rangeOf(fields);
    case "put": {
      const flags = countOf(fields[4], "put flags");
      return {
        kind,
        key: bytesOf(fields[1], "key"),
        value: bytesOf(fields[2], "value"),
        lease: int64Of(fields[3], "lease"),
        previousKv: (flags & 1) !== 0,
        ignoreValue: (flags & 2) !== 0,
        ignoreLease: (flags & 4) !== 0,
      };
    }
    case "deleteRange":
      return {
        kind,
        key: bytesOf(fields[1], "key"),
        rangeEnd: bytesOf(fields[2], "rangeEnd"),
        previousKv: (countOf(fields[3], "delete flags") & 1) !== 0,
      };
    case "txn":
      return txnOf(fields, depth);
  }
}

function rangeOf(fields: Fields): RangeOp {
  const flags = countOf(fields[5], "range flags");
  return {
    kind: "range",
    key: bytesOf(fields[1], "key"),
    rangeEnd: bytesOf(fields[2], "rangeEnd"),
    revision: integerOf(fields[3], "revision"),
    limit: integerOf(fields[4], "limit"),
    keysOnly: (flags & 1) !== 0,
    countOnly: (flags & 2) !== 0,
    sortOrder: nameOf((flags >> 2) & 3, SORT_ORDERS, "sortOrder"),
    sortTarget: nameOf((flags >> 4) & 7, SORT_TARGETS, "sortTarget"),
    minModRevision: integerOf(fields[6], "minModRevision"),
    maxModRevision: integerOf(fields[7], "maxModRevision"),
    minCreateRevision: integerOf(fields[8], "minCreateRevision"),
    maxCreateRevision: integerOf(fields[9], "maxCreateRevision"),
  };
}

function txnOf(fields: Fields, depth: number): TxnOp {
  if (depth >= LIMITS.txnDepthMax) throw new WireError("transactions nest too deeply");
  const ops = (value: unknown): Op[] =>
    listOf(value, "operations").map((op) => opOf(op, depth + 1));
  return {
    kind: "txn",
    compares: listOf(fields[1], "compares").map(compareOf),
    success: ops(fields[2]),
    failure: ops(fields[3]),
  };
}

function encodeCompare(compare: Compare): unknown[] {
  return [
    COMPARE_TARGETS.indexOf(compare.target),
    COMPARE_RESULTS.indexOf(compare.result),
    compare.key,
    compare.rangeEnd,
    typeof compare.operand === "bigint" ? encodeInt64(compare.operand) : compare.operand,
  ];
}

function compareOf(value: unknown): Compare {
  const fields = listOf(value, "compare");
  const target = nameOf(fields[0], COMPARE_TARGETS, "compare's target");
  return {
    target,
    result: nameOf(fields[1], COMPARE_RESULTS, "compare's result"),
    key: bytesOf(fields[2], "compare's key"),
    rangeEnd: bytesOf(fields[3], "compare's rangeEnd"),
    operand: target === "value" ? bytesOf(fields[4], "operand") : int64Of(fields[4], "operand"),
  };
}

export function encodeRangeResult(result: LinkRangeResult): unknown[] {
  return [result.kvs.map(encodeKeyValue), result.count, result.more];
}

/** `start`: where the three items of a range's result stand in `fields`. */
export function rangeResultOf(fields: Fields, start: number): LinkRangeResult {
  return {
    kvs: listOf(fields[start]).map(keyValueOf),
    count: countOf(fields[start + 1]),
    more: fields[start + 2] === true,
  };
}

export function encodeOpResult(result: LinkOpResult): unknown[] {
  switch (result.kind) {
    case "range":
      return [0, result.revision, ...encodeRangeResult(result.result)];
    case "put":
      return [1, result.revision, encodeOptional(result.previous)];
    case "deleteRange":
      return [2, result.revision, result.deleted, result.previous.map(encodeKeyValue)];
    case "txn":
      return [3, result.succeeded, result.results.map(encodeOpResult)];
  }
}

export function opResultOf(value: unknown): LinkOpResult {
  const fields = listOf(value);
  const kind = nameOf(fields[0], OP_KINDS, "result's kind");
  if (kind === "txn") {
    const results = listOf(fields[2]).map(opResultOf);
    return { kind, succeeded: fields[1] === true, results };
  }
  const revision = countOf(fields[1]);
  switch (kind) {
    case "range":
      return { kind, revision, result: rangeResultOf(fields, 2) };
    case "put":
      return { kind, revision, previous: optionalKeyValue(fields[2]) };
    case "deleteRange": {
      const previous = listOf(fields[3]).map(keyValueOf);
      return { kind, revision, deleted: countOf(fields[2]), previous };
    }
  }
}

export function encodeEvent(event: LinkEvent): unknown[] {
  return [event.type === "delete", encodeKeyValue(event.kv), encodeOptional(event.previous)];
}

export function eventOf(value: unknown): LinkEvent {
  const fields = listOf(value);
  return {
    type: fields[0] === true ? "delete" : "put",
    kv: keyValueOf(fields[1]),
    previous: optionalKeyValue(fields[2]),
  };
}

export function encodeFailure(failure: LinkFailure): unknown[] {
  const { status, message, code, outcome, retryable } = failure;
  return [status, message, code ?? null, outcome === "unknown", retryable];
}

export function failureOf(value: unknown): LinkFailure {
  const fields = listOf(value);
  return {
    status: textOfField(fields[0]),
    message: textOfField(fields[1]),
    code: optionalText(fields[2]),
    outcome: fields[3] === true ? "unknown" : "none",
    retryable: fields[4] === true,
  };
}
