/**
 * The store against the plain model: random writes, compactions in small steps, restarts, ranges of every shape,
 * hashes.
 */
import { expect, test } from "vitest";
import { type Bytes, hexOf } from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";
import type { RangeQuery } from "../../../shared/mvcc/types.ts";
import { Model } from "./model.ts";
import { OPEN_END, query, TestStore, utf8 } from "./support.ts";

const seed = Number(process.env["SEED"] ?? 2026);
const replay = `replay: SEED=${seed} npx vitest run --project unit store-model`;

function randomKey(prng: Prng): Bytes {
  return Uint8Array.from({ length: prng.between(1, 3) }, () => prng.pick([0, 97, 98, 255]));
}

function randomQuery(prng: Prng, model: Model): RangeQuery {
  const bound = () => (prng.chance(0.15) ? prng.between(1, model.revision + 1) : 0);
  return {
    ...query(""),
    key: randomKey(prng),
    rangeEnd: prng.pick([OPEN_END, OPEN_END, randomKey(prng), new Uint8Array(0)]),
    revision: prng.chance(0.5) ? 0 : prng.between(-1, model.revision + 1),
    limit: prng.pick([0, 0, 1, 2, 5, -1]),
    sortOrder: prng.pick(["none", "none", "ascend", "descend"]),
    sortTarget: prng.pick(["key", "key", "version", "create", "mod", "value"]),
    keysOnly: prng.chance(0.2),
    countOnly: prng.chance(0.2),
    minModRevision: bound(),
    maxModRevision: bound(),
    minCreateRevision: bound(),
    maxCreateRevision: bound(),
  };
}

function writeRandomly(prng: Prng, store: TestStore): void {
  const deleted = new Set<string>();
  const events = store.write((transaction) => {
    for (let count = prng.pick([1, 1, 1, 2, 4]); count > 0; count -= 1) {
      const key = randomKey(prng);
      // No transaction of etcd can put a key that it deleted before; to delete what it put is possible.
      if (prng.chance(0.4) || deleted.has(hexOf(key))) {
        if (transaction.delete(key) !== undefined) deleted.add(hexOf(key));
      } else transaction.put(key, utf8(`v${prng.below(50)}`), prng.pick([0n, 0n, 7n, -9n]));
    }
  });
  if (events !== undefined) expect(events.revision).toBe(store.store.revision);
}

function compareRanges(prng: Prng, store: TestStore, model: Model): void {
  for (let round = 0; round < 6; round += 1) {
    const asked = randomQuery(prng, model);
    const expected = model.range(asked);
    const answer = store.store.range(asked);
    const cursor = store.store.openRange(asked);
    if (typeof expected === "string") {
      expect(answer, replay).toEqual({ code: expected });
      expect(cursor, replay).toEqual({ code: expected });
      continue;
    }
    expect(answer, replay).toEqual(expected);
    if ("code" in cursor) throw new Error(cursor.code);
    while (!cursor.advance({ rows: 2, bytes: 100 }));
    expect(cursor.result(), replay).toEqual(expected);
    cursor.close();
    if (asked.rangeEnd.length === 0) {
      expect(store.store.get(asked.key)).toEqual(model.get(asked.key, model.revision));
    }
  }
}

/** Once all is removed, just the rows that etcd's key index would keep are there. */
function compareRows(store: TestStore, model: Model): void {
  let rows = 0;
  store.backend.scan("revision", {}, () => {
    rows += 1;
    return true;
  });
  expect(rows, replay).toBe(model.stored().length);
  rows = 0;
  store.backend.scan("key", {}, () => {
    rows += 1;
    return true;
  });
  expect(rows, replay).toBe(model.stored().length);
}

test(
  "random histories agree with the model, with compactions and restarts",
  { timeout: 20_000 },
  () => {
    const prng = new Prng(seed);
    for (let history = 0; history < 12; history += 1) {
      let store = new TestStore();
      const model = new Model();
      const step = { rows: prng.pick([1, 2, 7, 1000]), bytes: prng.pick([1, 50, 1e6]) };
      for (let round = 0; round < 60; round += 1) {
        store.notifies = false;
        writeRandomly(prng, store);
        for (const { events } of store.unnotified) model.add(events);
        store.notify();
        if (prng.chance(0.1)) {
          const target = prng.between(0, model.revision + 1);
          const refusal = store.compact(target);
          if (target > model.revision) expect(refusal).toEqual({ code: "futureRev" });
          else if (target <= model.compactRevision) expect(refusal).toEqual({ code: "compacted" });
          else {
            expect(refusal).toBeUndefined();
            model.compactRevision = target;
          }
        }
        if (prng.chance(0.5)) store.stepCompaction(step);
        if (prng.chance(0.05)) store = new TestStore(store.backend);
        expect(store.store.revision, replay).toBe(model.revision);
        expect(store.store.compactRevision, replay).toBe(model.compactRevision);
        compareRanges(prng, store, model);
        if (prng.chance(0.3)) {
          const low = Math.max(model.compactRevision, 1);
          const at = prng.between(low, model.revision);
          expect(store.hash(at, step), `hash at ${at}; ${replay}`).toBe(model.hash(at));
        }
        if (prng.chance(0.1)) {
          store.finishCompaction(step);
          compareRows(store, model);
        }
      }
    }
  },
);
