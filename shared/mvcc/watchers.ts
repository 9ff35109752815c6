/**
 * The watch registry over a store's history. A watcher is in one of three states:
 *
 *     synced   in `#synced`, told at `notify`; everything up to the notified revision was shown to it
 *     lagging  in `#lagging`, a queue; shown history from its `nextRevision` on by `catchUp`, until that passes the
 *              store's revision; one whose sink is full becomes lagging at the revision that was refused
 *     gone     cancelled, or told that what it needs was compacted
 *
 * All transitions happen within one synchronous call, and history is read up to the store's revision: so between them
 * no revision is missed and none is shown twice. A watcher keeps no events, only its next revision, however slow it
 * is.
 *
 * One pass of `catchUp` reads one window of history, once, for all lagging watchers whose next revision lies in it:
 * it starts where the first in the queue stands, and holds `watchRevisionsPerResponseMax` revisions or a stretch of
 * rows and bytes, if these end sooner (a revision is never cut). Who is served and still lags goes to the queue's
 * end, so that a watcher far behind doesn't hold up the others.
 */
import { assert } from "../base/assert.ts";
import type { Bytes } from "../base/bytes.ts";
import { LIMITS } from "../base/limits.ts";
import type { BackendReader } from "../backend/backend.ts";
import {
  type ChangeId,
  changeOfRevisionRow,
  decodeKeyValue,
  findKeyValue,
  keyRow,
  revisionRow,
  tombstoneKeyValue,
} from "./key-layout.ts";
import type { Event, KeyValue, RevisionEvents } from "./types.ts";
import { WatchGroups } from "./watch-groups.ts";
import type { WatchBatch, Watcher, WatcherOptions, WatchRegistry } from "./watch-registry.ts";

/** What the registry reads of its store. */
export interface WatchSource {
  readonly reader: BackendReader;
  readonly revision: number;
  readonly compactRevision: number;
  /** The first revision whose events are all in history; compaction's, except in a replica. */
  readonly watchFloor: number;
}

class RegisteredWatcher implements Watcher {
  readonly options: WatcherOptions;
  readonly #registry: Watchers;
  state: "synced" | "lagging" | "gone" = "gone";
  /** Lagging: the next revision to show. Synced: the first it wants; those notified since were shown. */
  fromRevision: number;
  /** Lagging: the last attempt met a full sink. */
  refused = false;

  constructor(registry: Watchers, options: WatcherOptions, fromRevision: number) {
    this.#registry = registry;
    this.options = options;
    this.fromRevision = fromRevision;
  }

  get synced(): boolean {
    return this.state === "synced";
  }

  get nextRevision(): number {
    if (this.state !== "synced") return this.fromRevision;
    return Math.max(this.fromRevision, this.#registry.notifiedRevision + 1);
  }

  cancel(): void {
    this.#registry.cancel(this);
  }
}

/** Revisions [from, end) of history, as the rows and bytes of one stretch allow. */
interface Window {
  readonly from: number;
  readonly end: number;
}

export class Watchers implements WatchRegistry {
  readonly #source: WatchSource;
  readonly #synced = new WatchGroups<RegisteredWatcher>();
  /** In the order of their turns. */
  readonly #lagging = new Set<RegisteredWatcher>();
  #syncedCount = 0;
  #notifiedRevision: number;

  constructor(source: WatchSource) {
    this.#source = source;
    this.#notifiedRevision = source.revision;
  }

  get watcherCount(): number {
    return this.#syncedCount + this.#lagging.size;
  }

  get laggingCount(): number {
    return this.#lagging.size;
  }

  /** The last revision that `notify` has told of. */
  get notifiedRevision(): number {
    return this.#notifiedRevision;
  }

  watch(options: WatcherOptions): Watcher {
    assert(options.startRevision >= 0, "a start below 0 was refused by the caller");
    const next = this.#source.revision + 1;
    const from = options.startRevision === 0 ? next : options.startRevision;
    const watcher = new RegisteredWatcher(this, options, from);
    if (from >= next) this.#enterSynced(watcher);
    else this.#enterLagging(watcher);
    return watcher;
  }

  cancel(watcher: RegisteredWatcher): void {
    if (watcher.state === "synced") {
      watcher.fromRevision = watcher.nextRevision;
      this.#leaveSynced(watcher);
    }
    this.#lagging.delete(watcher);
    watcher.state = "gone";
  }

  notify(revisions: readonly RevisionEvents[]): void {
    for (const { revision, events } of revisions) {
      assert(revision > this.#notifiedRevision, `revision ${revision} was notified before`);
      assert(revision <= this.#source.revision, "events are notified once they are visible");
      if (this.#syncedCount > 0) this.#deliver(revision, events);
      this.#notifiedRevision = revision;
    }
  }

  catchUp(): boolean {
    const served = this.#pickLagging();
    if (served !== undefined) this.#serve(served.watchers, served.window);
    for (const watcher of this.#lagging) if (!watcher.refused) return true;
    return false;
  }

  previous(key: Bytes, revision: number): KeyValue | undefined {
    if (revision - 1 < this.#source.compactRevision) return undefined;
    return findKeyValue(this.#source.reader, key, revision - 1);
  }

  /** The store's state was replaced, at a later revision: what was not notified comes from history. */
  reload(): void {
    for (const watcher of this.#synced.members()) {
      if (watcher.nextRevision > this.#source.revision) continue;
      this.#fallBehind(watcher, watcher.nextRevision);
      watcher.refused = false;
    }
    this.#notifiedRevision = this.#source.revision;
  }

  #deliver(revision: number, events: readonly Event[]): void {
    for (const event of events) this.#synced.match(event);
    for (const { group, match } of this.#synced.takeMatches()) {
      const batch = match.batch(revision);
      for (const watcher of group.members) {
        if (watcher.fromRevision > revision) continue;
        if (watcher.options.sink.deliver(watcher, batch)) continue;
        this.#fallBehind(watcher, revision);
      }
    }
  }

  #enterSynced(watcher: RegisteredWatcher): void {
    watcher.state = "synced";
    this.#synced.add(watcher, watcher.options, watcher.options.filters);
    this.#syncedCount += 1;
  }

  #leaveSynced(watcher: RegisteredWatcher): void {
    this.#synced.remove(watcher, watcher.options, watcher.options.filters);
    this.#syncedCount -= 1;
  }

  #enterLagging(watcher: RegisteredWatcher): void {
    watcher.state = "lagging";
    watcher.refused = false;
    this.#lagging.add(watcher);
  }

  /** A synced watcher needs `revision` from history; it may be gone meanwhile. */
  #fallBehind(watcher: RegisteredWatcher, revision: number): void {
    if (watcher.state !== "synced") return;
    this.#leaveSynced(watcher);
    watcher.fromRevision = revision;
    this.#enterLagging(watcher);
    watcher.refused = true;
  }

  /** Those of the next pass, and their window; the compacted ones are told and gone. */
  #pickLagging(): { watchers: RegisteredWatcher[]; window: Window } | undefined {
    const { revision, watchFloor } = this.#source;
    const compacted: RegisteredWatcher[] = [];
    const watchers: RegisteredWatcher[] = [];
    let from = -1;
    const windowMax = LIMITS.watchRevisionsPerResponseMax;
    for (const watcher of this.#lagging) {
      const next = watcher.fromRevision;
      if (next < watchFloor) {
        compacted.push(watcher);
        continue;
      }
      if (from < 0) from = next;
      if (next < from || next >= from + windowMax) continue;
      watchers.push(watcher);
      if (watchers.length === LIMITS.watchersPerPassMax) break;
    }
    for (const watcher of compacted) {
      this.cancel(watcher);
      watcher.options.sink.compacted(watcher, watchFloor);
    }
    if (watchers.length === 0) return undefined;
    return { watchers, window: { from, end: Math.min(from + windowMax, revision + 1) } };
  }

  #serve(watchers: readonly RegisteredWatcher[], window: Window): void {
    const headerRevision = this.#source.revision;
    const groups = new WatchGroups<RegisteredWatcher>();
    for (const watcher of watchers) {
      groups.add(watcher, watcher.options, watcher.options.filters, watcher.fromRevision);
    }
    const end = this.#matchHistory(groups, window);
    const refused = new Set<RegisteredWatcher>();
    for (const { group, match } of groups.takeMatches()) {
      const batch: WatchBatch = match.batch(headerRevision);
      for (const watcher of group.members) {
        if (watcher.state !== "lagging") continue;
        if (!watcher.options.sink.deliver(watcher, batch)) refused.add(watcher);
      }
    }
    for (const watcher of watchers) {
      if (watcher.state !== "lagging") continue;
      this.#lagging.delete(watcher);
      if (!refused.has(watcher)) watcher.fromRevision = Math.max(watcher.fromRevision, end);
      if (watcher.fromRevision > this.#source.revision) {
        this.#enterSynced(watcher);
        continue;
      }
      this.#enterLagging(watcher);
      watcher.refused = refused.has(watcher);
    }
  }

  /** Matches the window's changes; returns where it ended, behind a whole revision. */
  #matchHistory(groups: WatchGroups<RegisteredWatcher>, window: Window): number {
    let rows = 0;
    let bytes = 0;
    let last = window.from;
    let { end } = window;
    const start = revisionRow({ main: window.from, sub: 0, tombstone: false });
    const stop = revisionRow({ main: window.end, sub: 0, tombstone: false });
    this.#source.reader.scan("revision", { start, end: stop }, (row, key) => {
      const change = changeOfRevisionRow(row);
      if (change.main > last) {
        if (rows >= LIMITS.stretchRowsMax || bytes >= LIMITS.stretchBytesMax) {
          end = change.main;
          return false;
        }
        last = change.main;
      }
      rows += 1;
      if (!groups.covers(key)) return true;
      const event = this.#readEvent(change, key);
      bytes += key.length + event.kv.value.length;
      groups.match(event);
      return true;
    });
    return end;
  }

  #readEvent(change: ChangeId, key: Bytes): Event {
    if (change.tombstone) return { type: "delete", kv: tombstoneKeyValue(key, change.main) };
    const row = keyRow(key, change);
    const value = this.#source.reader.get("key", row);
    assert(value !== undefined, "a change has a row by key and one by time");
    return { type: "put", kv: decodeKeyValue(row, value) };
  }
}
