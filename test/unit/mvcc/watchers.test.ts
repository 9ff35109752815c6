/** Watching, rule by rule: starts, filters, sharing, full sinks, history in bounded passes, compaction. */
import { describe, expect, test } from "vitest";
import { LIMITS } from "../../../shared/base/limits.ts";
import type {
  WatchBatch,
  Watcher,
  WatcherOptions,
  WatcherSink,
} from "../../../shared/mvcc/watch-registry.ts";
import { EMPTY, kvText, OPEN_END, TestStore, textOf, utf8 } from "./support.ts";

class Sink implements WatcherSink {
  readonly batches: WatchBatch[] = [];
  full = false;
  compactedAt: number | undefined;

  deliver(_watcher: Watcher, batch: WatchBatch): boolean {
    if (this.full) return false;
    this.batches.push(batch);
    return true;
  }

  compacted(_watcher: Watcher, compactRevision: number): void {
    this.compactedAt = compactRevision;
  }

  /** `header: events`, a batch each; a put as key=value, a delete as -key. */
  texts(): string[] {
    return this.batches.map(({ headerRevision, events }) => {
      const changes = events.map(({ type, kv }) =>
        type === "put" ? `${textOf(kv.key)}=${textOf(kv.value)}` : `-${textOf(kv.key)}`,
      );
      return `${headerRevision}: ${changes.join(" ")}`;
    });
  }
}

function watch(
  store: TestStore,
  key: string,
  rangeEnd = EMPTY,
  more: Partial<WatcherOptions> = {},
) {
  const sink = new Sink();
  const watcher = store.store.watches.watch({
    key: utf8(key),
    rangeEnd,
    startRevision: 0,
    filters: { noPut: false, noDelete: false },
    sink,
    ...more,
  });
  return { sink, watcher };
}

function catchUpWholly(store: TestStore): number {
  let passes = 1;
  while (store.store.watches.catchUp()) passes += 1;
  return passes;
}

describe("a live watcher", () => {
  test("is told of its key, its range or everything, one batch a revision", () => {
    const store = new TestStore();
    const key = watch(store, "a");
    const range = watch(store, "a", utf8("c"));
    const all = watch(store, "\0", OPEN_END);
    store.put("a", "1");
    store.write((transaction) => {
      transaction.put(utf8("c"), utf8("2"), 0n);
      transaction.put(utf8("b"), utf8("3"), 0n);
      transaction.delete(utf8("a"));
    });
    expect(key.sink.texts()).toEqual(["2: a=1", "3: -a"]);
    expect(range.sink.texts()).toEqual(["2: a=1", "3: b=3 -a"]);
    expect(all.sink.texts()).toEqual(["2: a=1", "3: c=2 b=3 -a"]);
    expect(key.watcher.nextRevision).toBe(4);
  });

  test("a delete's event has key and revision only", () => {
    const store = new TestStore();
    store.put("a", "1", 5n);
    const { sink } = watch(store, "a");
    store.delete("a");
    const expected = { ...sink.batches[0]?.events[0]?.kv };
    expect(expected).toEqual({
      key: utf8("a"),
      value: EMPTY,
      createRevision: 0,
      modRevision: 3,
      version: 0,
      lease: 0n,
    });
  });

  test("filters leave out puts or deletes, and send nothing when all is left out", () => {
    const store = new TestStore();
    const noPut = watch(store, "a", OPEN_END, { filters: { noPut: true, noDelete: false } });
    const noDelete = watch(store, "a", OPEN_END, { filters: { noPut: false, noDelete: true } });
    const nothing = watch(store, "a", OPEN_END, { filters: { noPut: true, noDelete: true } });
    store.put("a", "1");
    store.delete("a");
    expect(noPut.sink.texts()).toEqual(["3: -a"]);
    expect(noDelete.sink.texts()).toEqual(["2: a=1"]);
    expect(nothing.sink.texts()).toEqual([]);
    expect(nothing.watcher.nextRevision).toBe(4);
  });

  test("a start in the future waits silently", () => {
    const store = new TestStore();
    const { sink, watcher } = watch(store, "a", EMPTY, { startRevision: 4 });
    expect([watcher.synced, watcher.nextRevision]).toEqual([true, 4]);
    for (const value of ["1", "2", "3", "4"]) store.put("a", value);
    expect(sink.texts()).toEqual(["4: a=3", "5: a=4"]);
  });

  test("watchers that match the same events get the same batch", () => {
    const store = new TestStore();
    const watchers = [
      watch(store, "a"),
      watch(store, "a"),
      watch(store, "a", utf8("b")),
      watch(store, "\0", OPEN_END),
    ];
    store.put("a", "1");
    expect(new Set(watchers.map(({ sink }) => sink.batches[0])).size).toBe(1);
    store.write((transaction) => {
      transaction.put(utf8("a"), utf8("2"), 0n);
      transaction.put(utf8("b"), utf8("3"), 0n);
    });
    const [one, two, three, all] = watchers.map(({ sink }) => sink.batches[1]);
    expect(new Set([one, two, three]).size).toBe(1);
    expect(all).not.toBe(one);
  });

  test("a cancelled watcher is told of nothing more, and is counted no more", () => {
    const store = new TestStore();
    const { sink, watcher } = watch(store, "a");
    expect(store.store.watches.watcherCount).toBe(1);
    watcher.cancel();
    watcher.cancel();
    store.put("a", "1");
    expect(sink.texts()).toEqual([]);
    expect(store.store.watches.watcherCount).toBe(0);
  });

  test("a revision is notified once and after it is visible", () => {
    const store = new TestStore();
    store.put("a", "1");
    const events = { revision: 2, events: [] };
    expect(() => store.store.watches.notify([events])).toThrow("notified before");
    expect(() => store.store.watches.notify([{ ...events, revision: 3 }])).toThrow("visible");
  });
});

describe("a full sink", () => {
  test("makes the watcher lag, and the same revisions come again from history", () => {
    const store = new TestStore();
    const { sink, watcher } = watch(store, "a");
    store.put("a", "1");
    sink.full = true;
    store.put("a", "2");
    store.put("a", "3");
    expect([watcher.synced, watcher.nextRevision]).toEqual([false, 3]);
    expect(store.store.watches.laggingCount).toBe(1);
    expect(store.store.watches.catchUp()).toBe(false);
    sink.full = false;
    expect(store.store.watches.catchUp()).toBe(false);
    expect(watcher.synced).toBe(true);
    store.put("a", "4");
    expect(sink.texts()).toEqual(["2: a=1", "4: a=2 a=3", "5: a=4"]);
  });

  test("of one watcher doesn't hold up another one on the same key", () => {
    const store = new TestStore();
    const slow = watch(store, "a");
    const quick = watch(store, "a");
    slow.sink.full = true;
    store.put("a", "1");
    store.put("a", "2");
    store.store.watches.catchUp();
    expect(quick.sink.texts()).toEqual(["2: a=1", "3: a=2"]);
  });
});

describe("history", () => {
  test("a start in the past replays, with the current revision in the header", () => {
    const store = new TestStore();
    for (const value of ["1", "2", "3"]) store.put("a", value);
    store.delete("a");
    const { sink, watcher } = watch(store, "a", EMPTY, { startRevision: 3 });
    expect([watcher.synced, watcher.nextRevision]).toEqual([false, 3]);
    expect(sink.texts()).toEqual([]);
    expect(store.store.watches.catchUp()).toBe(false);
    expect(sink.texts()).toEqual(["5: a=2 a=3 -a"]);
    expect([watcher.synced, watcher.nextRevision]).toEqual([true, 6]);
  });

  test("comes in batches of at most a thousand revisions", () => {
    const store = new TestStore();
    for (let count = 0; count < 2500; count += 1) store.put("a", String(count));
    const { sink } = watch(store, "a", EMPTY, { startRevision: 1 });
    expect(catchUpWholly(store)).toBe(3);
    expect(sink.batches.map(({ events }) => events.length)).toEqual([999, 1000, 501]);
    const values = sink.batches.flatMap(({ events }) => events.map(({ kv }) => textOf(kv.value)));
    expect(values).toEqual(Array.from({ length: 2500 }, (_, at) => String(at)));
  });

  test("large values end a batch early, at a whole revision", () => {
    const store = new TestStore();
    const value = "x".repeat(LIMITS.stretchBytesMax / 4);
    for (let count = 0; count < 6; count += 1) {
      store.write((transaction) => {
        transaction.put(utf8("a"), utf8(value), 0n);
        transaction.put(utf8("b"), utf8(value), 0n);
      });
    }
    const { sink } = watch(store, "a", OPEN_END, { startRevision: 2 });
    catchUpWholly(store);
    expect(sink.batches.map(({ events }) => events.length)).toEqual([4, 4, 4]);
  });

  test("is read for all watchers of a window at once, and shared among those that match alike", () => {
    const store = new TestStore();
    for (let count = 0; count < 50; count += 1) store.put("a", String(count));
    const same = Array.from({ length: 20 }, () => watch(store, "a", EMPTY, { startRevision: 2 }));
    const later = watch(store, "a", EMPTY, { startRevision: 40 });
    expect(catchUpWholly(store)).toBe(1);
    expect(new Set(same.map(({ sink }) => sink.batches[0])).size).toBe(1);
    expect(same[0]?.sink.batches[0]?.events.length).toBe(50);
    expect(later.sink.batches[0]?.events.length).toBe(12);
  });

  test("serves at most so many watchers a pass, each in its turn", () => {
    const store = new TestStore();
    store.put("a", "1");
    const count = LIMITS.watchersPerPassMax * 2 + 1;
    const all = Array.from({ length: count }, () => watch(store, "a", EMPTY, { startRevision: 2 }));
    expect(catchUpWholly(store)).toBe(3);
    for (const { sink } of all) expect(sink.texts()).toEqual(["2: a=1"]);
  });

  test("a watcher far behind doesn't hold up one that is nearly there", () => {
    const store = new TestStore();
    for (let count = 0; count < 5000; count += 1) store.put("a", String(count));
    const far = watch(store, "a", EMPTY, { startRevision: 2 });
    const near = watch(store, "a", EMPTY, { startRevision: 5000 });
    store.store.watches.catchUp();
    store.store.watches.catchUp();
    expect([far.watcher.synced, near.watcher.synced]).toEqual([false, true]);
  });
});

describe("compaction", () => {
  test("a start below it is told at the next pass; one at it is served", () => {
    const store = new TestStore();
    for (const value of ["1", "2"]) store.put("a", value);
    store.delete("a");
    store.compactFully(4);
    const below = watch(store, "a", EMPTY, { startRevision: 3 });
    const at = watch(store, "a", EMPTY, { startRevision: 4 });
    expect(below.sink.compactedAt).toBeUndefined();
    catchUpWholly(store);
    expect(below.sink.compactedAt).toBe(4);
    expect(below.sink.texts()).toEqual([]);
    expect(at.sink.texts()).toEqual(["4: -a"]);
    expect(store.store.watches.watcherCount).toBe(1);
  });

  test("a watcher that fell behind it is told; a synced one stays", () => {
    const store = new TestStore();
    const slow = watch(store, "a");
    const quick = watch(store, "a");
    slow.sink.full = true;
    for (const value of ["1", "2", "3"]) store.put("a", value);
    store.compactFully(4);
    store.store.watches.catchUp();
    expect(slow.sink.compactedAt).toBe(4);
    store.put("a", "4");
    expect(quick.sink.texts().length).toBe(4);
  });

  test("what was before a change is unknown once it is compacted", () => {
    const store = new TestStore();
    store.put("a", "1");
    store.put("a", "2");
    store.delete("a");
    const previous = (revision: number) =>
      kvText(store.store.watches.previous(utf8("a"), revision));
    expect([2, 3, 4, 5].map(previous)).toEqual([undefined, "a=1 2/2/1", "a=2 2/3/2", undefined]);
    store.compactFully(3);
    expect([3, 4].map(previous)).toEqual([undefined, "a=2 2/3/2"]);
  });
});

test("after a restored snapshot, watchers get from history what they weren't notified of", async () => {
  const store = new TestStore();
  store.put("a", "1");
  const { sink, watcher } = watch(store, "a");
  const source = new TestStore();
  for (const value of ["1", "2", "3"]) source.put("a", value);
  const shadow = store.backend.shadow();
  shadow.apply((writer) => {
    for (const table of ["key", "revision", "meta"] as const) {
      source.backend.scan(table, {}, (key, value) => {
        writer.put(table, key, value);
        return true;
      });
    }
  });
  await shadow.install(9);
  store.store.reload();
  expect([store.store.revision, watcher.synced]).toEqual([4, false]);
  catchUpWholly(store);
  expect(sink.texts()).toEqual(["4: a=2 a=3"]);
});
