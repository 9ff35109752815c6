/**
 * Writing: revisions, versions, leases, deletes, reads of own writes; what a restart finds; compaction's
 * rules.
 */
import { describe, expect, test } from "vitest";
import { asResult, kvText, query, TestStore, utf8 } from "./support.ts";

describe("a transaction", () => {
  test("an empty store is at revision 1, and the first write gets 2", () => {
    const store = new TestStore();
    expect([store.store.revision, store.store.compactRevision]).toEqual([1, -1]);
    store.put("a", "1");
    expect(store.store.revision).toBe(2);
  });

  test("one that changes nothing keeps the revision and has no events", () => {
    const store = new TestStore();
    expect(store.write((transaction) => transaction.delete(utf8("a")))).toBeUndefined();
    expect(store.store.revision).toBe(1);
  });

  test("all writes share one revision, in the order of the calls", () => {
    const store = new TestStore();
    store.put("b", "old");
    const events = store.write((transaction) => {
      expect(transaction.changed).toBe(false);
      transaction.put(utf8("c"), utf8("1"), 0n);
      transaction.put(utf8("a"), utf8("2"), 9n);
      expect(kvText(transaction.delete(utf8("b")))).toBe("b=old 2/2/1");
      expect(transaction.changed).toBe(true);
      expect(transaction.revision).toBe(3);
    });
    const texts = events?.events.map(({ type, kv }) => `${type} ${kvText(kv)}`);
    expect(texts).toEqual(["put c=1 3/3/1", "put a=2 3/3/1 lease 9", "delete b= 0/3/0"]);
  });

  test("every put counts a version, also with an equal value; a delete starts anew", () => {
    const store = new TestStore();
    for (let count = 0; count < 3; count += 1) store.put("a", "same");
    expect(kvText(store.store.get(utf8("a")))).toBe("a=same 2/4/3");
    store.delete("a");
    expect(store.store.get(utf8("a"))).toBeUndefined();
    store.put("a", "new");
    expect(kvText(store.store.get(utf8("a")))).toBe("a=new 6/6/1");
  });

  test("a put without a lease drops the one before", () => {
    const store = new TestStore();
    store.put("a", "1", -3n);
    expect(kvText(store.store.get(utf8("a")))).toBe("a=1 2/2/1 lease -3");
    store.put("a", "2");
    expect(kvText(store.store.get(utf8("a")))).toBe("a=2 2/3/2");
  });

  test("takes the caller's word for what was there before", () => {
    const store = new TestStore();
    store.put("a", "1");
    store.write((transaction) => {
      const previous = transaction.get(utf8("a"));
      transaction.put(utf8("a"), utf8("2"), 0n, previous);
      transaction.put(utf8("b"), utf8("3"), 0n, "none");
    });
    expect(store.texts("a", "c")).toEqual(["a=2 2/3/2", "b=3 3/3/1"]);
  });

  test("reads its own writes, at its revision once something was written", () => {
    const store = new TestStore();
    store.put("a", "1");
    store.put("b", "1");
    store.write((transaction) => {
      expect(transaction.range(query("a", "\0", { revision: 4 }))).toEqual({ code: "futureRev" });
      transaction.put(utf8("a"), utf8("2"), 0n);
      transaction.delete(utf8("b"));
      const now = asResult(transaction.range(query("a", "\0"))).kvs.map(kvText);
      expect(now).toEqual(["a=2 2/4/2"]);
      const before = asResult(transaction.range(query("a", "\0", { revision: 3 })));
      expect(before.kvs.map(kvText)).toEqual(["a=1 2/2/1", "b=1 3/3/1"]);
      expect(asResult(transaction.range(query("a", "\0", { revision: 4 }))).count).toBe(1);
    });
  });

  test("a negative revision in it is the newest until something is compacted", () => {
    const store = new TestStore();
    store.put("a", "1");
    store.write((transaction) => {
      expect(asResult(transaction.range(query("a", "", { revision: -1 }))).count).toBe(1);
      expect(transaction.range(query("a", "", { revision: -2 }))).toEqual({ code: "compacted" });
    });
    store.compact(2);
    store.write((transaction) => {
      expect(transaction.range(query("a", "", { revision: -1 }))).toEqual({ code: "compacted" });
      expect(asResult(transaction.range(query("a"))).count).toBe(1);
    });
  });

  test("a put and a delete of one key in one revision leave no key and two events", () => {
    const store = new TestStore();
    const events = store.write((transaction) => {
      transaction.put(utf8("a"), utf8("1"), 0n);
      transaction.delete(utf8("a"));
    });
    expect(events?.events.map(({ type }) => type)).toEqual(["put", "delete"]);
    expect(store.store.get(utf8("a"))).toBeUndefined();
    expect(store.texts("a", "\0", { revision: 2 })).toEqual([]);
  });

  test("one at a time, and ended once", () => {
    const store = new TestStore();
    store.write(() => {
      expect(() => store.write(() => {})).toThrow();
    });
    store.apply((writer) => {
      const transaction = store.store.begin(writer);
      transaction.end();
      expect(() => transaction.end()).toThrow("once");
      expect(() => transaction.put(utf8("a"), utf8("1"), 0n)).toThrow("within");
    });
  });
});

describe("a restart", () => {
  test("finds revision, compaction and keys, and goes on counting", () => {
    const store = new TestStore();
    for (const key of ["a", "b", "a"]) store.put(key, "1");
    store.delete("b");
    store.compact(3);
    const again = new TestStore(store.backend);
    expect([again.store.revision, again.store.compactRevision]).toEqual([5, 3]);
    again.put("c", "1");
    expect(kvText(again.store.get(utf8("c")))).toBe("c=1 6/6/1");
  });

  test("finds the revision also when all is deleted and compacted", () => {
    const store = new TestStore();
    store.put("a", "1");
    store.delete("a");
    store.compactFully(3);
    expect(new TestStore(store.backend).store.revision).toBe(3);
    store.put("b", "1");
    store.delete("b");
    store.compactFully(4);
    store.compactFully(5);
    expect(new TestStore(store.backend).store.revision).toBe(5);
  });

  test("takes up a removal where it stood", () => {
    const store = new TestStore();
    for (let count = 0; count < 40; count += 1) store.put(`k${count % 4}`, String(count));
    store.compact(41);
    for (let steps = 0; steps < 3; steps += 1) store.stepCompaction();
    const again = new TestStore(store.backend);
    expect(again.store.compaction()).toBeDefined();
    again.finishCompaction();
    expect(again.store.compaction()).toBeUndefined();
    let rows = 0;
    again.backend.scan("revision", {}, () => {
      rows += 1;
      return true;
    });
    expect(rows).toBe(4);
    expect(new TestStore(store.backend).store.compaction()).toBeUndefined();
  });
});

describe("compaction", () => {
  test("is refused at or below the one before, and above the newest revision", () => {
    const store = new TestStore();
    for (const value of ["1", "2", "3"]) store.put("a", value);
    expect(store.compact(5)).toEqual({ code: "futureRev" });
    expect(store.compact(3)).toBeUndefined();
    expect(store.compact(3)).toEqual({ code: "compacted" });
    expect(store.compact(2)).toEqual({ code: "compacted" });
    expect(store.compact(4)).toBeUndefined();
  });

  test("to a later revision while one is under way removes what both owe", () => {
    const store = new TestStore();
    for (let count = 0; count < 30; count += 1) {
      store.put(`k${count % 3}`, String(count));
      if (count % 3 === 2) store.delete("k2");
    }
    const { revision } = store.store;
    store.compact(revision - 6);
    store.stepCompaction();
    store.compact(revision);
    store.finishCompaction();
    const rows: string[] = [];
    store.backend.scan("revision", {}, (_row, key) => {
      rows.push(String.fromCharCode(...key));
      return true;
    });
    // The newest of k0 and k1, and the tombstone of k2 at just this revision.
    expect(rows).toEqual(["k0", "k1", "k2"]);
  });

  test("to a later revision removes the tombstone that the one under way had left at its own", () => {
    const store = new TestStore();
    store.put("a", "1");
    store.write((transaction) => {
      transaction.delete(utf8("a"));
      transaction.put(utf8("b"), utf8("1"), 0n);
    });
    store.put("c", "1");
    store.compact(3);
    // Steps of one row: they stand behind the tombstone, before the put of the same revision.
    for (let steps = 0; steps < 2; steps += 1) store.stepCompaction({ rows: 1, bytes: 1e6 });
    store.compact(4);
    store.finishCompaction();
    const rows: string[] = [];
    store.backend.scan("revision", {}, (_row, key) => {
      rows.push(String.fromCharCode(...key));
      return true;
    });
    expect(rows).toEqual(["b", "c"]);
  });

  test("costs steps by what changed since the one before, not by what is stored", () => {
    const store = new TestStore();
    for (let count = 0; count < 3000; count += 1) store.put(`k${count}`, "x");
    store.compact(store.store.revision);
    store.finishCompaction({ rows: 1000, bytes: 1e6 });
    store.put("k5", "y");
    store.compact(store.store.revision);
    expect(store.stepCompaction({ rows: 10, bytes: 1e6 })).toBe(false);
  });
});

test("keysAlive counts keys that exist, also after a restart, noted at a batch's end or not", () => {
  const store = new TestStore();
  expect(store.store.keysAlive).toBe(0);
  for (const key of ["a", "b", "a"]) store.put(key, "1");
  store.delete("a");
  store.delete("a");
  expect(store.store.keysAlive).toBe(1);
  const counted = new TestStore(store.backend);
  expect(counted.store.keysAlive).toBe(1);
  counted.put("c", "1");
  counted.apply((writer) => counted.store.finishBatch(writer));
  expect(counted.store.keysAlive).toBe(2);
  counted.compactFully(counted.store.revision);
  expect(new TestStore(store.backend).store.keysAlive).toBe(2);
  store.store.reload();
  expect(store.store.keysAlive).toBe(2);
});
