/**
 * The vocabulary of the multi-version store. Ranges follow etcd's convention everywhere: `rangeEnd`
 * empty = the single `key`; one zero byte = every key from `key` on; else the half-open range [key,
 * rangeEnd). Revisions are safe integers; the empty store is at revision 1, and compaction has
 * reached -1.
 */
import type { Bytes } from "../base/bytes.ts";

export interface KeyValue {
  readonly key: Bytes;
  readonly value: Bytes;
  readonly createRevision: number;
  readonly modRevision: number;
  /** Puts since creation, from 1 on. */
  readonly version: number;
  /** 0n: none. Signed 64-bit, as etcd's lease ids are. */
  readonly lease: bigint;
}

export type SortTarget = "key" | "version" | "create" | "mod" | "value";
export type SortOrder = "none" | "ascend" | "descend";

/** A read as etcd's Range defines it. Bounds of 0 are off. */
export interface RangeQuery {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  /** <= 0: the newest. */
  readonly revision: number;
  /** <= 0: unlimited. */
  readonly limit: number;
  readonly sortOrder: SortOrder;
  readonly sortTarget: SortTarget;
  readonly keysOnly: boolean;
  readonly countOnly: boolean;
  readonly minModRevision: number;
  readonly maxModRevision: number;
  readonly minCreateRevision: number;
  readonly maxCreateRevision: number;
}

/** The first key that may exist, and the end of a range that has none. */
export const FIRST_KEY: Bytes = Uint8Array.of(0);
export const OPEN_END: Bytes = Uint8Array.of(0);

/** Every key-value of a range (see above), by key, at the newest revision. */
export function wholeRange(key: Bytes, rangeEnd: Bytes): RangeQuery {
  return {
    key,
    rangeEnd,
    revision: 0,
    limit: 0,
    sortOrder: "none",
    sortTarget: "key",
    keysOnly: false,
    countOnly: false,
    minModRevision: 0,
    maxModRevision: 0,
    minCreateRevision: 0,
    maxCreateRevision: 0,
  };
}

export interface RangeResult {
  readonly kvs: readonly KeyValue[];
  /** Keys of the whole range at that revision, whatever limit and filters say. */
  readonly count: number;
  readonly more: boolean;
}

export interface MvccRefusal {
  readonly code: "compacted" | "futureRev";
}

/**
 * A change of one key. On "delete" only key and modRevision of `kv` count; the others are zero or
 * empty.
 */
export interface Event {
  readonly type: "put" | "delete";
  readonly kv: KeyValue;
}

/**
 * What one revision changed, in the order of the operations. Shared by all watchers: never copied,
 * never changed.
 */
export interface RevisionEvents {
  readonly revision: number;
  readonly events: readonly Event[];
}
