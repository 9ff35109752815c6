/**
 * The parts of a transaction, as plain values that hold no store: `key`, `put`, `get`, `remove`,
 * `nested`. A store's namespace and codec apply when the transaction is committed.
 */
import { RpcError } from "../api/errors.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Compare, CompareResult, Op, RangeOp, TxnOp } from "../wire/command.ts";
import type { LinkOpResult } from "../wire/link.ts";
import { keyBytes } from "./keys.ts";
import type { Key, KeySpace, Selector } from "./keys.ts";
import { Entry } from "./values.ts";
import type { Codec } from "./values.ts";

export interface PutOptions {
  /** The key lives no longer than this lease. */
  readonly lease?: bigint | { readonly id: bigint } | undefined;
  /** The key keeps the lease that it has; refused when there is no such key. */
  readonly keepLease?: boolean | undefined;
  /** Answer with the entry that was replaced. */
  readonly previous?: boolean | undefined;
}

export interface RangeOptions {
  /** The state as it was at this revision. */
  readonly revision?: number | undefined;
  readonly limit?: number | undefined;
  readonly keysOnly?: boolean | undefined;
  readonly countOnly?: boolean | undefined;
  readonly sort?:
    | { readonly by: RangeOp["sortTarget"]; readonly order: "ascend" | "descend" }
    | undefined;
  /** Only entries whose revisions lie within these bounds, both inclusive; `count` counts all. */
  readonly created?: RevisionBounds | undefined;
  readonly modified?: RevisionBounds | undefined;
}

export interface RevisionBounds {
  readonly from?: number | undefined;
  readonly to?: number | undefined;
}

export type CompareSign = "=" | "!=" | ">" | "<";

/**
 * A condition on a key, or on each key of a range. A missing key compares as zero, except by
 * value, where it is false.
 */
export interface Condition {
  readonly key: Selector;
  readonly target: Compare["target"];
  readonly sign: CompareSign;
  readonly operand: number | bigint | string | Bytes;
}

export interface PutOperation<Value> {
  readonly kind: "put";
  readonly key: Key;
  readonly value: Value;
  readonly options: PutOptions;
}
export interface GetOperation {
  readonly kind: "get";
  readonly selector: Selector;
  readonly options: RangeOptions;
}
export interface RemoveOperation {
  readonly kind: "remove";
  readonly selector: Selector;
  readonly previous: boolean;
}
export interface TxnOperation<Value> {
  readonly kind: "txn";
  readonly txn: Transaction<Value>;
}

export type Operation<Value> =
  | PutOperation<Value>
  | GetOperation
  | RemoveOperation
  | TxnOperation<Value>;

/** If every condition holds, `do` is done, else `else`; all at one revision. */
export interface Transaction<
  Value,
  Do extends readonly Operation<Value>[] = readonly Operation<Value>[],
  Else extends readonly Operation<Value>[] = readonly Operation<Value>[],
> {
  readonly if?: readonly Condition[] | undefined;
  readonly do?: Do | undefined;
  readonly else?: Else | undefined;
}

export interface PutResult<Value> {
  readonly kind: "put";
  readonly previous: Entry<Value> | undefined;
}
export interface GetResult<Value> {
  readonly kind: "get";
  /** The first of `entries`: what a get of one key is after. */
  readonly entry: Entry<Value> | undefined;
  readonly entries: readonly Entry<Value>[];
  readonly count: number;
  readonly more: boolean;
}
export interface RemoveResult<Value> {
  readonly kind: "remove";
  readonly removed: number;
  readonly previous: readonly Entry<Value>[];
}
export interface NestedResult<Value> {
  readonly kind: "txn";
  readonly succeeded: boolean;
  readonly results: readonly OperationResult<Value>[];
}

export type OperationResult<Value> =
  | PutResult<Value>
  | GetResult<Value>
  | RemoveResult<Value>
  | NestedResult<Value>;

/** What an operation of this type answers. */
export type ResultOf<Op, Value> = Op extends { readonly kind: infer Kind }
  ? Extract<OperationResult<Value>, { readonly kind: Kind }>
  : never;

/** What a list of operations answers, place by place. */
export type ResultsOf<Ops extends readonly unknown[], Value> = {
  readonly [Place in keyof Ops]: ResultOf<Ops[Place], Value>;
};

/** A condition: `compare("k", "mod", "=", 5)`. Targets: version, create, mod, value, lease. */
export function compare(
  key: Selector,
  target: Compare["target"],
  sign: CompareSign,
  operand: Condition["operand"],
): Condition {
  return { key, target, sign, operand };
}

/** One side of a comparison, waiting for the other. */
export interface Comparand<Operand extends Condition["operand"]> {
  equals(operand: Operand): Condition;
  notEquals(operand: Operand): Condition;
  greaterThan(operand: Operand): Condition;
  lessThan(operand: Operand): Condition;
}

export interface KeyConditions {
  /** Puts since the key was created; 0: it doesn't exist. */
  readonly version: Comparand<number>;
  readonly createRevision: Comparand<number>;
  readonly modRevision: Comparand<number>;
  /** The value as it is stored. */
  readonly value: Comparand<string | Bytes>;
  readonly lease: Comparand<bigint>;
  exists(): Condition;
  isMissing(): Condition;
}

/**
 * Conditions on a key, as they are read: `key("a").version.equals(0)`, `key("a").exists()`. With a
 * range, each of its keys must meet them.
 */
export function key(selector: Selector): KeyConditions {
  const side = <Operand extends Condition["operand"]>(
    target: Compare["target"],
  ): Comparand<Operand> => {
    const when = (sign: CompareSign) => (operand: Operand) =>
      compare(selector, target, sign, operand);
    return {
      equals: when("="),
      notEquals: when("!="),
      greaterThan: when(">"),
      lessThan: when("<"),
    };
  };
  return {
    version: side("version"),
    createRevision: side("create"),
    modRevision: side("mod"),
    value: side("value"),
    lease: side("lease"),
    exists: () => compare(selector, "create", ">", 0),
    isMissing: () => compare(selector, "create", "=", 0),
  };
}

export function put<Value>(key: Key, value: Value, options: PutOptions = {}): PutOperation<Value> {
  return { kind: "put", key, value, options };
}

export function get(selector: Selector, options: RangeOptions = {}): GetOperation {
  return { kind: "get", selector, options };
}

export function remove(
  selector: Selector,
  options: { readonly previous?: boolean | undefined } = {},
): RemoveOperation {
  return { kind: "remove", selector, previous: options.previous ?? false };
}

/** A transaction inside another, at the same revision. */
export function nested<Value>(txn: Transaction<Value>): TxnOperation<Value> {
  return { kind: "txn", txn };
}

const SIGNS: Readonly<Record<CompareSign, CompareResult>> = {
  "=": "equal",
  "!=": "notEqual",
  ">": "greater",
  "<": "less",
};

/** What a store adds to keys and values on their way to the wire and back. */
export interface View<Value> {
  readonly space: KeySpace;
  readonly codec: Codec<Value>;
}

export function putOp<Value>(
  view: View<Value>,
  key: Key,
  value: Value,
  options: PutOptions,
): Op & { readonly kind: "put" } {
  const { keepLease, lease, previous } = options;
  return {
    kind: "put",
    key: view.space.encode(key),
    value: view.codec.encode(value),
    lease: typeof lease === "object" ? lease.id : (lease ?? 0n),
    previousKv: previous ?? false,
    ignoreValue: false,
    ignoreLease: keepLease ?? false,
  };
}

export function rangeOp<Value>(
  view: View<Value>,
  selector: Selector,
  options: RangeOptions,
): RangeOp {
  return {
    kind: "range",
    ...view.space.range(selector),
    revision: options.revision ?? 0,
    limit: options.limit ?? 0,
    sortOrder: options.sort?.order ?? "none",
    sortTarget: options.sort?.by ?? "key",
    keysOnly: options.keysOnly ?? false,
    countOnly: options.countOnly ?? false,
    minModRevision: options.modified?.from ?? 0,
    maxModRevision: options.modified?.to ?? 0,
    minCreateRevision: options.created?.from ?? 0,
    maxCreateRevision: options.created?.to ?? 0,
  };
}

export function txnOp<Value>(view: View<Value>, txn: Transaction<Value>): TxnOp {
  return {
    kind: "txn",
    compares: (txn.if ?? []).map((condition) => compareOp(view, condition)),
    success: (txn.do ?? []).map((operation) => opOf(view, operation)),
    failure: (txn.else ?? []).map((operation) => opOf(view, operation)),
  };
}

function opOf<Value>(view: View<Value>, operation: Operation<Value>): Op {
  switch (operation.kind) {
    case "put":
      return putOp(view, operation.key, operation.value, operation.options);
    case "get":
      return rangeOp(view, operation.selector, operation.options);
    case "remove":
      return {
        kind: "deleteRange",
        ...view.space.range(operation.selector),
        previousKv: operation.previous,
      };
    case "txn":
      return txnOp(view, operation.txn);
  }
}

function compareOp<Value>(view: View<Value>, condition: Condition): Compare {
  const { target, operand } = condition;
  const wantsBytes = target === "value";
  const isBytes = typeof operand === "string" || operand instanceof Uint8Array;
  if (wantsBytes !== isBytes) {
    const text = `a compare of ${target} takes ${wantsBytes ? "text or bytes" : "a number"}`;
    throw new RpcError("invalidArgument", text);
  }
  return {
    target,
    result: SIGNS[condition.sign],
    ...view.space.range(condition.key),
    operand: isBytes ? keyBytes(operand) : BigInt(operand),
  };
}

export function resultOf<Value>(view: View<Value>, result: LinkOpResult): OperationResult<Value> {
  const entry = (kv: ConstructorParameters<typeof Entry>[0]): Entry<Value> =>
    new Entry(kv, view.space, view.codec);
  switch (result.kind) {
    case "put": {
      const { previous } = result;
      return { kind: "put", previous: previous === undefined ? undefined : entry(previous) };
    }
    case "deleteRange":
      return { kind: "remove", removed: result.deleted, previous: result.previous.map(entry) };
    case "range": {
      const { kvs, count, more } = result.result;
      const entries = kvs.map(entry);
      return { kind: "get", entry: entries[0], entries, count, more };
    }
    case "txn": {
      const results = result.results.map((each) => resultOf(view, each));
      return { kind: "txn", succeeded: result.succeeded, results };
    }
  }
}
