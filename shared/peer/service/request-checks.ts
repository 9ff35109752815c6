/**
 * What a key-value request must look like before it is proposed or read; the order of the checks and their answers
 * are etcd's (v3rpc/key.go). Throws `RpcError`. Both branches of a transaction are checked, whichever will be
 * taken.
 */
import type { ErrorCode } from "../../api/errors.ts";
import { rpcError } from "../../api/errors.ts";
import type { Bytes } from "../../base/bytes.ts";
import { compareBytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { DeleteRangeOp, Op, PutOp, TxnOp } from "../../wire/command.ts";

function demand(condition: boolean, code: ErrorCode): void {
  if (!condition) throw rpcError(code);
}

export function checkKey(key: Bytes): void {
  demand(key.length > 0, "emptyKey");
}

export function checkPut(op: PutOp): void {
  checkKey(op.key);
  demand(!op.ignoreValue || op.value.length === 0, "valueProvided");
  demand(!op.ignoreLease || op.lease === 0n, "leaseProvided");
}

export function checkDeleteRange(op: DeleteRangeOp): void {
  checkKey(op.key);
}

/** `opsMax`: operations that each list may hold; what one level uses, its nested transactions lack. */
export function checkTxn(txn: TxnOp, opsMax: number): void {
  checkLists(txn, opsMax, 1);
  if (!hasConflicts(txn.success) && !hasConflicts(txn.failure)) return;
  writesOf(txn.success);
  writesOf(txn.failure);
}

function checkLists(txn: TxnOp, opsMax: number, depth: number): void {
  const { compares, success, failure } = txn;
  const count = Math.max(compares.length, success.length, failure.length);
  demand(count <= opsMax && depth <= LIMITS.txnDepthMax, "tooManyOps");
  for (const compare of compares) checkKey(compare.key);
  for (const ops of [success, failure]) {
    for (const op of ops) {
      if (op.kind === "put") checkPut(op);
      else if (op.kind === "txn") checkLists(op, opsMax - count, depth + 1);
      else checkKey(op.key);
    }
  }
}

/** False if there is at most one write, so that nothing can be written twice. */
function hasConflicts(ops: readonly Op[]): boolean {
  let writes = 0;
  for (const op of ops) {
    if (op.kind === "txn") return true;
    if (op.kind !== "range") writes += 1;
  }
  return writes > 1;
}

/** The keys that a list of operations may put, and the ranges that it may delete. */
interface Writes {
  readonly puts: Set<string>;
  readonly deletes: RangeSet;
}

/**
 * Refuses a list that may put one key twice, or put a key that it deletes. Deletes of this level are known first;
 * then come the nested transactions in order, each checked against the deletes of those before it; then this
 * level's puts. The two branches of one nested transaction exclude each other: the same put in both is fine.
 */
function writesOf(ops: readonly Op[]): Writes {
  const deletes = new RangeSet();
  const puts = new Set<string>();
  for (const op of ops) if (op.kind === "deleteRange") deletes.add(op.key, op.rangeEnd);
  for (const op of ops) {
    if (op.kind !== "txn") continue;
    const success = writesOf(op.success);
    const failure = writesOf(op.failure);
    for (const key of success.puts) {
      demand(!puts.has(key) && !deletes.has(bytesOf(key)), "duplicateKey");
    }
    for (const key of failure.puts) {
      demand(!puts.has(key) && !deletes.has(bytesOf(key)), "duplicateKey");
    }
    for (const key of success.puts) puts.add(key);
    for (const key of failure.puts) puts.add(key);
    deletes.addAll(success.deletes);
    deletes.addAll(failure.deletes);
  }
  for (const op of ops) {
    if (op.kind !== "put") continue;
    const key = stringOf(op.key);
    demand(!puts.has(key) && !deletes.has(op.key), "duplicateKey");
    puts.add(key);
  }
  return { puts, deletes };
}

/** A key as a string of one character a byte, so that a `Set` can hold it. */
function stringOf(key: Bytes): string {
  let text = "";
  for (const byte of key) text += String.fromCharCode(byte);
  return text;
}

function bytesOf(text: string): Bytes {
  const key = new Uint8Array(text.length);
  for (let position = 0; position < text.length; position += 1) {
    key[position] = text.charCodeAt(position);
  }
  return key;
}

/**
 * Half-open ranges, kept disjoint and in order, so that a lookup is a binary search. A range whose end is open (a zero
 * byte) is not held: etcd's check takes that byte for the end itself, so no put collides with such a delete.
 */
class RangeSet {
  readonly #ranges: { start: Bytes; end: Bytes }[] = [];

  add(key: Bytes, rangeEnd: Bytes): void {
    if (rangeEnd.length === 0) {
      const next = new Uint8Array(key.length + 1);
      next.set(key);
      this.#insert(key, next);
    } else if (compareBytes(key, rangeEnd) < 0) {
      this.#insert(key, rangeEnd);
    }
  }

  addAll(other: RangeSet): void {
    for (const range of other.#ranges) this.#insert(range.start, range.end);
  }

  has(key: Bytes): boolean {
    const range = this.#ranges[this.#firstEndingAfter(key)];
    return range !== undefined && compareBytes(range.start, key) <= 0;
  }

  /** The position of the first range whose end lies after `key`. */
  #firstEndingAfter(key: Bytes): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { end } = this.#ranges[middle] as { end: Bytes };
      if (compareBytes(end, key) > 0) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #insert(start: Bytes, end: Bytes): void {
    const first = this.#firstEndingAfter(start);
    let count = 0;
    let merged = { start, end };
    for (;;) {
      const next = this.#ranges[first + count];
      if (next === undefined) break;
      if (compareBytes(next.start, merged.end) > 0) break;
      merged = {
        start: compareBytes(next.start, merged.start) < 0 ? next.start : merged.start,
        end: compareBytes(next.end, merged.end) > 0 ? next.end : merged.end,
      };
      count += 1;
    }
    this.#ranges.splice(first, count, merged);
  }
}
