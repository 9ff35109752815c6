/**
 * The ordered byte store under MVCC, leases and membership. Three implementations pass one
 * conformance suite (`test/unit/backend/conformance`): memory, LMDB, Durable Object SQLite.
 *
 * Promises
 * - Synchronous. `apply` is atomic and visible at once to `get`, `scan` and new snapshots.
 * - Order is unsigned byte order (`compareBytes`) within a table. Keys are 1 byte to
 *   `KEY_BYTES_MAX` long; limits of the store beneath don't show. Values may be empty.
 * - `visibleIndex` is the index of the last `apply`; `durableIndex <= visibleIndex` is what
 *   survives a crash of the machine: after one, the store is exactly as it was after some `apply`
 *   whose index is at least the `durableIndex` last read. It never shows a part of an `apply`.
 * - Inside the `fill` of an `apply` the store's own reads see the writes made so far: transactions
 *   read what they wrote. `fill` must not throw; if it does, the store is unusable and every later
 *   call throws.
 * - Byte arrays that are passed in are kept: the caller must not change them. Those handed out must
 *   not be changed either.
 * - An I/O fault throws `BackendError` from the next call, whatever it is, and from all later ones:
 *   the peer must stop.
 */
import type { Bytes } from "../base/bytes.ts";

/**
 * The tables, in the order in which a snapshot lists them. Their layouts stand with their owners.
 */
export const TABLES = ["meta", "key", "revision", "lease", "member", "dedup", "auth"] as const;
export type Table = (typeof TABLES)[number];

/**
 * The longest key: an etcd key may fill a request (1.5 MiB), and layouts add escapes and suffixes.
 */
export const KEY_BYTES_MAX = 8 * 1024 * 1024;

export type Row = readonly [key: Bytes, value: Bytes];

/**
 * A half-open range of keys: from `start` (included; absent: the first) to `end` (excluded; absent:
 * past the last).
 */
export interface KeyRange {
  readonly start?: Bytes | undefined;
  readonly end?: Bytes | undefined;
}

export interface ScanOptions extends KeyRange {
  /** From the end of the range downwards. */
  readonly reverse?: boolean;
  /** The visitor won't look at values: the store may pass empty ones instead, where that saves reading them. */
  readonly keysOnly?: boolean;
  /**
   * The visitor will answer false at once, and the range has a start and an end: the store may look
   * the one row up by a shorter way.
   */
  readonly firstOnly?: boolean;
}

/** Reads of one state of the store. */
export interface BackendReader {
  get(table: Table, key: Bytes): Bytes | undefined;
  /**
   * Calls `visit` for each row of the range, in order, until it returns false. Callback form
   * because it is the hot path. Nothing may be applied to the store inside `visit`.
   */
  scan(table: Table, options: ScanOptions, visit: (key: Bytes, value: Bytes) => boolean): void;
}

/** The writing half of an `apply`; later writes to the same key win. */
export interface BatchWriter {
  put(table: Table, key: Bytes, value: Bytes): void;
  delete(table: Table, key: Bytes): void;
}

export interface BackendSizes {
  /** Bytes that the store occupies. */
  readonly totalBytes: number;
  /** Bytes that hold rows; the rest is free for reuse. */
  readonly inUseBytes: number;
}

/** A stable view: the state at the time of `pin`, whatever is applied later. Must be released. */
export interface PinnedReader extends BackendReader {
  readonly index: number;
  release(): void;
}

export interface Backend extends BackendReader {
  /** The index passed to the last `apply`; 0 for a new store. */
  readonly visibleIndex: number;
  /** See above. Polled; it may advance between any two calls. */
  readonly durableIndex: number;
  /**
   * Makes the writes of `fill` visible together with `index` >= `visibleIndex` (equal: writes
   * outside of the log's order, such as removals by compaction).
   */
  apply(index: number, fill: (writer: BatchWriter) => void): void;
  /**
   * True when unflushed writes are so many that the caller should let the store catch up before it
   * applies more.
   */
  readonly congested: boolean;
  /** Asks that everything visible become durable soon; `durableIndex` tells when. */
  flush(): void;
  pin(): PinnedReader;
  /**
   * A second, empty store beside this one, to fill with a received snapshot. `install` switches
   * this store to its content in one atomic, durable step: after a crash it is the old one or the
   * new one whole. `discard` removes it.
   */
  shadow(): ShadowBackend;
  sizes(): BackendSizes;
  /**
   * Gives space that holds no rows back to the system, if the store keeps such. Content and marks
   * don't change; reads, pins and applies go on meanwhile, and a crash loses nothing. Rejects with
   * `BackendError` when it couldn't be done; the store goes on as it was.
   */
  defragment(): Promise<void>;
  /** Flushes, waits, and gives the files back. */
  close(): Promise<void>;
}

export interface ShadowBackend {
  /** As a backend's: more rows wait for the disk than should. */
  readonly congested: boolean;
  apply(fill: (writer: BatchWriter) => void): void;
  /**
   * `index`: the last log index whose effects the content holds. Calls `switched` in the very moment
   * at which readers begin to see the content, so that nobody can read it with knowledge of the old
   * one (a promise would tell a moment later). Resolves once durable.
   */
  install(index: number, switched?: () => void): Promise<void>;
  discard(): Promise<void>;
}

/** An I/O fault of the store. */
export class BackendError extends Error {
  override readonly name = "BackendError";
}
