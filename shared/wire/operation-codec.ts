/**
 * The bytes of the key-value operations inside a log entry; `command-codec.ts` says what numbers, bytes and ids look
 * like.
 *
 *   put          bits (1 previousKv, 2 ignoreValue, 4 ignoreLease, 8 a lease follows), key, value, [lease id]
 *   deleteRange  bits (1 previousKv), key, rangeEnd
 *   range        bits (1 keysOnly, 2 countOnly, 4 plain: nothing follows the rangeEnd), key, rangeEnd,
 *                [byte sortOrder, byte sortTarget, signed numbers: revision, limit, min and max modRevision,
 *                min and max createRevision]
 *   txn          compares, success, failure: lists; an operation is its kind, then itself
 *                (1 put, 2 deleteRange, 3 range, 4 txn)
 *   compare      byte target, byte result, key, rangeEnd, bytes (value) or id (all others)
 *
 * Depth and counts were checked before the proposal; the reader checks the depth again, as its own stack depends on
 * it.
 */
import type { ByteReader } from "../base/byte-reader.ts";
import { MalformedError } from "../base/byte-reader.ts";
import type { ByteWriter } from "../base/byte-writer.ts";
import { LIMITS } from "../base/limits.ts";
import type { Compare, DeleteRangeOp, Op, PutOp, RangeOp, TxnOp } from "./command.ts";

const TARGETS = ["version", "create", "mod", "value", "lease"] as const;
const RESULTS = ["equal", "greater", "less", "notEqual"] as const;
const SORT_ORDERS = ["none", "ascend", "descend"] as const;
const SORT_TARGETS = ["key", "version", "create", "mod", "value"] as const;
const KINDS = { put: 1, deleteRange: 2, range: 3, txn: 4 } as const;

export function writePut(to: ByteWriter, op: PutOp): void {
  to.byte(
    (op.previousKv ? 1 : 0) |
      (op.ignoreValue ? 2 : 0) |
      (op.ignoreLease ? 4 : 0) |
      (op.lease === 0n ? 0 : 8),
  );
  to.bytes(op.key);
  to.bytes(op.value);
  if (op.lease !== 0n) to.fixed64(op.lease);
}

export function readPut(from: ByteReader): PutOp {
  const bits = readBits(from, 15);
  return {
    kind: "put",
    key: from.bytes(),
    value: from.bytes(),
    lease: (bits & 8) === 0 ? 0n : from.int64(),
    previousKv: (bits & 1) !== 0,
    ignoreValue: (bits & 2) !== 0,
    ignoreLease: (bits & 4) !== 0,
  };
}

export function writeDeleteRange(to: ByteWriter, op: DeleteRangeOp): void {
  to.byte(op.previousKv ? 1 : 0);
  to.bytes(op.key);
  to.bytes(op.rangeEnd);
}

export function readDeleteRange(from: ByteReader): DeleteRangeOp {
  const bits = readBits(from, 1);
  return {
    kind: "deleteRange",
    key: from.bytes(),
    rangeEnd: from.bytes(),
    previousKv: bits !== 0,
  };
}

function isPlain(op: RangeOp): boolean {
  return (
    op.sortOrder === "none" &&
    op.sortTarget === "key" &&
    op.revision === 0 &&
    op.limit === 0 &&
    op.minModRevision === 0 &&
    op.maxModRevision === 0 &&
    op.minCreateRevision === 0 &&
    op.maxCreateRevision === 0
  );
}

function writeRange(to: ByteWriter, op: RangeOp): void {
  const plain = isPlain(op);
  to.byte((op.keysOnly ? 1 : 0) | (op.countOnly ? 2 : 0) | (plain ? 4 : 0));
  to.bytes(op.key);
  to.bytes(op.rangeEnd);
  if (plain) return;
  to.byte(SORT_ORDERS.indexOf(op.sortOrder));
  to.byte(SORT_TARGETS.indexOf(op.sortTarget));
  to.signedVarint(op.revision);
  to.signedVarint(op.limit);
  to.signedVarint(op.minModRevision);
  to.signedVarint(op.maxModRevision);
  to.signedVarint(op.minCreateRevision);
  to.signedVarint(op.maxCreateRevision);
}

function readRange(from: ByteReader): RangeOp {
  const bits = readBits(from, 7);
  const key = from.bytes();
  const rangeEnd = from.bytes();
  const plain = (bits & 4) !== 0;
  const signed = () => (plain ? 0 : from.signedVarint());
  return {
    kind: "range",
    key,
    rangeEnd,
    sortOrder: plain ? "none" : readName(from, SORT_ORDERS),
    sortTarget: plain ? "key" : readName(from, SORT_TARGETS),
    revision: signed(),
    limit: signed(),
    minModRevision: signed(),
    maxModRevision: signed(),
    minCreateRevision: signed(),
    maxCreateRevision: signed(),
    keysOnly: (bits & 1) !== 0,
    countOnly: (bits & 2) !== 0,
  };
}

export function writeTxn(to: ByteWriter, txn: TxnOp): void {
  to.varint(txn.compares.length);
  for (const compare of txn.compares) writeCompare(to, compare);
  to.varint(txn.success.length);
  for (const op of txn.success) writeOp(to, op);
  to.varint(txn.failure.length);
  for (const op of txn.failure) writeOp(to, op);
}

/** `depth`: 1 for the outermost transaction. */
export function readTxn(from: ByteReader, depth: number): TxnOp {
  if (depth > LIMITS.txnDepthMax) throw new MalformedError(`transactions nest past ${depth - 1}`);
  const compares: Compare[] = [];
  for (let count = from.varint(); count > 0; count -= 1) compares.push(readCompare(from));
  const success = readOps(from, depth);
  return { kind: "txn", compares, success, failure: readOps(from, depth) };
}

function readOps(from: ByteReader, depth: number): Op[] {
  const ops: Op[] = [];
  for (let count = from.varint(); count > 0; count -= 1) ops.push(readOp(from, depth));
  return ops;
}

function writeOp(to: ByteWriter, op: Op): void {
  to.byte(KINDS[op.kind]);
  switch (op.kind) {
    case "put":
      return writePut(to, op);
    case "deleteRange":
      return writeDeleteRange(to, op);
    case "range":
      return writeRange(to, op);
    default:
      return writeTxn(to, op);
  }
}

function readOp(from: ByteReader, depth: number): Op {
  const kind = from.byte();
  switch (kind) {
    case KINDS.put:
      return readPut(from);
    case KINDS.deleteRange:
      return readDeleteRange(from);
    case KINDS.range:
      return readRange(from);
    case KINDS.txn:
      return readTxn(from, depth + 1);
    default:
      throw new MalformedError(`an operation of unknown kind ${kind}`);
  }
}

function writeCompare(to: ByteWriter, compare: Compare): void {
  to.byte(TARGETS.indexOf(compare.target));
  to.byte(RESULTS.indexOf(compare.result));
  to.bytes(compare.key);
  to.bytes(compare.rangeEnd);
  if (typeof compare.operand === "bigint") to.fixed64(compare.operand);
  else to.bytes(compare.operand);
}

function readCompare(from: ByteReader): Compare {
  const target = readName(from, TARGETS);
  return {
    target,
    result: readName(from, RESULTS),
    key: from.bytes(),
    rangeEnd: from.bytes(),
    operand: target === "value" ? from.bytes() : from.int64(),
  };
}

function readBits(from: ByteReader, known: number): number {
  const bits = from.byte();
  if ((bits & ~known) !== 0) throw new MalformedError(`unknown option bits ${bits}`);
  return bits;
}

function readName<Name>(from: ByteReader, names: readonly Name[]): Name {
  const position = from.byte();
  const name = names[position];
  if (name === undefined) throw new MalformedError(`unknown name ${position}`);
  return name;
}
