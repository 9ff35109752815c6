/**
 * What a write weighs: its protobuf bytes, which the request limit counts whatever the door, and its cost against the
 * quota. Both are etcd's figures (raft_request size; quota.go).
 */
import type { Op, PutOp, TxnOp } from "../../wire/command.ts";

/** Header and framing of etcd's `InternalRaftRequest` around the request. */
const ENVELOPE_BYTES = 24;
/** Tag and length of one nested message or byte string, at their usual sizes. */
const FIELD_BYTES = 4;
const NUMBER_BYTES = 10;

/** The request's protobuf bytes, at most a few per field too many. */
export function requestBytes(op: Op): number {
  return ENVELOPE_BYTES + opBytes(op);
}

function opBytes(op: Op): number {
  switch (op.kind) {
    case "put":
      return 2 * FIELD_BYTES + op.key.length + op.value.length + NUMBER_BYTES;
    case "txn": {
      let total = 0;
      for (const compare of op.compares) {
        const { key, rangeEnd, operand } = compare;
        const operandBytes = typeof operand === "bigint" ? NUMBER_BYTES : operand.length;
        total += 4 * FIELD_BYTES + key.length + rangeEnd.length + operandBytes;
      }
      for (const each of op.success) total += FIELD_BYTES + opBytes(each);
      for (const each of op.failure) total += FIELD_BYTES + opBytes(each);
      return total;
    }
    default:
      return 2 * FIELD_BYTES + op.key.length + op.rangeEnd.length;
  }
}

/** Per put, beside key and value; per lease. */
const PUT_OVERHEAD_BYTES = 256;
export const LEASE_COST_BYTES = 64;

/** Bytes that a put may add to the store. */
export function putCost(op: PutOp): number {
  return PUT_OVERHEAD_BYTES + op.key.length + op.value.length;
}

/** Bytes that a transaction may add: those of its dearer branch. 0: it can't grow the store. */
export function txnCost(txn: TxnOp): number {
  const cost = (ops: readonly Op[]): number => {
    let total = 0;
    for (const op of ops) {
      if (op.kind === "put") total += putCost(op);
      else if (op.kind === "txn") total += txnCost(op);
    }
    return total;
  };
  return Math.max(cost(txn.success), cost(txn.failure));
}
