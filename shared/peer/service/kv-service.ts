/** Key-values: etcd's checks, limits and answers around the log and the store. */
import { rpcError } from "../../api/errors.ts";
import { assert } from "../../base/assert.ts";
import type { RangeQuery, RangeResult } from "../../mvcc/types.ts";
import type { DeleteRangeOp, Op, PutOp, TxnOp } from "../../wire/command.ts";
import type {
  CallContext,
  Header,
  KvService,
  OpResult,
  RangeAnswer,
  ReadLevel,
} from "../services.ts";
import { planReadTxn } from "../state/apply-operations.ts";
import type { Compactor } from "./compactor.ts";
import type { ServiceContext, Written } from "./context.ts";
import type { Quota } from "./quota.ts";
import { readRange } from "./range-reader.ts";
import { streamRange } from "./range-stream.ts";
import { checkDeleteRange, checkKey, checkPut, checkTxn } from "./request-checks.ts";
import { putCost, requestBytes, txnCost } from "./request-size.ts";

type TxnAnswer = { header: Header; succeeded: boolean; results: readonly OpResult[] };

export function createKvService(
  context: ServiceContext,
  parts: { readonly quota: Quota; readonly compactor: Compactor },
): KvService {
  return new ReplicatedKv(context, parts.quota, parts.compactor);
}

class ReplicatedKv implements KvService {
  readonly #context: ServiceContext;
  readonly #quota: Quota;
  readonly #compactor: Compactor;

  constructor(context: ServiceContext, quota: Quota, compactor: Compactor) {
    this.#context = context;
    this.#quota = quota;
    this.#compactor = compactor;
  }

  range(query: RangeQuery, level: ReadLevel, call: CallContext): Promise<RangeAnswer> {
    const read = (age: number | undefined) => this.#readNow(query, age);
    return this.#context.atReadPoint(level, call, read, () => checkKey(query.key));
  }

  #readNow(
    query: RangeQuery,
    ageMilliseconds: number | undefined,
  ): RangeAnswer | Promise<RangeAnswer> {
    const { state, host } = this.#context;
    state.counts.ranges += 1;
    // Of this moment, as the cursor is: who lists and then watches from the header's revision on must
    // miss nothing that was written while the list was read.
    const header = this.#context.header();
    const found = readRange(query, state, host);
    if (found instanceof Promise) {
      return found.then((result) => ({ header, ...result, ageMilliseconds }));
    }
    const { kvs, count, more } = found;
    return { header, kvs, count, more, ageMilliseconds };
  }

  async *rangeStream(
    query: RangeQuery,
    options: { serializable: boolean },
    call: CallContext,
  ): ReturnType<typeof streamRange> {
    checkKey(query.key);
    this.#context.state.counts.ranges += 1;
    yield* streamRange(this.#context, query, options, call);
  }

  put(
    op: PutOp,
    call: CallContext,
  ): Promise<{ header: Header; previous: OpResultOf<"put">["previous"] }> {
    return this.#context.write(op, call, putAnswer, () => {
      checkPut(op);
      this.#checkSize(op);
      this.#quota.check(putCost(op));
    });
  }

  async deleteRange(
    op: DeleteRangeOp,
    call: CallContext,
  ): Promise<{ header: Header; deleted: number; previous: OpResultOf<"deleteRange">["previous"] }> {
    checkDeleteRange(op);
    this.#checkSize(op);
    return this.#context.write(op, call, ({ header, result }) => {
      assert(result?.kind === "deleteRange", "a delete answers as one");
      return { header, deleted: result.deleted, previous: result.previous };
    });
  }

  async txn(op: TxnOp, options: { serializable: boolean }, call: CallContext): Promise<TxnAnswer> {
    checkTxn(op, this.#context.config.txnOpsMax);
    if (onlyReads(op)) {
      const empty = op.success.length === 0 && op.failure.length === 0;
      const serializable = empty || options.serializable;
      return this.#context.atReadPoint({ serializable }, call, () => this.#readTxnNow(op));
    }
    this.#checkSize(op);
    const cost = txnCost(op);
    if (cost > 0) this.#quota.check(cost);
    return this.#context.write(op, call, ({ header, result }) => {
      assert(result?.kind === "txn", "a transaction answers as one");
      return { header, succeeded: result.succeeded, results: result.results };
    });
  }

  /** All of its ranges at this moment's revision; large ones in steps. */
  #readTxnNow(op: TxnOp): TxnAnswer | Promise<TxnAnswer> {
    const { state, host } = this.#context;
    const plan = planReadTxn(op, state.store, state.lessor);
    if (plan.kind === "refused") throw rpcError(plan.code);
    const { succeeded, ranges } = plan;
    state.counts.ranges += ranges.length;
    state.counts.transaction(ranges.length);
    const header = this.#context.header();
    const found = ranges.map((range) => readRange(range, state, host));
    const answer = (read: readonly RangeResult[]): TxnAnswer => ({
      header,
      succeeded,
      results: read.map((result) => ({ kind: "range", revision: header.revision, result })),
    });
    const complete: RangeResult[] = [];
    for (const each of found) if (!(each instanceof Promise)) complete.push(each);
    if (complete.length === found.length) return answer(complete);
    return Promise.all(found.map((each) => Promise.resolve(each))).then(answer);
  }

  async compact(
    options: { revision: number; physical: boolean },
    call: CallContext,
  ): Promise<{ header: Header }> {
    const { revision } = options;
    // The compacted revision is -1 at least. Log entries carry no negative revision.
    if (revision < 0) throw rpcError("compacted");
    const answer = await this.#context.write({ kind: "compact", revision }, call, headerOnly);
    this.#compactor.start();
    if (options.physical) {
      await new Promise<void>((resolve) => {
        this.#compactor.whenDone(resolve);
      });
      this.#context.state.backend.flush();
    }
    return answer;
  }

  #checkSize(op: Op): void {
    if (requestBytes(op) > this.#context.config.requestBytesMax) throw rpcError("requestTooLarge");
  }
}

type OpResultOf<Kind extends OpResult["kind"]> = OpResult & { readonly kind: Kind };

function putAnswer({ header, result }: Written): {
  header: Header;
  previous: OpResultOf<"put">["previous"];
} {
  assert(result?.kind === "put", "a put answers as one");
  return { header, previous: result.previous };
}

export function headerOnly({ header }: Written): { header: Header } {
  return { header };
}

/** Nested transactions go through the log even if they only read, as in etcd. */
function onlyReads(txn: TxnOp): boolean {
  const reads = (op: Op): boolean => op.kind === "range";
  return txn.success.every(reads) && txn.failure.every(reads);
}
