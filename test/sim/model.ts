/**
 * The store as its documentation describes it, as plainly as can be: what the checker compares
 * answers with.
 */
import type {
  KeySpan,
  ObservedEvent,
  ObservedKv,
  RangeFound,
  RangeLimits,
  Request,
  StepAnswer,
  TxnCompare,
  TxnRequest,
  TxnStep,
} from "./history.ts";
import { inSpan } from "./history.ts";

type TxnAnswer = StepAnswer & { readonly kind: "txn" };

/** Never changed: each write makes a new one. */
export class Model {
  readonly revision: number;
  readonly #kvs: ReadonlyMap<string, ObservedKv>;

  constructor(revision = 1, kvs: ReadonlyMap<string, ObservedKv> = new Map()) {
    this.revision = revision;
    this.#kvs = kvs;
  }

  get(key: string): ObservedKv | undefined {
    return this.#kvs.get(key);
  }

  range(span: KeySpan): ObservedKv[] {
    const found = [...this.#kvs.values()].filter((kv) => inSpan(kv.key, span));
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  find(span: KeySpan, { limit = 0, countOnly = false }: RangeLimits): RangeFound {
    const all = this.range(span);
    const kvs = limit > 0 ? all.slice(0, limit) : all;
    if (countOnly) return { kvs: [], count: all.length, more: false };
    return { kvs, count: all.length, more: kvs.length < all.length };
  }

  /** Keys that hold this lease. */
  attached(lease: bigint): string[] {
    return [...this.#kvs.values()].filter((kv) => kv.lease === lease).map((kv) => kv.key);
  }

  /** What a request does here; `undefined` when it writes nothing. */
  write(request: Request): { readonly next: Model; readonly events: ObservedEvent[] } | undefined {
    switch (request.kind) {
      case "range":
      case "grant":
      case "compact":
        return undefined;
      case "put":
        return this.#commit([this.#put(request.key, request.value, request.lease)]);
      case "putAll":
        return this.#commit(request.keys.map((key) => this.#put(key, request.value, 0n)));
      case "swap":
        if ((this.get(request.key)?.modRevision ?? 0) !== request.expected) return undefined;
        return this.#commit([this.#put(request.key, request.value, 0n)]);
      case "delete":
        return this.#commit(this.range(request).map((kv) => this.#delete(kv.key)));
      case "revoke":
        return this.revoke(request.lease);
      case "txn": {
        const { events, next } = this.txn(request);
        return events.length === 0 ? undefined : { events, next };
      }
    }
  }

  /** Its conditions, also of what is nested, see the state before it; its steps see those before them. */
  txn(request: TxnRequest): { next: Model; events: ObservedEvent[]; answer: TxnAnswer } {
    const events: ObservedEvent[] = [];
    const kvs = new Map(this.#kvs);
    const run = ({ compares, success, failure }: TxnRequest): TxnAnswer => {
      const succeeded = compares.every((compare) => this.#holds(compare));
      return { kind: "txn", succeeded, results: (succeeded ? success : failure).map(step) };
    };
    const step = (each: TxnStep): StepAnswer => {
      const now = new Model(this.revision, kvs);
      switch (each.kind) {
        case "range":
          return { kind: "range", ...now.find(each, each) };
        case "put": {
          const event = now.#put(each.key, each.value, each.lease);
          events.push(event);
          kvs.set(each.key, event.kv);
          return { kind: "put" };
        }
        case "delete": {
          const gone = now.range(each);
          for (const { key } of gone) {
            events.push(this.#delete(key));
            kvs.delete(key);
          }
          return { kind: "delete", deleted: gone.length };
        }
        case "txn":
          return run(each);
      }
    };
    const answer = run(request);
    const next = events.length === 0 ? this : new Model(this.revision + 1, kvs);
    return { next, events, answer };
  }

  /** Of an absent key all numbers are 0, and no value compares with anything. */
  #holds({ target, result, operand, ...span }: TxnCompare): boolean {
    const found = this.range(span);
    if (found.length === 0) return target !== "value" && compares(0, result, operand);
    return found.every((kv) => {
      const actual = {
        version: kv.version,
        create: kv.createRevision,
        mod: kv.modRevision,
        lease: Number(kv.lease),
        value: kv.value,
      }[target];
      return compares(actual, result, operand);
    });
  }

  /** A lease's end, by a request or by expiry. */
  revoke(lease: bigint): { readonly next: Model; readonly events: ObservedEvent[] } | undefined {
    return this.#commit(
      this.attached(lease)
        .sort()
        .map((key) => this.#delete(key)),
    );
  }

  #put(key: string, value: string, lease: bigint): ObservedEvent {
    const previous = this.get(key);
    const revision = this.revision + 1;
    const createRevision = previous?.createRevision ?? revision;
    const version = (previous?.version ?? 0) + 1;
    const kv = { key, value, createRevision, modRevision: revision, version, lease };
    return { type: "put", kv };
  }

  #delete(key: string): ObservedEvent {
    const modRevision = this.revision + 1;
    const kv = { key, value: "", createRevision: 0, modRevision, version: 0, lease: 0n };
    return { type: "delete", kv };
  }

  #commit(events: ObservedEvent[]): { next: Model; events: ObservedEvent[] } | undefined {
    if (events.length === 0) return undefined;
    const kvs = new Map(this.#kvs);
    for (const { type, kv } of events) {
      if (type === "put") kvs.set(kv.key, kv);
      else kvs.delete(kv.key);
    }
    return { next: new Model(this.revision + 1, kvs), events };
  }
}

function compares(
  actual: string | number,
  result: TxnCompare["result"],
  operand: string | number,
): boolean {
  if (result === "equal") return actual === operand;
  if (result === "notEqual") return actual !== operand;
  return result === "less" ? actual < operand : actual > operand;
}

export function sameStepAnswers(a: readonly StepAnswer[], b: readonly StepAnswer[]): boolean {
  return a.length === b.length && a.every((each, at) => sameStepAnswer(each, b[at] as StepAnswer));
}

function sameStepAnswer(a: StepAnswer, b: StepAnswer): boolean {
  if (a.kind === "range" && b.kind === "range") return sameFound(a, b);
  if (a.kind === "delete" && b.kind === "delete") return a.deleted === b.deleted;
  if (a.kind === "txn" && b.kind === "txn") {
    return a.succeeded === b.succeeded && sameStepAnswers(a.results, b.results);
  }
  return a.kind === "put" && b.kind === "put";
}

function sameFound(a: RangeFound, b: RangeFound): boolean {
  return sameKvs(a.kvs, b.kvs) && a.count === b.count && a.more === b.more;
}

function sameKv(a: ObservedKv, b: ObservedKv): boolean {
  return (
    a.key === b.key &&
    a.value === b.value &&
    a.createRevision === b.createRevision &&
    a.modRevision === b.modRevision &&
    a.version === b.version &&
    a.lease === b.lease
  );
}

export function sameKvs(a: readonly ObservedKv[], b: readonly ObservedKv[]): boolean {
  return a.length === b.length && a.every((kv, at) => sameKv(kv, b[at] as ObservedKv));
}

export function sameEvents(a: readonly ObservedEvent[], b: readonly ObservedEvent[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ type, kv }, at) => {
      const other = b[at] as ObservedEvent;
      if (type !== other.type) return false;
      if (type === "put") return sameKv(kv, other.kv);
      return kv.key === other.kv.key && kv.modRevision === other.kv.modRevision;
    })
  );
}
