/** What clients asked and what they were told: the input of the checkers. Times are the world's, in milliseconds. */

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

export type Request =
  | ({
      readonly kind: "range";
      readonly serializable: boolean;
      /** 0: the newest. */
      readonly atRevision: number;
    } & KeySpan)
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
  /** Of a swap. */
  readonly succeeded?: boolean;
}

export interface Operation {
  readonly id: number;
  readonly request: Request;
  readonly invoked: number;
  /** Absent: never answered. */
  returned: number | undefined;
  /** "refused": the peer says that nothing was changed. */
  outcome: Answer | "unknown" | "refused";
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
