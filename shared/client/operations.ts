/**
 * The parts of a transaction, as plain values that hold no store: `compare`, `put`, `get`,
 * `remove`. A store's namespace and codec apply when the transaction is committed.
 */
import { RpcError } from "../api/errors.ts";
import { EMPTY } from "../base/bytes.ts";
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
}

export type CompareSign = "=" | "!=" | ">" | "<";

/** A condition on a key. A missing key compares as zero, except by value, where it is false. */
export interface Condition {
  readonly key: Key;
  readonly target: Compare["target"];
  readonly sign: CompareSign;
  readonly operand: number | bigint | string | Bytes;
}

export type Operation<Value> =
  | {
      readonly kind: "put";
      readonly key: Key;
      readonly value: Value;
      readonly options: PutOptions;
    }
  | { readonly kind: "get"; readonly selector: Selector; readonly options: RangeOptions }
  | { readonly kind: "remove"; readonly selector: Selector; readonly previous: boolean }
  | { readonly kind: "txn"; readonly txn: Transaction<Value> };

/** If every condition holds, `do` is done, else `else`; all at one revision. */
export interface Transaction<Value> {
  readonly if?: readonly Condition[] | undefined;
  readonly do?: readonly Operation<Value>[] | undefined;
  readonly else?: readonly Operation<Value>[] | undefined;
}

export type OperationResult<Value> =
  | { readonly kind: "put"; readonly previous: Entry<Value> | undefined }
  | {
      readonly kind: "get";
      readonly entries: readonly Entry<Value>[];
      readonly count: number;
      readonly more: boolean;
    }
  | {
      readonly kind: "remove";
      readonly removed: number;
      readonly previous: readonly Entry<Value>[];
    }
  | {
      readonly kind: "txn";
      readonly succeeded: boolean;
      readonly results: readonly OperationResult<Value>[];
    };

/** A condition: `compare("k", "mod", "=", 5)`. Targets: version, create, mod, value, lease. */
export function compare(
  key: Key,
  target: Compare["target"],
  sign: CompareSign,
  operand: Condition["operand"],
): Condition {
  return { key, target, sign, operand };
}

export function put<Value>(key: Key, value: Value, options: PutOptions = {}): Operation<Value> {
  return { kind: "put", key, value, options };
}

export function get(selector: Selector, options: RangeOptions = {}): Operation<never> {
  return { kind: "get", selector, options };
}

export function remove(selector: Selector, options: { previous?: boolean } = {}): Operation<never> {
  return { kind: "remove", selector, previous: options.previous ?? false };
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
  const { lease, previous } = options;
  return {
    kind: "put",
    key: view.space.encode(key),
    value: view.codec.encode(value),
    lease: typeof lease === "object" ? lease.id : (lease ?? 0n),
    previousKv: previous ?? false,
    ignoreValue: false,
    ignoreLease: false,
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
    minModRevision: 0,
    maxModRevision: 0,
    minCreateRevision: 0,
    maxCreateRevision: 0,
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
    key: view.space.encode(condition.key),
    rangeEnd: EMPTY,
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
      return { kind: "get", entries: kvs.map(entry), count, more };
    }
    case "txn": {
      const results = result.results.map((each) => resultOf(view, each));
      return { kind: "txn", succeeded: result.succeeded, results };
    }
  }
}
