/** The ordered map against a plain sorted array, its clones, and its worked shapes. */
import { describe, expect, test } from "vitest";
import { type Bytes, compareBytes, textOf, utf8 } from "../../../shared/base/bytes.ts";
import { OrderedMap, type OrderedMapRange } from "../../../shared/base/ordered-map.ts";
import { Prng } from "../../../shared/base/prng.ts";

const seed = Number(process.env["SEED"] ?? 41);
const replay = `seed ${seed}; replay: SEED=${seed} npx vitest run --project unit ordered-map`;

function entriesOf(map: OrderedMap<number>, range: OrderedMapRange = {}): string[] {
  const entries: string[] = [];
  map.scan(range, (key, value) => {
    entries.push(`${textOf(key)}=${value}`);
    return true;
  });
  return entries;
}

function modelEntries(model: ReadonlyMap<string, number>, range: OrderedMapRange): string[] {
  const inside = [...model]
    .map(([key, value]) => [utf8(key), value] as const)
    .filter(
      ([key]) =>
        (range.start === undefined || compareBytes(key, range.start) >= 0) &&
        (range.end === undefined || compareBytes(key, range.end) < 0),
    )
    .sort((a, b) => compareBytes(a[0], b[0]));
  if (range.reverse === true) inside.reverse();
  return inside.map(([key, value]) => `${textOf(key)}=${value}`);
}

function randomKey(prng: Prng): Bytes {
  return utf8(`key/${prng.below(3000)}`);
}

describe("ordered map", () => {
  test("set answers what it replaced, delete what it removed", () => {
    const map = new OrderedMap<number>();
    expect(map.set(utf8("a"), 1)).toBeUndefined();
    expect(map.set(utf8("a"), 2)).toBe(1);
    expect(map.size).toBe(1);
    expect(map.delete(utf8("b"))).toBeUndefined();
    expect(map.delete(utf8("a"))).toBe(2);
    expect(map.size).toBe(0);
    expect(entriesOf(map)).toEqual([]);
  });

  test("ascending, descending and random inserts and deletes agree with a model", () => {
    const prng = new Prng(seed);
    for (const order of ["ascending", "descending", "random"]) {
      const map = new OrderedMap<number>();
      const model = new Map<string, number>();
      const numbers = Array.from({ length: 3000 }, (_, i) =>
        order === "descending" ? 3000 - i : i,
      );
      if (order === "random") numbers.sort(() => prng.below(3) - 1);
      for (const number of numbers) {
        const key = `k${String(number).padStart(5, "0")}`;
        map.set(utf8(key), number);
        model.set(key, number);
      }
      expect(map.size).toBe(3000);
      expect(entriesOf(map), order).toEqual(modelEntries(model, {}));
      expect(entriesOf(map, { reverse: true }), order).toEqual(
        modelEntries(model, { reverse: true }),
      );
      for (const number of numbers) {
        if (number % 7 === 0) continue;
        const key = `k${String(number).padStart(5, "0")}`;
        expect(map.delete(utf8(key))).toBe(number);
        model.delete(key);
      }
      expect(map.size).toBe(model.size);
      expect(entriesOf(map), order).toEqual(modelEntries(model, {}));
      for (const key of model.keys()) map.delete(utf8(key));
      expect(map.size).toBe(0);
      expect(entriesOf(map)).toEqual([]);
    }
  });

  test("random changes, ranges and clones agree with a model", () => {
    const prng = new Prng(seed);
    const map = new OrderedMap<number>();
    const model = new Map<string, number>();
    const views: { map: OrderedMap<number>; model: Map<string, number> }[] = [];
    for (let step = 0; step < 6000; step += 1) {
      const key = randomKey(prng);
      // The mix drifts, so that the map grows, shrinks to nearly nothing, and grows again.
      if (prng.chance(0.5 + 0.45 * Math.sin(step / 700))) {
        expect(map.set(key, step), replay).toBe(model.get(textOf(key)));
        model.set(textOf(key), step);
      } else {
        expect(map.delete(key), replay).toBe(model.get(textOf(key)));
        model.delete(textOf(key));
      }
      expect(map.size).toBe(model.size);
      if (step % 500 === 250) views.push({ map: map.clone(), model: new Map(model) });
      if (step % 50 === 0) {
        const range = {
          start: prng.chance(0.7) ? randomKey(prng) : undefined,
          end: prng.chance(0.7) ? randomKey(prng) : undefined,
          reverse: prng.chance(0.5),
        };
        expect(entriesOf(map, range), replay).toEqual(modelEntries(model, range));
        for (const view of views) expect(view.map.get(key)).toBe(view.model.get(textOf(key)));
      }
    }
    for (const view of views) {
      expect(entriesOf(view.map), replay).toEqual(modelEntries(view.model, {}));
    }
  });

  test("a changed clone leaves its source as it was", () => {
    const map = new OrderedMap<number>();
    for (let i = 0; i < 500; i += 1) map.set(utf8(`k${i}`), i);
    const copy = map.clone();
    const before = entriesOf(map);
    for (let i = 0; i < 500; i += 2) copy.delete(utf8(`k${i}`));
    copy.set(utf8("new"), 1);
    expect(entriesOf(map)).toEqual(before);
    expect(copy.size).toBe(251);
    copy.clear();
    expect(copy.size).toBe(0);
    expect(map.size).toBe(500);
  });

  test("a cursor stays at its end", () => {
    const map = new OrderedMap<number>();
    for (let i = 0; i < 200; i += 1) map.set(utf8(`k${i + 100}`), i);
    for (const reverse of [false, true]) {
      const cursor = map.cursor({ start: utf8("k150"), end: utf8("k160"), reverse });
      let count = 0;
      while (cursor.next()) count += 1;
      expect(count).toBe(10);
      expect(cursor.next()).toBe(false);
      expect(cursor.next()).toBe(false);
    }
  });

  test("a visitor that changes the map is caught", () => {
    const map = new OrderedMap<number>();
    map.set(utf8("a"), 1);
    expect(() =>
      map.scan({}, () => {
        map.set(utf8("b"), 2);
        return true;
      }),
    ).toThrow("while it is scanned");
  });
});
