/**
 * The promises of `shared/raft/log-store.ts`, a test for each. Every log store runs them in one
 * line:
 *
 *     logStoreConformance("memory", () => ({ store, settle, reopen }));
 *
 * `open` makes a new, empty store for each test.
 */
import { afterEach, describe, expect, test } from "vitest";
import { assert } from "../../../shared/base/assert.ts";
import { Prng } from "../../../shared/base/prng.ts";
import type { LogStore, LogWrite } from "../../../shared/raft/log-store.ts";
import { MemoryLog } from "../../../shared/raft/memory-log.ts";
import type { Entry, HardState } from "../../../shared/raft/types.ts";

export interface OpenedLogStore {
  readonly store: LogStore;
  /** Waits until all that was appended is durable and reported. */
  settle(store: LogStore): void | Promise<void>;
  /** Crashes the store and opens it anew with what was durable. */
  reopen(store: LogStore): LogStore | Promise<LogStore>;
  /** After the test, for the store that was opened last: closes it, removes files. */
  remove?(store: LogStore): void | Promise<void>;
}

function entry(index: number, term: number, bytes = 8): Entry {
  const kind = index % 5 === 0 ? "membership" : "normal";
  return { index, term, kind, data: new Uint8Array(bytes).fill(index * 31 + term) };
}

function entries(first: number, count: number, term: number, bytes = 8): Entry[] {
  return Array.from({ length: count }, (_, place) => entry(first + place, term, bytes));
}

function write(sequence: number, parts: Partial<LogWrite>): LogWrite {
  const nothing = { snapshot: undefined, hardState: undefined, entries: [], mustSync: true };
  return { ...nothing, ...parts, sequence };
}

function contentOf(store: LogStore): unknown {
  return {
    hardState: store.hardState,
    base: [store.firstIndex - 1, store.termOf(store.firstIndex - 1)],
    last: [store.lastIndex, store.termOf(store.lastIndex)],
    entries: store.slice(store.firstIndex, store.lastIndex + 1, Infinity),
  };
}

export function logStoreConformance(
  name: string,
  open: () => OpenedLogStore | Promise<OpenedLogStore>,
): void {
  describe(`log store: ${name}`, () => {
    let opened: OpenedLogStore | undefined;
    let store: LogStore;
    let reported: number[] = [];

    const begin = async (): Promise<void> => {
      opened = await open();
      store = opened.store;
      listen();
    };
    const listen = (): void => {
      reported = [];
      store.onDurable = (sequence) => reported.push(sequence);
    };
    const settle = async (): Promise<void> => {
      await opened?.settle(store);
    };
    const reopen = async (): Promise<void> => {
      assert(opened !== undefined, "begin first");
      store = await opened.reopen(store);
      listen();
    };

    afterEach(async () => {
      await opened?.remove?.(store);
      opened = undefined;
    });

    test("a log that was never written is empty and has no hard state", async () => {
      await begin();
      expect(store.hardState).toBeUndefined();
      expect([store.firstIndex, store.lastIndex]).toEqual([1, 0]);
      expect(store.termOf(0)).toBe(0);
      expect(store.termOf(1)).toBeUndefined();
      expect(store.slice(1, 1, 100)).toEqual([]);
    });

    test("writes are readable at once, before they are durable", async () => {
      await begin();
      const hardState: HardState = { term: 2, vote: "18446744073709551615", commit: 1 };
      store.append(write(1, { hardState, entries: entries(1, 3, 2) }));
      expect(store.hardState).toEqual(hardState);
      expect([store.firstIndex, store.lastIndex]).toEqual([1, 3]);
      expect(store.slice(1, 4, Infinity)).toEqual(entries(1, 3, 2));
      expect([1, 2, 3, 4].map((index) => store.termOf(index))).toEqual([2, 2, 2, undefined]);
    });

    test("slice is cut after the bytes asked for, but gives one entry at least", async () => {
      await begin();
      store.append(write(1, { entries: entries(1, 5, 1, 10) }));
      const indexes = (low: number, high: number, bytesMax: number) =>
        store.slice(low, high, bytesMax).map((each) => each.index);
      expect(indexes(1, 6, 30)).toEqual([1, 2, 3]);
      expect(indexes(2, 6, 29)).toEqual([2, 3]);
      expect(indexes(2, 6, 0)).toEqual([2]);
      expect(indexes(2, 3, 1000)).toEqual([2]);
      expect(indexes(6, 6, 0)).toEqual([]);
    });

    test("slice asserts its bounds", async () => {
      await begin();
      store.append(write(1, { entries: entries(1, 5, 1) }));
      await settle();
      store.compact(2);
      expect(() => store.slice(2, 4, 100)).toThrow();
      expect(() => store.slice(3, 7, 100)).toThrow();
      expect(() => store.slice(5, 4, 100)).toThrow();
    });

    test("entries replace whatever was there from the first one's index on", async () => {
      await begin();
      store.append(write(1, { entries: entries(1, 6, 1) }));
      store.append(write(2, { entries: entries(4, 1, 2) }));
      expect(store.lastIndex).toBe(4);
      expect(store.slice(1, 5, Infinity)).toEqual([...entries(1, 3, 1), entry(4, 2)]);
      await settle();
      await reopen();
      expect(store.slice(1, 5, Infinity)).toEqual([...entries(1, 3, 1), entry(4, 2)]);
    });

    test("durability is reported with growing sequences, up to the last", async () => {
      await begin();
      for (let sequence = 1; sequence <= 5; sequence += 1) {
        store.append(write(sequence * 2, { entries: entries(sequence, 1, 1) }));
      }
      await settle();
      expect(reported.at(-1)).toBe(10);
      expect(reported).toEqual([...new Set(reported)].sort((a, b) => a - b));
    });

    test("a write of a commit index alone is reported as well", async () => {
      await begin();
      const hardState: HardState = { term: 1, vote: undefined, commit: 0 };
      store.append(write(1, { hardState, entries: entries(1, 1, 1) }));
      await settle();
      store.append(write(2, { hardState: { ...hardState, commit: 1 }, mustSync: false }));
      await settle();
      expect(reported.at(-1)).toBe(2);
      expect(store.hardState?.commit).toBe(1);
    });

    test("what was reported survives a crash, byte by byte", async () => {
      await begin();
      const hardState: HardState = { term: 3, vote: "7", commit: 2 };
      const data = [entry(1, 1, 0), entry(2, 1, 1), entry(3, 3, 70_000), entry(4, 3, 5)];
      store.append(write(1, { hardState, entries: data }));
      await settle();
      const before = contentOf(store);
      await reopen();
      expect(contentOf(store)).toEqual(before);
      expect(store.slice(1, 5, Infinity)).toEqual(data);
    });

    test("compaction drops entries but keeps the last one's term, also over a crash", async () => {
      await begin();
      store.append(write(1, { entries: [...entries(1, 3, 1), ...entries(4, 3, 2)] }));
      await settle();
      store.compact(4);
      expect([store.firstIndex, store.lastIndex]).toEqual([5, 6]);
      expect([3, 4, 5].map((index) => store.termOf(index))).toEqual([undefined, 2, 2]);
      store.compact(2);
      expect(store.firstIndex).toBe(5);
      store.append(write(2, { entries: entries(7, 1, 2) }));
      await settle();
      await reopen();
      expect(store.lastIndex).toBe(7);
      // A store may give up whole files only, and then finds some older entries again.
      expect(store.firstIndex).toBeLessThanOrEqual(5);
      expect(store.termOf(4)).toBe(2);
      expect(store.slice(5, 8, Infinity)).toEqual([...entries(5, 2, 2), entry(7, 2)]);
    });

    test("a log that was compacted to its end goes on behind it", async () => {
      await begin();
      store.append(write(1, { entries: entries(1, 3, 1) }));
      await settle();
      store.compact(3);
      expect([store.firstIndex, store.lastIndex]).toEqual([4, 3]);
      expect(store.termOf(3)).toBe(1);
      store.append(write(2, { entries: entries(4, 2, 1) }));
      expect(store.slice(4, 6, Infinity)).toEqual(entries(4, 2, 1));
    });

    test("a snapshot starts the log anew behind it, with the entries of its write", async () => {
      await begin();
      store.append(write(1, { entries: entries(1, 8, 1) }));
      const hardState: HardState = { term: 4, vote: undefined, commit: 5 };
      const snapshot = { index: 5, term: 3 };
      store.append(write(2, { snapshot, hardState, entries: entries(6, 1, 4) }));
      const check = (): void => {
        expect([store.firstIndex, store.lastIndex]).toEqual([6, 6]);
        expect([4, 5, 6, 7].map((index) => store.termOf(index))).toEqual([
          undefined,
          3,
          4,
          undefined,
        ]);
        expect(store.hardState).toEqual(hardState);
      };
      check();
      await settle();
      await reopen();
      check();
    });

    test("a random history reads like a plain array, before and after crashes", async () => {
      const seed = Date.now() >>> 0;
      console.log(`log store ${name}: seed ${seed}`);
      const prng = new Prng(seed);
      await begin();
      const model = new MemoryLog();
      let [sequence, term] = [0, 1];
      for (let step = 0; step < 150; step += 1) {
        if (prng.chance(0.1)) term += 1;
        sequence += 1;
        if (prng.chance(0.04)) {
          const snapshot = { index: model.lastIndex + prng.below(5), term };
          model.reset(snapshot);
          store.append(write(sequence, { snapshot }));
        } else {
          const overlap = Math.min(prng.below(3), model.lastIndex + 1 - model.firstIndex);
          const first = model.lastIndex + 1 - overlap;
          const added = entries(first, prng.between(1, 4), term, prng.below(50));
          model.append(added);
          store.append(write(sequence, { entries: added }));
        }
        if (prng.chance(0.2)) await settle();
        if (prng.chance(0.1)) {
          await settle();
          const index = prng.between(model.firstIndex - 1, model.lastIndex);
          model.compact(index);
          store.compact(index);
        }
        if (prng.chance(0.05)) {
          await settle();
          await reopen();
          sequence = 0;
          // What the store finds again below is given up again.
          store.compact(model.firstIndex - 1);
        }
        expect([store.firstIndex, store.lastIndex]).toEqual([model.firstIndex, model.lastIndex]);
        expect(store.termOf(store.firstIndex - 1)).toBe(model.termOf(model.firstIndex - 1));
        expect(store.slice(store.firstIndex, store.lastIndex + 1, Infinity)).toEqual(
          model.slice(model.firstIndex, model.lastIndex + 1, Infinity),
        );
      }
    });
  });
}
