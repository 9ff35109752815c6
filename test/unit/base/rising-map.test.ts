/** base/rising-map: against a plain Map, under additions and removals at random. */
import { describe, expect, test } from "vitest";
import { Prng } from "../../../shared/base/prng.ts";
import { RisingMap } from "../../../shared/base/rising-map.ts";

describe("rising map", () => {
  test("holds what a Map holds, at random", () => {
    const seed = Number(process.env["SEED"] ?? 7);
    const prng = new Prng(seed);
    const map = new RisingMap<{ key: number }>();
    const model = new Map<number, { key: number }>();
    let key = 0;
    for (let step = 0; step < 4000; step += 1) {
      // Grows at first, then shrinks; mostly the oldest goes.
      if (prng.below(100) < (step < 2000 ? 52 : 48)) {
        key += 1 + prng.below(3);
        map.add(key, { key });
        model.set(key, { key });
      } else {
        const keys = [...model.keys()];
        const gone = prng.below(4) > 0 ? (keys[0] ?? 0) : prng.below(key + 2);
        map.delete(gone);
        model.delete(gone);
      }
      const asked = prng.below(key + 2);
      expect(map.get(asked), `SEED=${seed}`).toEqual(model.get(asked));
      expect(map.has(asked)).toBe(model.has(asked));
      expect(map.size).toBe(model.size);
    }
    expect([...map.values()]).toEqual([...model.values()]);
  });

  test("a walk visits each value once that is there at its turn, whatever goes and comes", () => {
    const map = new RisingMap<{ key: number }>();
    for (let key = 1; key <= 100; key += 1) map.add(key, { key });
    const seen: number[] = [];
    for (const { key } of map.values()) {
      seen.push(key);
      map.delete(key);
      map.delete(key + 1);
      if (key === 99) map.add(200, { key: 200 });
    }
    expect(seen).toEqual([...Array.from({ length: 50 }, (_, at) => 2 * at + 1), 200]);
    expect(map.size).toBe(0);
    expect([...map.values()]).toEqual([]);
  });

  test("starts anew after clear, and refuses keys that don't rise", () => {
    const map = new RisingMap<object>();
    map.add(5, {});
    expect(() => map.add(5, {})).toThrow("key 5 behind 5");
    map.clear();
    expect(map.size).toBe(0);
    map.add(2, {});
    expect(map.has(2)).toBe(true);
    expect(map.has(5)).toBe(false);
  });
});
