/**
 * Watchers against the list of all changes: random ranges, filters and starts, sinks that are full at times, cancels,
 * compactions and restored snapshots, while writes go on. Each watcher gets each matching change once, in order, whole
 * revisions at a time, or is told that it was compacted.
 */
import { expect, test } from "vitest";
import { type Bytes, EMPTY, hexOf, utf8 } from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";
import type { WatchBatch, Watcher, WatcherSink } from "../../../shared/mvcc/watch-registry.ts";
import { isInRange, Model } from "./model.ts";
import { OPEN_END, TestStore } from "./support.ts";

const seed = Number(process.env["SEED"] ?? 77);
const replay = `replay: SEED=${seed} npx vitest run --project unit watchers-model`;

function randomKey(prng: Prng): Bytes {
  return Uint8Array.from({ length: prng.between(1, 2) }, () => prng.pick([0, 97, 98, 99]));
}

/** A sink that refuses at random, and checks each batch as it comes. */
class RandomSink implements WatcherSink {
  readonly #prng: Prng;
  readonly #store: TestStore;
  refusals = 0.3;
  readonly seen: string[] = [];
  lastRevision = 0;
  compactedAt: number | undefined;

  constructor(prng: Prng, store: TestStore) {
    this.#prng = prng;
    this.#store = store;
  }

  deliver(watcher: Watcher, batch: WatchBatch): boolean {
    expect(this.compactedAt, replay).toBeUndefined();
    const revisions = batch.events.map((event) => event.kv.modRevision);
    expect(revisions, replay).toEqual(revisions.toSorted((a, b) => a - b));
    expect(revisions[0], replay).toBeGreaterThan(this.lastRevision);
    expect(batch.lastRevision).toBe(revisions.at(-1));
    expect(batch.headerRevision).toBeGreaterThanOrEqual(batch.lastRevision);
    expect(batch.headerRevision).toBeLessThanOrEqual(this.#store.store.revision);
    if (this.#prng.chance(this.refusals)) return false;
    for (const { type, kv } of batch.events) {
      this.seen.push(
        `${kv.modRevision} ${type} ${hexOf(kv.key)}=${hexOf(kv.value)} v${kv.version}`,
      );
    }
    this.lastRevision = batch.lastRevision;
    if (this.#prng.chance(0.01)) watcher.cancel();
    return true;
  }

  compacted(watcher: Watcher, compactRevision: number): void {
    expect(watcher.nextRevision, replay).toBeLessThan(compactRevision);
    expect(compactRevision).toBe(this.#store.store.compactRevision);
    this.compactedAt = compactRevision;
  }
}

interface Watching {
  readonly watcher: Watcher;
  readonly sink: RandomSink;
  readonly from: number;
}

function startWatching(prng: Prng, store: TestStore): Watching {
  const { revision } = store.store;
  const startRevision = prng.chance(0.4) ? 0 : prng.between(1, revision + 4);
  const sink = new RandomSink(prng, store);
  const watcher = store.store.watches.watch({
    key: randomKey(prng),
    rangeEnd: prng.pick([EMPTY, EMPTY, OPEN_END, utf8("d"), utf8("e")]),
    startRevision,
    filters: { noPut: prng.chance(0.2), noDelete: prng.chance(0.2) },
    sink,
  });
  return {
    watcher,
    sink,
    from: startRevision === 0 ? revision + 1 : startRevision,
  };
}

/** What the watcher should have seen of the changes before `end`. */
function expectedOf({ watcher, from }: Watching, model: Model, end: number): string[] {
  const { key, rangeEnd, filters } = watcher.options;
  return model.changes
    .filter(({ main }) => main >= from && main < end)
    .filter(({ type }) => !(type === "put" ? filters.noPut : filters.noDelete))
    .filter(({ kv }) => isInRange(kv.key, key, rangeEnd))
    .map(
      ({ type, kv }) =>
        `${kv.modRevision} ${type} ${hexOf(kv.key)}=${hexOf(kv.value)} v${kv.version}`,
    );
}

function writeRandomly(prng: Prng, store: TestStore, model: Model): void {
  const keys = new Map<string, Bytes>();
  for (let count = prng.pick([1, 1, 2, 5]); count > 0; count -= 1) {
    const key = randomKey(prng);
    keys.set(hexOf(key), key);
  }
  store.write((transaction) => {
    for (const key of keys.values()) {
      if (prng.chance(0.3)) transaction.delete(key);
      else transaction.put(key, utf8(`v${prng.below(50)}`), 0n);
    }
  });
  for (const { events } of store.unnotified.slice(-1)) {
    if (model.revision < store.store.revision) model.add(events);
  }
}

function check(watching: Watching, model: Model): void {
  const { watcher, sink } = watching;
  // One that cancelled itself while it was told has seen what it was told.
  const end = Math.max(watcher.nextRevision, sink.lastRevision + 1);
  if (watcher.synced) expect(sink.lastRevision).toBeLessThan(watcher.nextRevision);
  const shown = expectedOf(watching, model, end);
  expect(sink.seen, replay).toEqual(shown);
}

test("each watcher sees each matching change once, in order", { timeout: 20_000 }, () => {
  const prng = new Prng(seed);
  for (let history = 0; history < 5; history += 1) {
    const store = new TestStore();
    store.notifies = false;
    const model = new Model();
    const all: Watching[] = [];
    for (let round = 0; round < 120; round += 1) {
      for (let count = prng.below(4); count > 0; count -= 1) writeRandomly(prng, store, model);
      if (prng.chance(0.3)) all.push(startWatching(prng, store));
      if (prng.chance(0.03)) store.store.reload();
      else store.notify();
      store.unnotified = [];
      if (prng.chance(0.3)) all.push(startWatching(prng, store));
      if (prng.chance(0.3)) store.store.watches.catchUp();
      if (prng.chance(0.05) && all.length > 0) prng.pick(all).watcher.cancel();
      if (prng.chance(0.04)) {
        store.compact(prng.between(1, store.store.revision));
        store.stepCompaction();
      }
      for (const watching of all) check(watching, model);
    }
    for (const { sink } of all) sink.refusals = 0;
    while (store.store.watches.catchUp());
    expect(store.store.watches.laggingCount, replay).toBe(0);
    let live = 0;
    for (const watching of all) {
      check(watching, model);
      if (watching.watcher.synced) live += 1;
      if (watching.watcher.synced)
        expect(watching.watcher.nextRevision).toBeGreaterThan(model.revision);
    }
    expect(store.store.watches.watcherCount).toBe(live);
  }
});
