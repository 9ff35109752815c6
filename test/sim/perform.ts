/**
 * Requests of the simulation's clients, asked of a peer's services, and their answers in the
 * history's form.
 */
import { EMPTY, utf8 } from "../../shared/base/bytes.ts";
import { wholeRange } from "../../shared/mvcc/types.ts";
import type { RangeQuery } from "../../shared/mvcc/types.ts";
import type { CallContext, OpResult, Services } from "../../shared/peer/services.ts";
import type { DeleteRangeOp, Op, PutOp, TxnOp, WriteIdentity } from "../../shared/wire/command.ts";
import type {
  Answer,
  KeySpan,
  RangeLimits,
  Request,
  StepAnswer,
  TxnRequest,
  TxnStep,
} from "./history.ts";
import { ANY_CALL, observedKv } from "./observers.ts";

/** Asks a peer's services, and brings the answer into the history's form. */
export async function perform(
  { kv, lease }: Services,
  request: Request,
  { ttlSeconds, identity }: { ttlSeconds: number; identity: WriteIdentity | undefined },
): Promise<Answer> {
  const call: CallContext = { ...ANY_CALL, identity };
  switch (request.kind) {
    case "range": {
      const { serializable } = request;
      const query = rangeQuery(request, request.atRevision, request);
      const answer = await kv.range(query, { serializable }, ANY_CALL);
      const { header, kvs, count, more } = answer;
      return { revision: header.revision, kvs: kvs.map(observedKv), count, more };
    }
    case "put": {
      const { header } = await kv.put(putOp(request.key, request.value, request.lease), call);
      return { revision: header.revision };
    }
    case "delete": {
      const answer = await kv.deleteRange(deleteOp(request), call);
      return { revision: answer.header.revision, deleted: answer.deleted };
    }
    case "putAll": {
      const success = request.keys.map((key) => putOp(key, request.value, 0n));
      const txn: TxnOp = { kind: "txn", compares: [], success, failure: [] };
      const { header } = await kv.txn(txn, { serializable: false }, ANY_CALL);
      return { revision: header.revision };
    }
    case "swap":
      return performSwap(kv, request, call);
    case "txn": {
      const answer = await kv.txn(txnOp(request), { serializable: false }, call);
      const { header, succeeded, results } = answer;
      return { revision: header.revision, succeeded, results: results.map(stepAnswer) };
    }
    case "grant": {
      const granted = await lease.grant(
        { id: request.lease, ttlSeconds: BigInt(ttlSeconds) },
        ANY_CALL,
      );
      return { revision: granted.header.revision };
    }
    case "compact": {
      const options = { revision: request.upTo, physical: false };
      return { revision: (await kv.compact(options, ANY_CALL)).header.revision };
    }
    case "revoke": {
      const { header } = await lease.revoke(request.lease, ANY_CALL);
      return { revision: header.revision };
    }
  }
}

async function performSwap(
  kv: Services["kv"],
  request: Request & { kind: "swap" },
  call: CallContext,
): Promise<Answer> {
  const query = rangeQuery({ key: request.key, end: undefined }, 0);
  const txn: TxnOp = {
    kind: "txn",
    compares: [
      {
        target: "mod",
        result: "equal",
        key: utf8(request.key),
        rangeEnd: EMPTY,
        operand: BigInt(request.expected),
      },
    ],
    success: [putOp(request.key, request.value, 0n)],
    failure: [{ kind: "range", ...query }],
  };
  const { header, succeeded, results } = await kv.txn(txn, { serializable: false }, call);
  const [first] = results;
  const kvs = first?.kind === "range" ? first.result.kvs.map(observedKv) : [];
  return { revision: header.revision, succeeded, kvs };
}

function putOp(key: string, value: string, lease: bigint): PutOp {
  return {
    kind: "put",
    key: utf8(key),
    value: utf8(value),
    lease,
    previousKv: false,
    ignoreValue: false,
    ignoreLease: false,
  };
}

function txnOp({ compares, success, failure }: TxnRequest): TxnOp {
  return {
    kind: "txn",
    compares: compares.map(({ target, result, key, end, operand }) => ({
      target,
      result,
      key: utf8(key),
      rangeEnd: utf8(end ?? ""),
      operand: typeof operand === "string" ? utf8(operand) : BigInt(operand),
    })),
    success: success.map(op),
    failure: failure.map(op),
  };
}

function op(step: TxnStep): Op {
  switch (step.kind) {
    case "range":
      return { kind: "range", ...rangeQuery(step, 0, step) };
    case "put":
      return putOp(step.key, step.value, step.lease);
    case "delete":
      return deleteOp(step);
    case "txn":
      return txnOp(step);
  }
}

function stepAnswer(result: OpResult): StepAnswer {
  switch (result.kind) {
    case "range": {
      const { kvs, count, more } = result.result;
      return { kind: "range", kvs: kvs.map(observedKv), count, more };
    }
    case "put":
      return { kind: "put" };
    case "deleteRange":
      return { kind: "delete", deleted: result.deleted };
    case "txn": {
      const { succeeded, results } = result;
      return { kind: "txn", succeeded, results: results.map(stepAnswer) };
    }
  }
}

function deleteOp({ key, end }: KeySpan): DeleteRangeOp {
  return { kind: "deleteRange", key: utf8(key), rangeEnd: utf8(end ?? ""), previousKv: false };
}

function rangeQuery(
  { key, end }: KeySpan,
  revision: number,
  { limit = 0, countOnly = false }: RangeLimits = {},
): RangeQuery {
  return { ...wholeRange(utf8(key), utf8(end ?? "")), revision, limit, countOnly };
}
