/** The heap against a sorted array. */
import { expect, test } from "vitest";
import { Heap } from "../../../shared/base/heap.ts";
import { Prng } from "../../../shared/base/prng.ts";

test("items come up in order of their numbers, through pushes, pops, replacements and sweeps", () => {
  const seed = Number(process.env["SEED"] ?? 3);
  const prng = new Prng(seed);
  const heap = new Heap<string>();
  let model: [number, string][] = [];
  expect(heap.first).toBe(Infinity);
  expect(heap.pop()).toBeUndefined();
  for (let step = 0; step < 5000; step += 1) {
    // Numbers are distinct, so that the order is fully known.
    const priority = prng.below(1000) + step / 10_000;
    const action = prng.below(100);
    if (action < 50) {
      heap.push(priority, `item ${step}`);
      model.push([priority, `item ${step}`]);
    } else if (action < 80) {
      expect(heap.pop(), `SEED=${seed}`).toBe(model.shift()?.[1]);
    } else if (action < 99 && model.length > 0) {
      const item = model.shift()?.[1] as string;
      expect(heap.peek()).toBe(item);
      heap.replaceFirst(priority);
      model.push([priority, item]);
    } else {
      heap.retain((item) => item.endsWith("1"));
      model = model.filter(([, item]) => item.endsWith("1"));
    }
    model.sort((a, b) => a[0] - b[0]);
    expect(heap.size).toBe(model.length);
    expect(heap.first, `SEED=${seed}`).toBe(model[0]?.[0] ?? Infinity);
  }
});
