/**
 * How puts, deletes, ranges and transactions change the store and the leases' attachments. Runs on every peer
 * inside `Backend.apply`: the outcome depends on nothing but the entry and the replicated state. A refusal has no
 * effect at all.
 */
import type { ErrorCode } from "../../api/errors.ts";
import { assert } from "../../base/assert.ts";
import { EMPTY } from "../../base/bytes.ts";
import type { BatchWriter } from "../../backend/backend.ts";
import type { Lessor } from "../../lease/lessor.ts";
import type { MvccStore, WriteTransaction } from "../../mvcc/store.ts";
import type { KeyValue, RangeQuery } from "../../mvcc/types.ts";
import type { DeleteRangeOp, PutOp, TxnOp } from "../../wire/command.ts";
import type { OpResult } from "../services.ts";
import { chosenOps, decidePath } from "./compares.ts";
import type { ReadView, TxnPath } from "./compares.ts";
import type { OperationCounts } from "./operation-counts.ts";

export interface Refused {
  readonly kind: "refused";
  readonly code: ErrorCode;
}

/** What became of a command. `revision`: the store's afterwards. */
export type ApplyResult =
  | Refused
  | { readonly kind: "applied"; readonly revision: number; readonly result: OpResult | undefined };

export function refused(code: ErrorCode): Refused {
  return { kind: "refused", code };
}

/** What operations work on. */
export interface WriteContext {
  readonly txn: WriteTransaction;
  readonly lessor: Lessor;
  readonly writer: BatchWriter;
  readonly counts: OperationCounts;
}

/** The store's revision as of the operations so far. */
function revisionOf(txn: WriteTransaction): number {
  return txn.changed ? txn.revision : txn.revision - 1;
}

export function applyPut(op: PutOp, context: WriteContext): OpResult | Refused {
  if (op.lease !== 0n && context.lessor.lookup(op.lease) === undefined) {
    return refused("leaseNotFound");
  }
  const previous = context.txn.get(op.key);
  if ((op.ignoreValue || op.ignoreLease) && previous === undefined) return refused("keyNotFound");
  return putChecked(op, previous, context);
}

function putChecked(
  op: PutOp,
  previous: KeyValue | undefined,
  context: WriteContext,
): OpResult & { kind: "put" } {
  const { txn } = context;
  const value = op.ignoreValue ? (previous?.value ?? EMPTY) : op.value;
  const lease = op.ignoreLease ? (previous?.lease ?? 0n) : op.lease;
  const before = previous?.lease ?? 0n;
  txn.put(op.key, value, lease, previous ?? "none");
  context.counts.puts += 1;
  if (before !== lease) context.lessor.reattach(op.key, before, lease, context.writer);
  return {
    kind: "put",
    revision: txn.revision,
    previous: op.previousKv ? previous : undefined,
  };
}

export function applyDeleteRange(
  op: DeleteRangeOp,
  context: WriteContext,
): OpResult & { kind: "deleteRange" } {
  const { txn } = context;
  const previous: KeyValue[] = [];
  let deleted = 0;
  const removed = (kv: KeyValue): void => {
    deleted += 1;
    if (op.previousKv) previous.push(kv);
    if (kv.lease !== 0n) context.lessor.reattach(kv.key, kv.lease, 0n, context.writer);
  };
  if (op.rangeEnd.length > 0) {
    txn.deleteRange(op.key, op.rangeEnd, removed);
  } else {
    const kv = txn.delete(op.key);
    if (kv !== undefined) removed(kv);
  }
  context.counts.deletes += 1;
  return { kind: "deleteRange", revision: revisionOf(txn), deleted, previous };
}

export type TxnResult = OpResult & { readonly kind: "txn" };

export function applyTxn(op: TxnOp, store: MvccStore, context: WriteContext): TxnResult | Refused {
  const path = decidePath(op, context.txn);
  const refusal = checkPath(path, { store, view: context.txn, lessor: context.lessor });
  return refusal ?? runPath(path, context);
}

/** What a transaction that only reads has to read, decided on the store as it is. */
export function planReadTxn(
  op: TxnOp,
  store: MvccStore,
  lessor: Lessor,
): Refused | { readonly kind: "plan"; succeeded: boolean; ranges: readonly RangeQuery[] } {
  const path = decidePath(op, store);
  const refusal = checkPath(path, { store, view: store, lessor });
  if (refusal !== undefined) return refusal;
  const ranges = chosenOps(path).map((each) => {
    assert(each.kind === "range", "a transaction that only reads has only ranges");
    return each;
  });
  return { kind: "plan", succeeded: path.succeeded, ranges };
}

/** The checks of the chosen path, on the state before it: what passes here can't be refused half-way. */
function checkPath(
  path: TxnPath,
  state: { readonly store: MvccStore; readonly view: ReadView; readonly lessor: Lessor },
): Refused | undefined {
  for (const op of chosenOps(path)) {
    let code: ErrorCode | undefined;
    if (op.kind === "range") {
      if (op.revision === 0) continue;
      if (op.revision > state.store.revision) code = "futureRev";
      else if (op.revision < state.store.compactRevision) code = "compacted";
    } else if (op.kind === "put") {
      const needsPrevious = op.ignoreValue || op.ignoreLease;
      if (needsPrevious && state.view.get(op.key) === undefined) code = "keyNotFound";
      else if (op.lease !== 0n && state.lessor.lookup(op.lease) === undefined) {
        code = "leaseNotFound";
      }
    }
    if (code !== undefined) return refused(code);
  }
  for (const nested of path.nested) {
    const refusal = checkPath(nested, state);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

function runPath(path: TxnPath, context: WriteContext): TxnResult {
  const { txn } = context;
  const results: OpResult[] = [];
  let nested = 0;
  for (const op of chosenOps(path)) {
    switch (op.kind) {
      case "put":
        results.push(putChecked(op, txn.get(op.key), context));
        break;
      case "deleteRange":
        results.push(applyDeleteRange(op, context));
        break;
      case "range":
        results.push(readRange(op, txn, revisionOf(txn)));
        context.counts.ranges += 1;
        break;
      default:
        results.push(runPath(path.nested[nested] as TxnPath, context));
        nested += 1;
    }
  }
  assert(nested === path.nested.length, "each nested transaction has its path");
  return { kind: "txn", succeeded: path.succeeded, results };
}

function readRange(query: RangeQuery, view: ReadView, revision: number): OpResult {
  const result = view.range(query);
  assert(!("code" in result), "the range's revision was checked before the transaction ran");
  return { kind: "range", revision, result };
}
