/** The interval tree against a list of intervals. */
import { expect, test } from "vitest";
import { type Bytes, compareBytes, hexOf, utf8 } from "../../../shared/base/bytes.ts";
import { IntervalTree } from "../../../shared/base/interval-tree.ts";
import { Prng } from "../../../shared/base/prng.ts";

function stabbed(tree: IntervalTree<string>, point: string): string {
  const values: string[] = [];
  tree.stab(utf8(point), (value) => values.push(value));
  return values.join(" ");
}

test("a stab finds points, ranges and open ends, in order of their starts", () => {
  const tree = new IntervalTree<string>();
  tree.set(utf8("c"), utf8("f"), "c-f");
  tree.set(utf8("a"), utf8("e"), "a-e");
  tree.set(utf8("d"), utf8("d\0"), "d");
  tree.set(utf8("f"), utf8("g"), "f-g");
  tree.set(utf8("b"), undefined, "b-");
  expect(stabbed(tree, "d")).toBe("a-e b- c-f d");
  expect(stabbed(tree, "d\0")).toBe("a-e b- c-f");
  expect(stabbed(tree, "f")).toBe("b- f-g");
  expect(stabbed(tree, "a")).toBe("a-e");
  expect(stabbed(tree, "z")).toBe("b-");
  expect(stabbed(tree, "A")).toBe("");
  tree.set(utf8("b"), undefined, "again");
  expect(stabbed(tree, "z")).toBe("again");
  expect(tree.size).toBe(5);
  expect(() => tree.set(utf8("b"), utf8("b"), "empty")).toThrow("holds a point");
});

test("random intervals agree with a list", () => {
  const seed = Number(process.env["SEED"] ?? 9);
  const replay = `replay: SEED=${seed} npx vitest run --project unit interval-tree`;
  const prng = new Prng(seed);
  const randomBytes = (): Bytes =>
    Uint8Array.from({ length: prng.between(1, 3) }, () => prng.pick([0, 1, 2, 3, 255]));
  const tree = new IntervalTree<string>();
  const list = new Map<string, { start: Bytes; end: Bytes | undefined; value: string }>();
  for (let step = 0; step < 4000; step += 1) {
    const start = randomBytes();
    const end = prng.chance(0.2) ? undefined : randomBytes();
    const name = `${hexOf(start)}-${end === undefined ? "" : hexOf(end)}`;
    if (end === undefined || compareBytes(start, end) < 0) {
      expect(tree.get(start, end), replay).toBe(list.get(name)?.value);
      if (prng.chance(0.5 + 0.4 * Math.sin(step / 500))) {
        tree.set(start, end, String(step));
        list.set(name, { start, end, value: String(step) });
      } else {
        expect(tree.delete(start, end), replay).toBe(list.get(name)?.value);
        list.delete(name);
      }
      expect(tree.size).toBe(list.size);
    }
    const point = randomBytes();
    const expected = [...list.values()]
      .filter((one) => compareBytes(one.start, point) <= 0)
      .filter((one) => one.end === undefined || compareBytes(one.end, point) > 0)
      .map((one) => one.value);
    const found: string[] = [];
    tree.stab(point, (value) => found.push(value));
    expect(found.toSorted(), replay).toEqual(expected.toSorted());
  }
  const every: string[] = [];
  tree.forEach((value) => every.push(value));
  expect(every.length).toBe(list.size);
});
