/** KV.Range: section 1.2 of etcd's semantics, option by option. */
import { fromBinary } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { utf8 } from "../../../shared/base/bytes.ts";
import {
  RangeRequestSchema,
  RangeRequest_SortOrder as Order,
  RangeRequest_SortTarget as By,
} from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { expectRefused, first, revisionOf, type ApiSuite, type Case } from "../api-suite.ts";

const ZERO = Uint8Array.of(0);

async function putAll(c: Case, names: string): Promise<void> {
  for (const name of names) await c.put(name, `value of ${name}`);
}

export const rangeBasics: ApiSuite = (test) => {
  test("range: a single key comes with its value, revisions, version and lease", async (c) => {
    const lease = await c.grant();
    const put = await c.put("a", "1", { lease });
    const response = await c.range("a");
    expect(c.pairs(response)).toEqual([["a", "1"]]);
    const kv = first(response.kvs);
    expect(kv.createRevision).toBe(revisionOf(put));
    expect(kv.modRevision).toBe(revisionOf(put));
    expect(kv.version).toBe(1n);
    expect(kv.lease).toBe(lease);
    expect(response.count).toBe(1n);
    expect(response.more).toBe(false);
    expect(revisionOf(response)).toBe(revisionOf(put));
  });

  test("range: an absent key gives no kvs, count 0 and no error", async (c) => {
    const response = await c.range("a");
    expect(response.kvs).toEqual([]);
    expect(response.count).toBe(0n);
    expect(response.more).toBe(false);
  });

  test("range: an empty key is refused", async (c) => {
    await expectRefused(c.client.range({}), "emptyKey");
    await expectRefused(c.client.range({ rangeEnd: utf8("z") }), "emptyKey");
  });

  test("range: the range is half-open in byte order", async (c) => {
    await putAll(c, "abcd");
    const response = await c.range("b", { rangeEnd: c.key("d") });
    expect(c.names(response)).toEqual(["b", "c"]);
    expect(response.count).toBe(2n);
  });

  test("range: bytes sort unsigned, and a proper prefix first", async (c) => {
    const tails = [[], [0], [0, 0], [1], [127], [128], [255], [255, 0], [255, 255]];
    const keys = tails.map((tail) => Uint8Array.of(...c.key("x"), ...tail));
    for (const key of keys.toReversed()) await c.client.put({ key });
    const response = await c.range("x", { rangeEnd: c.key("y") });
    expect(response.kvs.map((kv) => [...kv.key])).toEqual(keys.map((key) => [...key]));
  });

  test("range: a key at or past range_end is an empty result", async (c) => {
    await putAll(c, "abc");
    for (const [from, to] of [["b", "b"] as const, ["c", "a"] as const]) {
      const response = await c.range(from, { rangeEnd: c.key(to) });
      expect(response.kvs).toEqual([]);
      expect(response.count).toBe(0n);
    }
  });

  test("range: range_end of one zero byte means every key from key on", async (c) => {
    await putAll(c, "abc");
    const end = Uint8Array.of(255, 255, 255);
    const key = Uint8Array.of(...end, 1);
    await c.client.put({ key });
    c.later(() => c.client.deleteRange({ key }));
    const names = c.names(await c.range("b", { rangeEnd: ZERO }));
    expect(names.slice(0, 2)).toEqual(["b", "c"]);
    expect(names.length).toBeGreaterThan(2);
    const last = await c.client.range({ key: end, rangeEnd: ZERO });
    expect(last.kvs.map((kv) => [...kv.key])).toEqual([[...key]]);
  });

  test("range: key and range_end of one zero byte mean the whole store", async (c) => {
    await putAll(c, "ab");
    const response = await c.client.range({ key: ZERO, rangeEnd: ZERO });
    expect(c.names(response)).toEqual(expect.arrayContaining(["a", "b"]));
    expect(response.count).toBe(BigInt(response.kvs.length));
  });

  test("range: limit cuts the keys, more says so, count stays whole", async (c) => {
    await putAll(c, "abcde");
    const two = await c.list({ limit: 2n });
    expect(c.names(two)).toEqual(["a", "b"]);
    expect(two.more).toBe(true);
    expect(two.count).toBe(5n);
    const five = await c.list({ limit: 5n });
    expect(five.kvs.length).toBe(5);
    expect(five.more).toBe(false);
    expect((await c.list({ limit: 6n })).more).toBe(false);
  });

  test("range: a limit of zero or less is none", async (c) => {
    await putAll(c, "abc");
    for (const limit of [0n, -1n]) {
      const response = await c.list({ limit });
      expect(response.kvs.length).toBe(3);
      expect(response.more).toBe(false);
    }
  });

  test("range: count_only counts without kvs, whatever limit and filters say", async (c) => {
    await putAll(c, "abc");
    const response = await c.list({ countOnly: true, limit: 1n, minModRevision: 1n << 40n });
    expect(response.kvs).toEqual([]);
    expect(response.count).toBe(3n);
    expect(response.more).toBe(false);
  });

  test("range: keys_only leaves out the values and keeps the revisions", async (c) => {
    const put = await c.put("a", "1");
    const kv = first((await c.list({ keysOnly: true })).kvs);
    expect(c.nameOf(kv.key)).toBe("a");
    expect(kv.value.length).toBe(0);
    expect([kv.modRevision, kv.createRevision]).toEqual([revisionOf(put), revisionOf(put)]);
    expect(kv.version).toBe(1n);
  });

  test("range: keys_only is answered from the index, so the lease is 0", async (c) => {
    await c.put("a", "1", { lease: await c.grant() });
    expect(first((await c.list({ keysOnly: true })).kvs).lease).toBe(0n);
  });

  test("range: keys_only sorted by value sorts by value and keeps the lease", async (c) => {
    const lease = await c.grant();
    await c.put("a", "2", { lease });
    await c.put("b", "1", { lease });
    const sort = { sortTarget: By.VALUE, sortOrder: Order.ASCEND };
    const response = await c.list({ keysOnly: true, ...sort });
    expect(c.pairs(response)).toEqual([
      ["b", ""],
      ["a", ""],
    ]);
    expect(response.kvs.map((kv) => kv.lease)).toEqual([lease, lease]);
  });

  test("range: serializable reads are answered", async (c) => {
    await c.put("a", "1");
    await c.range("a");
    expect(c.pairs(await c.range("a", { serializable: true }))).toEqual([["a", "1"]]);
  });
};

export const rangeRevisions: ApiSuite = (test) => {
  test("range: an old revision shows the old state under the current header", async (c) => {
    const one = revisionOf(await c.put("a", "1"));
    await c.put("b", "1");
    await c.put("a", "2");
    const now = revisionOf(await c.deleteRange("b"));
    const old = await c.list({ revision: one + 1n });
    expect(c.pairs(old)).toEqual([
      ["a", "1"],
      ["b", "1"],
    ]);
    expect(old.count).toBe(2n);
    expect(revisionOf(old)).toBe(now);
    expect(c.pairs(await c.list({ revision: one }))).toEqual([["a", "1"]]);
    expect(c.pairs(await c.list({ revision: now }))).toEqual([["a", "2"]]);
  });

  test("range: a revision of zero or less is the latest", async (c) => {
    await c.put("a", "1");
    await c.put("a", "2");
    for (const revision of [0n, -1n, -7n]) {
      expect(c.pairs(await c.range("a", { revision }))).toEqual([["a", "2"]]);
    }
  });

  test("range: a future revision is refused", async (c) => {
    const now = revisionOf(await c.put("a", "1"));
    await expectRefused(c.range("a", { revision: now + 1n }), "futureRev");
    await expectRefused(c.range("a", { revision: 1n << 62n, serializable: true }), "futureRev");
  });

  test("range: below the compacted revision is refused, at it is readable", async (c) => {
    const one = revisionOf(await c.put("a", "1"));
    const two = revisionOf(await c.put("a", "2"));
    await c.put("a", "3");
    await c.client.compact({ revision: two });
    await expectRefused(c.range("a", { revision: one }), "compacted");
    expect(c.pairs(await c.range("a", { revision: two }))).toEqual([["a", "2"]]);
  });

  test("range: revision filters are inclusive, and count and limit ignore them", async (c) => {
    await putAll(c, "abcd");
    const b = first((await c.range("b")).kvs);
    const d = first((await c.range("d")).kvs);
    await c.put("b", "again");
    const low = await c.list({ minModRevision: d.modRevision });
    expect(c.names(low)).toEqual(["b", "d"]);
    expect(low.count).toBe(4n);
    expect(c.names(await c.list({ maxModRevision: d.modRevision - 1n }))).toEqual(["a", "c"]);
    expect(c.names(await c.list({ minCreateRevision: d.createRevision }))).toEqual(["d"]);
    const old = await c.list({ maxCreateRevision: b.createRevision, limit: 1n });
    expect(c.names(old)).toEqual(["a"]);
    expect(old.more).toBe(true);
    expect(old.count).toBe(4n);
    const whole = await c.list({ maxCreateRevision: b.createRevision, limit: 2n });
    expect(c.names(whole)).toEqual(["a", "b"]);
    expect(whole.more).toBe(false);
  });
};

export const rangeSorting: ApiSuite = (test) => {
  async function fill(c: Case): Promise<void> {
    // Sorted by key: a b c; by create: b c a; by mod: c a b; by version: c b a; by value: b a c.
    await c.put("b", "?");
    await c.put("c", "3");
    for (const value of ["?", "?", "2"]) await c.put("a", value);
    await c.put("b", "1");
  }

  const orders: [string, By, string][] = [
    ["key", By.KEY, "abc"],
    ["version", By.VERSION, "cba"],
    ["create revision", By.CREATE, "bca"],
    ["mod revision", By.MOD, "cab"],
    ["value", By.VALUE, "bac"],
  ];
  for (const [what, sortTarget, ascending] of orders) {
    test(`range: sorts by ${what} both ways, and the limit is applied after it`, async (c) => {
      await fill(c);
      const up = await c.list({ sortTarget, sortOrder: Order.ASCEND });
      expect(c.names(up).join("")).toBe(ascending);
      const down = await c.list({ sortTarget, sortOrder: Order.DESCEND, limit: 2n });
      expect(c.names(down).join("")).toBe(ascending.split("").reverse().join("").slice(0, 2));
      expect(down.more).toBe(true);
      expect(down.count).toBe(3n);
    });
  }

  test("range: order NONE with a target sorts ascending what the limit left", async (c) => {
    await fill(c);
    const whole = await c.list({ sortTarget: By.MOD });
    expect(c.names(whole)).toEqual(["c", "a", "b"]);
    // The limit is pushed down: limit + 1 = 2 keys in key order, a and b; then sorted by create.
    const cut = await c.list({ sortTarget: By.CREATE, limit: 1n });
    expect(c.names(cut)).toEqual(["b"]);
    expect(cut.more).toBe(true);
  });

  test("range: max_create_revision with create descending and limit 1 finds the newest", async (c) => {
    await putAll(c, "dcba");
    const b = first((await c.range("b")).kvs);
    const response = await c.list({
      maxCreateRevision: b.createRevision - 1n,
      sortTarget: By.CREATE,
      sortOrder: Order.DESCEND,
      limit: 1n,
    });
    expect(c.names(response)).toEqual(["c"]);
  });

  test("range: an unknown sort order or target is refused", async (c) => {
    await putAll(c, "ab");
    // Field 5 is sort_order, field 6 sort_target; 9 is none of their values.
    const { sortOrder, sortTarget } = fromBinary(RangeRequestSchema, Uint8Array.of(40, 9, 48, 9));
    await expectRefused(c.list({ sortOrder }), "invalidSortOption");
    await expectRefused(c.list({ sortTarget }), "invalidSortOption");
  });
};

export const rangeStream: ApiSuite = (test) => {
  async function fill(c: Case, count: number): Promise<void> {
    for (let at = 0; at < count; at += 100) {
      const success = Array.from({ length: Math.min(100, count - at) }, (_, index) => ({
        request: {
          case: "requestPut" as const,
          value: { key: c.key(String(at + index).padStart(4, "0")), value: utf8(`v${at}`) },
        },
      }));
      await c.client.txn({ success });
    }
  }

  test("range stream: chunks begin at 10 keys; header, count, more come last", async (c) => {
    await fill(c, 250);
    const chunks = await c.client.rangeStream(c.everything).all();
    const parts = chunks.map((chunk) => chunk.rangeResponse);
    expect(parts[0]?.kvs.length).toBe(10);
    expect(parts.slice(0, -1).every((part) => part?.header === undefined)).toBe(true);
    expect(parts.slice(0, -1).every((part) => part?.count === 0n && !part.more)).toBe(true);
    const whole = await c.list();
    expect(parts.at(-1)).toMatchObject({ header: whole.header, count: 250n, more: false });
    expect(parts.flatMap((part) => part?.kvs ?? [])).toEqual(whole.kvs);
  });

  test("range stream: limit ends it with more set and the whole count", async (c) => {
    await fill(c, 40);
    const chunks = await c.client.rangeStream({ ...c.everything, limit: 25n }).all();
    expect(chunks.flatMap((chunk) => chunk.rangeResponse?.kvs ?? []).length).toBe(25);
    expect(chunks.at(-1)?.rangeResponse).toMatchObject({ count: 40n, more: true });
  });

  test("range stream: an old revision, keys_only and an empty range", async (c) => {
    await fill(c, 12);
    const revision = await c.revision();
    await c.deleteRange("", c.everything);
    const old = await c.client.rangeStream({ ...c.everything, revision, keysOnly: true }).all();
    const kvs = old.flatMap((chunk) => chunk.rangeResponse?.kvs ?? []);
    expect(kvs.length).toBe(12);
    expect(kvs.every((kv) => kv.value.length === 0)).toBe(true);
    const none = await c.client.rangeStream(c.everything).all();
    expect(none.length).toBe(1);
    expect(none[0]?.rangeResponse).toMatchObject({ kvs: [], count: 0n, more: false });
  });

  test("range stream: count_only is one message", async (c) => {
    await fill(c, 30);
    const chunks = await c.client.rangeStream({ ...c.everything, countOnly: true }).all();
    expect(chunks.length).toBe(1);
    expect(chunks[0]?.rangeResponse).toMatchObject({ kvs: [], count: 30n });
  });

  test("range stream: refuses an empty key, a future and a compacted revision", async (c) => {
    const now = revisionOf(await c.put("a", "1"));
    await c.put("a", "2");
    await expectRefused(c.client.rangeStream({}).all(), "emptyKey");
    const future = { ...c.everything, revision: now + 9n };
    await expectRefused(c.client.rangeStream(future).all(), "futureRev");
    await c.client.compact({ revision: now + 1n });
    const compacted = { ...c.everything, revision: now };
    await expectRefused(c.client.rangeStream(compacted).all(), "compacted");
  });

  test("range stream: a target without an order is sorted by, keys in ascending order are natural", async (c) => {
    for (const [name, value] of ["c", "b", "a"].entries()) await c.put(String(name), value);
    for (const options of [
      { sortTarget: By.VALUE },
      { sortTarget: By.VALUE, keysOnly: true },
      { sortTarget: By.VALUE, limit: 2n },
      { sortTarget: By.KEY, sortOrder: Order.ASCEND },
    ]) {
      const chunks = await c.client.rangeStream({ ...c.everything, ...options }).all();
      const { kvs, count, more } = await c.list(options);
      expect(chunks.map((chunk) => chunk.rangeResponse)).toMatchObject([{ kvs, count, more }]);
    }
  });

  test("range stream: sort orders and revision filters are unimplemented", async (c) => {
    const sorted = { ...c.everything, sortOrder: Order.DESCEND };
    await expectRefused(c.client.rangeStream(sorted).all(), "rangeStreamSort");
    const byVersion = { ...c.everything, sortOrder: Order.ASCEND, sortTarget: By.VERSION };
    await expectRefused(c.client.rangeStream(byVersion).all(), "rangeStreamSort");
    const filtered = { ...c.everything, minModRevision: 1n };
    await expectRefused(c.client.rangeStream(filtered).all(), "rangeStreamFilter");
  });
};
