/**
 * What clients asked and what they were told: the input of the checkers. Times are the world's, in
 * milliseconds.
 */

export interface ObservedKv {
  readonly key: string;
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly lease: bigint;
}

/** Keys are [key, end); an absent end means the one key. */
export interface KeySpan {
  readonly key: string;
  readonly end: string | undefined;
}

/** What of a range is wanted; absent: all of it. */
export interface RangeLimits {
  readonly limit?: number;
  readonly countOnly?: boolean;
}

/** A condition of a transaction, over one key or all of a span; numbers for all targets but "value". */
export interface TxnCompare extends KeySpan {
  readonly target: "version" | "create" | "mod" | "lease" | "value";
  readonly result: "equal" | "greater" | "less" | "notEqual";
  readonly operand: string | number;
}

export type TxnStep =
  | ({ readonly kind: "range" } & KeySpan & RangeLimits)
  | { readonly kind: "put"; readonly key: string; readonly value: string; readonly lease: bigint }
  | ({ readonly kind: "delete" } & KeySpan)
  | TxnRequest;

export interface TxnRequest {
  readonly kind: "txn";
  readonly compares: readonly TxnCompare[];
  readonly success: readonly TxnStep[];
  readonly failure: readonly TxnStep[];
}

export type StepAnswer =
  | ({ readonly kind: "range" } & RangeFound)
  | { readonly kind: "put" }
  | { readonly kind: "delete"; readonly deleted: number }
  | { readonly kind: "txn"; readonly succeeded: boolean; readonly results: readonly StepAnswer[] };

export interface RangeFound {
  readonly kvs: readonly ObservedKv[];
  /** Of all keys of the span. */
  readonly count: number;
  readonly more: boolean;
}

export type Request =
  | ({
      readonly kind: "range";
      readonly serializable: boolean;
      /** 0: the newest. */
      readonly atRevision: number;
    } & KeySpan &
      RangeLimits)
  | TxnRequest
  | { readonly kind: "put"; readonly key: string; readonly value: string; readonly lease: bigint }
  | ({ readonly kind: "delete" } & KeySpan)
  /** Puts several keys in one transaction. */
  | { readonly kind: "putAll"; readonly keys: readonly string[]; readonly value: string }
  /** Puts if the key's modRevision is `expected` (0: absent), else reads the key. */
  | {
      readonly kind: "swap";
      readonly key: string;
      readonly expected: number;
      readonly value: string;
    }
  | { readonly kind: "grant"; readonly lease: bigint }
  | { readonly kind: "revoke"; readonly lease: bigint }
  | { readonly kind: "compact"; readonly upTo: number };

export interface Answer {
  /** The header's. */
  readonly revision: number;
  /** Of a range, and of a swap that failed. */
  readonly kvs?: readonly ObservedKv[];
  /** Of a delete. */
  readonly deleted?: number;
  /** Of a swap, and of a transaction. */
  readonly succeeded?: boolean;
  /** Of a range, where the client looked at it. */
  readonly count?: number;
  readonly more?: boolean;
  /** Of a transaction. */
  readonly results?: readonly StepAnswer[];
}

export interface Operation {
  readonly id: number;
  readonly request: Request;
  readonly invoked: number;
  /** Absent: never answered. */
  returned: number | undefined;
  /** "refused": the peer says that nothing was changed. */
  outcome: Answer | "unknown" | "refused";
  /** Of a refusal: the error's name. */
  code?: string | undefined;
}

export interface ObservedEvent {
  readonly type: "put" | "delete";
  /** On "delete" only key and modRevision count. */
  readonly kv: ObservedKv;
}

export function inSpan(key: string, { key: start, end }: KeySpan): boolean {
  return end === undefined ? key === start : key >= start && key < end;
}

/** Whether a request may make a revision of its own. */
export function mayWrite({ kind }: Request): boolean {
  return kind !== "range" && kind !== "grant" && kind !== "compact";
}
