/** What the peer's tests share: a cluster on a clock that they move, and short forms of requests. */
import { EMPTY, textOf, utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { wholeRange } from "../../../shared/mvcc/types.ts";
import type { RangeQuery } from "../../../shared/mvcc/types.ts";
import type { CallContext, RangeAnswer } from "../../../shared/peer/services.ts";
import type {
  Compare,
  DeleteRangeOp,
  Op,
  PutOp,
  RangeOp,
  TxnOp,
} from "../../../shared/wire/command.ts";
import type { Freshness } from "../../../shared/wire/link.ts";
import { ManualClock } from "../../support/clocks.ts";
import { PATIENT_CALL, startInProcessCluster } from "../../support/in-process-cluster.ts";
import type {
  InProcessCluster,
  InProcessMember,
  InProcessOptions,
} from "../../support/in-process-cluster.ts";

export interface Driven {
  readonly clock: ManualClock;
  readonly cluster: InProcessCluster;
  /** Moves time on until the promise is settled. */
  readonly settled: <Value>(promise: Promise<Value>) => Promise<Value>;
  /** Moves time on until one member leads; returns it. */
  readonly leader: () => Promise<InProcessMember>;
}

/** `settle: false`: doesn't wait for it to be ready. */
export async function startDriven(
  options: InProcessOptions & { readonly settle?: boolean } = {},
): Promise<Driven> {
  const clock = new ManualClock();
  const cluster = startInProcessCluster({ ...options, clock });
  const driven: Driven = {
    clock,
    cluster,
    async settled<Value>(promise: Promise<Value>): Promise<Value> {
      let done = false;
      const mark = (): void => {
        done = true;
      };
      promise.then(mark, mark);
      await clock.until(() => done);
      return promise;
    },
    async leader() {
      await clock.until(() => cluster.leader !== undefined);
      return cluster.leader as InProcessMember;
    },
  };
  if (options.settle !== false) await driven.settled(cluster.ready());
  return driven;
}

export function putOp(key: string, value: string, more: Partial<PutOp> = {}): PutOp {
  return {
    kind: "put",
    key: utf8(key),
    value: utf8(value),
    lease: 0n,
    previousKv: false,
    ignoreLease: false,
    ignoreValue: false,
    ...more,
  };
}

export function deleteOp(key: string, rangeEnd = "", previousKv = false): DeleteRangeOp {
  return { kind: "deleteRange", key: utf8(key), rangeEnd: utf8(rangeEnd), previousKv };
}

export function rangeOp(key: string, rangeEnd = "", more: Partial<RangeQuery> = {}): RangeOp {
  return { kind: "range", ...wholeRange(utf8(key), utf8(rangeEnd)), ...more };
}

export function txnOp(
  compares: readonly Compare[],
  success: readonly Op[],
  failure: readonly Op[] = [],
): TxnOp {
  return { kind: "txn", compares, success, failure };
}

export function compare(
  key: string,
  target: Compare["target"],
  result: Compare["result"],
  operand: bigint | string,
): Compare {
  return {
    key: utf8(key),
    rangeEnd: EMPTY,
    target,
    result,
    operand: typeof operand === "string" ? utf8(operand) : operand,
  };
}

export function put(member: InProcessMember, key: string, value: string, more?: Partial<PutOp>) {
  return member.peer.services.kv.put(putOp(key, value, more), PATIENT_CALL);
}

export function get(
  member: InProcessMember,
  key: string,
  options: { serializable?: boolean; fresh?: Freshness; call?: CallContext } = {},
): Promise<RangeAnswer> {
  return member.peer.services.kv.range(
    wholeRange(utf8(key), EMPTY),
    { serializable: options.serializable ?? false, fresh: options.fresh },
    options.call ?? PATIENT_CALL,
  );
}

/** The single value of an answer, as text. */
export function valueOf(answer: RangeAnswer): string | undefined {
  const kv = answer.kvs[0];
  return kv === undefined ? undefined : textOf(kv.value);
}

export function texts(list: readonly Bytes[]): string[] {
  return list.map((each) => textOf(each));
}
