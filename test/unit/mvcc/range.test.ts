/** Ranges as etcd defines them: bounds, revisions, counts, filters, order, keys only, pages. */
import { describe, expect, test } from "vitest";
import type { RangeQuery } from "../../../shared/mvcc/types.ts";
import { asResult, kvText, OPEN_END, query, TestStore, textOf, utf8 } from "./support.ts";

function keysOf(
  store: TestStore,
  key: string,
  rangeEnd: string,
  options: Partial<RangeQuery> = {},
) {
  return asResult(store.store.range(query(key, rangeEnd, options)))
    .kvs.map((kv) => textOf(kv.key))
    .join("");
}

/** a..e at revisions 2..6, then c and a again at 7 and 8. */
function letters(): TestStore {
  const store = new TestStore();
  for (const key of ["a", "b", "c", "d", "e"]) store.put(key, `${key}1`);
  store.put("c", "c2");
  store.put("a", "a2");
  return store;
}

describe("bounds", () => {
  test("no end is the key alone, a zero byte is open, else half-open", () => {
    const store = letters();
    expect(keysOf(store, "b", "")).toBe("b");
    expect(keysOf(store, "bb", "")).toBe("");
    expect(keysOf(store, "b", "\0")).toBe("bcde");
    expect(keysOf(store, "\0", "\0")).toBe("abcde");
    expect(keysOf(store, "b", "d")).toBe("bc");
    expect(keysOf(store, "bb", "d\0")).toBe("cd");
  });

  test("an end at or before the key is an empty result, not an error", () => {
    const store = letters();
    for (const end of ["c", "b", "a"]) {
      expect(store.store.range(query("c", end))).toEqual({ kvs: [], count: 0, more: false });
    }
  });

  test("keys with zero bytes stand where their bytes say", () => {
    const store = new TestStore();
    for (const key of ["a", "a\0", "a\0\0", "a\0b", "ab", "\0"]) store.put(key, key);
    const keys = asResult(store.store.range(query("\0", "\0"))).kvs.map((kv) => textOf(kv.key));
    expect(keys).toEqual(["\0", "a", "a\0", "a\0\0", "a\0b", "ab"]);
    expect(keysOf(store, "a", "a\0")).toBe("a");
    expect(kvText(store.store.get(utf8("a\0")))).toBe("a\0=a\0 3/3/1");
  });
});

describe("revisions", () => {
  test("an old revision answers as it was", () => {
    const store = letters();
    store.delete("b");
    expect(store.texts("a", "c")).toEqual(["a=a2 2/8/2"]);
    expect(store.texts("a", "c", { revision: 7 })).toEqual(["a=a1 2/2/1", "b=b1 3/3/1"]);
    expect(store.texts("a", "c", { revision: 2 })).toEqual(["a=a1 2/2/1"]);
    expect(store.texts("a", "c", { revision: 1 })).toEqual([]);
    expect(store.texts("a", "", { revision: -5 })).toEqual(["a=a2 2/8/2"]);
  });

  test("below the compacted one is compacted, at it is not, above the newest is the future", () => {
    const store = letters();
    store.compactFully(6);
    expect(store.store.range(query("a", "", { revision: 5 }))).toEqual({ code: "compacted" });
    expect(store.texts("c", "", { revision: 6 })).toEqual(["c=c1 4/4/1"]);
    expect(store.store.range(query("a", "", { revision: 9 }))).toEqual({ code: "futureRev" });
    expect(store.store.openRange(query("a", "", { revision: 9 }))).toEqual({ code: "futureRev" });
  });

  test("a key with a thousand versions costs a few rows, at every revision", () => {
    const store = new TestStore();
    for (let count = 0; count < 1000; count += 1) store.put("hot", String(count));
    store.put("later", "x");
    for (const revision of [2, 500, 1001, 1002]) {
      const cursor = store.store.openRange(query("\0", "\0", { revision, countOnly: true }));
      if ("code" in cursor) throw new Error(cursor.code);
      expect(cursor.advance({ rows: 40, bytes: 1e9 })).toBe(true);
      expect(cursor.result().count).toBe(revision === 1002 ? 2 : 1);
      cursor.close();
    }
  });
});

describe("limit, count and more", () => {
  test("count is of the whole range whatever the limit; more says that it cut", () => {
    const store = letters();
    const cases = [
      [0, 5, false],
      [-1, 5, false],
      [2, 2, true],
      [4, 4, true],
      [5, 5, false],
      [9, 5, false],
    ] as const;
    for (const [limit, length, more] of cases) {
      const result = asResult(store.store.range(query("\0", "\0", { limit })));
      expect([result.kvs.length, result.more, result.count]).toEqual([length, more, 5]);
    }
  });

  test("countOnly returns no key-values, ignores filters, and is never more", () => {
    const store = letters();
    const options = { countOnly: true, limit: 2, minModRevision: 7 };
    expect(store.store.range(query("b", "\0", options))).toEqual({
      kvs: [],
      count: 4,
      more: false,
    });
  });

  test("page after page at one revision counts what is left, also while writes go on", () => {
    const store = new TestStore();
    for (let number = 100; number < 200; number += 1) store.put(`k${number}`, "x");
    const { revision } = store.store;
    let key = "k";
    for (let left = 100; left > 0; left -= 7) {
      const page = query(key, "l", { limit: 7, revision });
      const result = asResult(store.store.range(page));
      expect(result.count).toBe(left);
      expect(result.kvs.length).toBe(Math.min(7, left));
      expect(result.more).toBe(left > 7);
      expect(asResult(store.store.range({ ...page, countOnly: true })).count).toBe(left);
      // Another order, end or revision doesn't take this page's numbers.
      const down = asResult(store.store.range({ ...page, sortOrder: "descend" }));
      expect([down.count, textOf(down.kvs[0]?.key ?? OPEN_END)]).toEqual([left, "k199"]);
      key = `${textOf(result.kvs.at(-1)?.key ?? OPEN_END)}\0`;
      expect(asResult(store.store.range(query(key, "k150", { limit: 1, revision }))).count).toBe(
        Math.max(0, 50 - (100 - left) - 7),
      );
      store.put(`kz${left}`, "new");
      const now = asResult(store.store.range(query(key, "l", { limit: 3 })));
      expect(now.count).toBeGreaterThan(left - 7);
    }
  });
});

describe("filters and order", () => {
  test("filters are inclusive, and the limit is applied behind them", () => {
    const store = letters();
    expect(keysOf(store, "\0", "\0", { minModRevision: 5, maxModRevision: 7 })).toBe("cde");
    expect(keysOf(store, "\0", "\0", { minCreateRevision: 4 })).toBe("cde");
    expect(keysOf(store, "\0", "\0", { maxCreateRevision: 3 })).toBe("ab");
    const result = asResult(store.store.range(query("\0", "\0", { minModRevision: 5, limit: 2 })));
    expect(result.kvs.map((kv) => textOf(kv.key)).join("")).toBe("ac");
    expect([result.count, result.more]).toEqual([5, true]);
  });

  test("each target in both orders", () => {
    const store = letters();
    store.put("b", "0");
    const cases = [
      ["key", "abcde"],
      ["create", "abcde"],
      ["mod", "decab"],
      ["value", "bacde"],
    ] as const;
    for (const [sortTarget, ascending] of cases) {
      expect(keysOf(store, "\0", "\0", { sortTarget, sortOrder: "ascend" })).toBe(ascending);
      const descending = keysOf(store, "\0", "\0", { sortTarget, sortOrder: "descend" });
      expect(descending).toBe(ascending.split("").toReversed().join(""));
    }
    store.put("e", "e2");
    store.put("e", "e3");
    expect(
      keysOf(store, "\0", "\0", { sortTarget: "version", sortOrder: "descend", limit: 1 }),
    ).toBe("e");
    expect(keysOf(store, "\0", "\0", { sortTarget: "create", sortOrder: "ascend", limit: 1 })).toBe(
      "a",
    );
  });

  test("order none with another target sorts upwards, but only what the limit let through", () => {
    const store = letters();
    expect(keysOf(store, "\0", "\0", { sortTarget: "mod" })).toBe("bdeca");
    // Three keys were fetched (limit 2 and one for `more`): a, b, c; in order of change b, c, a.
    expect(keysOf(store, "\0", "\0", { sortTarget: "mod", limit: 2 })).toBe("bc");
    expect(keysOf(store, "\0", "\0", { sortTarget: "mod", sortOrder: "ascend", limit: 2 })).toBe(
      "bd",
    );
  });
});

test("keysOnly has no values, and no lease unless it sorts by value", () => {
  const store = new TestStore();
  store.put("a", "2", 7n);
  store.put("b", "1", 8n);
  const keysOnly = true;
  expect(store.texts("\0", "\0", { keysOnly })).toEqual(["a= 2/2/1", "b= 3/3/1"]);
  expect(store.texts("a", "", { keysOnly })).toEqual(["a= 2/2/1"]);
  expect(store.texts("\0", "\0", { keysOnly, sortTarget: "value" })).toEqual([
    "b= 3/3/1 lease 8",
    "a= 2/2/1 lease 7",
  ]);
});

test("an open range isn't disturbed by writes and compactions between its steps", () => {
  const store = new TestStore();
  for (let number = 10; number < 40; number += 1) store.put(`k${number}`, "old");
  const asked = query("\0", "\0", { limit: 20 });
  const expected = store.store.range(asked);
  const cursor = store.store.openRange(asked);
  if ("code" in cursor) throw new Error(cursor.code);
  expect(() => cursor.result()).toThrow("complete");
  for (let number = 10; !cursor.advance({ rows: 2, bytes: 1e6 }); number += 1) {
    store.put(`k${number}`, "new");
    store.delete(`k${50 - number}`);
    store.put(`m${number}`, "new");
    store.compactFully(store.store.revision);
  }
  expect(cursor.result()).toEqual(expected);
  cursor.close();
});
