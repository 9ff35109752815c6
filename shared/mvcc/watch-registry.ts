/**
 * The interface of watching: who is told of which events. Synced watchers stand in one interval
 * tree and are told at `notify`; lagging ones (a start in the past, or a full sink) are served from
 * history by `catchUp`, in bounded passes, until they are synced again. Each watcher sees every
 * matching revision once and in order, or is told that it is compacted.
 */
import type { Bytes } from "../base/bytes.ts";
import type { Event, KeyValue, RevisionEvents } from "./types.ts";

export interface WatchFilters {
  readonly noPut: boolean;
  readonly noDelete: boolean;
}

/** The caller has refused empty ranges and starts below 0. */
export interface WatcherOptions {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  /** The first revision wanted; 0: what comes after the current one. May lie in the future. */
  readonly startRevision: number;
  readonly filters: WatchFilters;
  readonly sink: WatcherSink;
}

/**
 * Some revisions' matching events. The object is the same for all watchers that match the same
 * events, so that encoders can cache the encoded form on it (`encoded`: one slot per encoder, by
 * name).
 */
export interface WatchBatch {
  /** Whole revisions, ascending; at least one event. */
  readonly events: readonly Event[];
  /**
   * The header's revision: the events' own for live batches, the store's current one for history
   * (as etcd).
   */
  readonly headerRevision: number;
  readonly lastRevision: number;
  readonly encoded: Map<string, unknown>;
}

export interface WatcherSink {
  /**
   * Takes a batch, or answers false when it is full: the watcher then lags, and the batch will come
   * again by `catchUp`.
   */
  deliver(watcher: Watcher, batch: WatchBatch): boolean;
  /** What the watcher needs was compacted away; it is cancelled already. */
  compacted(watcher: Watcher, compactRevision: number): void;
}

export interface Watcher {
  readonly options: WatcherOptions;
  /** True when everything up to the store's revision was delivered, or didn't match. */
  readonly synced: boolean;
  /** The next revision that it has not been shown yet. */
  readonly nextRevision: number;
  cancel(): void;
}

export interface WatchRegistry {
  watch(options: WatcherOptions): Watcher;
  /** New events, each revision once, in order, after they are visible in the backend. */
  notify(revisions: readonly RevisionEvents[]): void;
  /**
   * Serves some lagging watchers from history; true when another pass has work to do now. Watchers whose sinks are
   * full are tried once per pass and don't count as work: call again when a sink has room, or every now and then.
   */
  catchUp(): boolean;
  readonly watcherCount: number;
  readonly laggingCount: number;
  /** The key-value as it was before `revision` (prev_kv), or undefined: none, or compacted. */
  previous(key: Bytes, revision: number): KeyValue | undefined;
}
