/**
 * The conditions of transactions. All of them, nested ones too, are decided on the state before the transaction's
 * first write; the outcome is a tree of branches that the execution then follows.
 */
import { compareBytes, EMPTY } from "../../base/bytes.ts";
import type { Bytes } from "../../base/bytes.ts";
import { wholeRange } from "../../mvcc/types.ts";
import type { KeyValue, MvccRefusal, RangeQuery, RangeResult } from "../../mvcc/types.ts";
import type { Compare, Op, TxnOp } from "../../wire/command.ts";

/** What conditions and read-only operations need of a store, or of a transaction under way. */
export interface ReadView {
  get(key: Bytes): KeyValue | undefined;
  range(query: RangeQuery): RangeResult | MvccRefusal;
}

/** The branch that a transaction takes, and the paths of the transactions nested in it, in their order. */
export interface TxnPath {
  readonly txn: TxnOp;
  readonly succeeded: boolean;
  readonly nested: readonly TxnPath[];
}

/** The operations of the branch taken. */
export function chosenOps(path: TxnPath): readonly Op[] {
  return path.succeeded ? path.txn.success : path.txn.failure;
}

export function decidePath(txn: TxnOp, view: ReadView): TxnPath {
  const succeeded = txn.compares.every((compare) => holds(compare, view));
  const ops = succeeded ? txn.success : txn.failure;
  const nested: TxnPath[] = [];
  for (const op of ops) if (op.kind === "txn") nested.push(decidePath(op, view));
  return { txn, succeeded, nested };
}

const ABSENT: KeyValue = {
  key: EMPTY,
  value: EMPTY,
  createRevision: 0,
  modRevision: 0,
  version: 0,
  lease: 0n,
};

/**
 * Every key of the range satisfies it. What is absent compares as zeros, but never satisfies a condition on the
 * value.
 */
function holds(compare: Compare, view: ReadView): boolean {
  if (compare.rangeEnd.length === 0) {
    const kv = view.get(compare.key);
    return kv === undefined ? holdsAbsent(compare) : holdsFor(compare, kv);
  }
  const found = view.range(wholeRange(compare.key, compare.rangeEnd));
  if ("code" in found) return false;
  return found.kvs.length === 0
    ? holdsAbsent(compare)
    : found.kvs.every((kv) => holdsFor(compare, kv));
}

function holdsAbsent(compare: Compare): boolean {
  return compare.target !== "value" && holdsFor(compare, ABSENT);
}

function holdsFor(compare: Compare, kv: KeyValue): boolean {
  const order = orderOf(compare, kv);
  switch (compare.result) {
    case "equal":
      return order === 0;
    case "notEqual":
      return order !== 0;
    case "greater":
      return order > 0;
    default:
      return order < 0;
  }
}

/** How the key's side sorts against the operand. */
function orderOf(compare: Compare, kv: KeyValue): number {
  const { operand } = compare;
  if (typeof operand !== "bigint") return compareBytes(kv.value, operand);
  const actual = numberOf(compare, kv);
  return actual === operand ? 0 : actual < operand ? -1 : 1;
}

function numberOf(compare: Compare, kv: KeyValue): bigint {
  switch (compare.target) {
    case "version":
      return BigInt(kv.version);
    case "create":
      return BigInt(kv.createRevision);
    case "mod":
      return BigInt(kv.modRevision);
    default:
      return kv.lease;
  }
}
