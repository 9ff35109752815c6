/**
 * The interface of the multi-version store: what apply, the services, the edge's replica and the
 * simulator use. `createStore(backend)` in `mvcc-store.ts` makes one; it keeps no copy of the keys
 * in memory and needs no rebuild at start.
 *
 * Bounded stretches: cursors do their work in steps of so many rows and bytes, at a pinned
 * revision, so that the caller can return to its event loop in between. Only `range` inside a
 * transaction runs whole.
 */
import type { BatchWriter } from "../backend/backend.ts";
import type { Bytes } from "../base/bytes.ts";
import type { KeyValue, MvccRefusal, RangeQuery, RangeResult, RevisionEvents } from "./types.ts";
import type { WatchRegistry } from "./watch-registry.ts";

/** How much a step may do: whichever is reached first ends it. */
export interface StepBudget {
  readonly rows: number;
  readonly bytes: number;
}

/**
 * Work in steps at a pinned revision. A compaction that comes after it was opened doesn't disturb
 * it.
 */
export interface Cursor<Result> {
  /** Works for at most the budget; true once the result is complete. */
  advance(budget: StepBudget): boolean;
  /** Asserts that `advance` has returned true. */
  result(): Result;
  /** Must be called, also after the result. */
  close(): void;
}

export interface HashResult {
  readonly hash: number;
  readonly hashRevision: number;
  readonly compactRevision: number;
}

/**
 * One revision's writes, made by apply inside `Backend.apply`. All puts and deletes share the
 * revision `store.revision + 1`; the order of calls is the order of events. Reads see the writes so
 * far.
 */
export interface WriteTransaction {
  /** The revision that the writes get. */
  readonly revision: number;
  /** True once something was written. */
  readonly changed: boolean;
  /** The newest value, writes of this transaction included. */
  get(key: Bytes): KeyValue | undefined;
  /**
   * As in a transaction of etcd: a negative revision is no "newest" but compared with the compacted
   * one.
   */
  range(query: RangeQuery): RangeResult | MvccRefusal;
  /**
   * Returns the new key-value. `previous` is what `get` answered, when the caller has asked
   * already.
   */
  put(key: Bytes, value: Bytes, lease: bigint, previous?: KeyValue | "none"): KeyValue;
  /**
   * Deletes one key; returns what was there, or undefined (and changes nothing) when there was
   * nothing.
   */
  delete(key: Bytes): KeyValue | undefined;
  /**
   * Deletes every key of a range that isn't a single key, in key order: one walk, whatever its
   * size, without a pause. `each` is told what was there.
   */
  deleteRange(key: Bytes, rangeEnd: Bytes, each: (kv: KeyValue) => void): void;
  /**
   * Ends the transaction: if anything changed, the store's revision grows by one. Returns the
   * events (none if unchanged). The caller hands them to `watches.notify` after `Backend.apply` has
   * returned.
   */
  end(): RevisionEvents | undefined;
}

export interface Compaction {
  /**
   * Removes within the budget; true when all is done. Open cursors stand on pins and don't notice;
   * watchers that still need what was compacted are told so by `catchUp`.
   */
  step(writer: BatchWriter, budget: StepBudget): boolean;
}

export interface MvccStore {
  /** The newest revision; 1 for an empty store. */
  readonly revision: number;
  /** Revisions below are gone for readers; -1 before the first compaction. */
  readonly compactRevision: number;
  readonly watches: WatchRegistry;

  /** The newest value of one key: the fast path of point reads. */
  get(key: Bytes): KeyValue | undefined;
  /** A range at once. For ranges of unknown size use `openRange`. */
  range(query: RangeQuery): RangeResult | MvccRefusal;
  openRange(query: RangeQuery): Cursor<RangeResult> | MvccRefusal;

  begin(writer: BatchWriter): WriteTransaction;

  /**
   * Replicated: from now on revisions below `revision` are refused; rows are removed later by
   * `compaction()`.
   */
  compact(revision: number, writer: BatchWriter): MvccRefusal | undefined;
  /** The removal that is still owed, or undefined. It resumes after a restart. */
  compaction(): Compaction | undefined;

  /** HashKV at a revision (0: current): CRC-32C as etcd defines it, in steps. */
  openHash(revision: number): Cursor<HashResult> | MvccRefusal;

  /** Keys that exist now, for metrics. */
  readonly keysAlive: number;
  /** Called at the end of a batch: notes what a restart would otherwise have to count. */
  finishBatch(writer: BatchWriter): void;
  /**
   * Reads its state from the backend anew: after a snapshot was installed. Watchers lag or are
   * compacted then.
   */
  reload(): void;
}
