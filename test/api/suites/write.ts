/** KV.Put, KV.DeleteRange and KV.Compact: section 1.2 of etcd's semantics. */
import { expect } from "vitest";
import { textOf, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { expectRefused, first, revisionOf, type ApiSuite } from "../api-suite.ts";

const UNKNOWN_LEASE = 0x7fff_1234_5678n;

export const put: ApiSuite = (test) => {
  test("put: every put is one revision and one version, equal values too", async (c) => {
    const before = await c.revision();
    for (const step of [1n, 2n, 3n]) {
      expect(revisionOf(await c.put("a", "same"))).toBe(before + step);
      const kv = first((await c.range("a")).kvs);
      expect(kv.version).toBe(step);
      expect(kv.createRevision).toBe(before + 1n);
      expect(kv.modRevision).toBe(before + step);
    }
  });

  test("put: after a delete the version starts at 1 with a new create revision", async (c) => {
    await c.put("a", "1");
    await c.put("a", "2");
    await c.deleteRange("a");
    const again = revisionOf(await c.put("a", "3"));
    const kv = first((await c.range("a")).kvs);
    expect([kv.version, kv.createRevision, kv.modRevision]).toEqual([1n, again, again]);
  });

  test("put: keys and values are bytes, and a value may be empty", async (c) => {
    const key = Uint8Array.of(...c.key(""), 0, 255, 10, 128);
    const value = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    await c.client.put({ key, value });
    expect(first((await c.client.range({ key })).kvs).value).toEqual(value);
    await c.client.put({ key });
    expect(first((await c.client.range({ key })).kvs).value.length).toBe(0);
  });

  test("put: prev_kv returns the kv before, if there was one and it was asked for", async (c) => {
    expect((await c.put("a", "1", { prevKv: true })).prevKv).toBeUndefined();
    expect((await c.put("a", "2")).prevKv).toBeUndefined();
    const kv = first((await c.range("a")).kvs);
    expect((await c.put("a", "3", { prevKv: true })).prevKv).toEqual(kv);
    await c.deleteRange("a");
    expect((await c.put("a", "4", { prevKv: true })).prevKv).toBeUndefined();
  });

  test("put: an empty key is refused", async (c) => {
    const before = await c.revision();
    await expectRefused(c.client.put({ value: utf8("x") }), "emptyKey");
    expect(await c.revision()).toBe(before);
  });

  test("put: ignore_value keeps the value and refuses one, or an absent key", async (c) => {
    const lease = await c.grant();
    const key = c.key("a");
    await expectRefused(c.client.put({ key, ignoreValue: true }), "keyNotFound");
    await c.put("a", "kept");
    await c.client.put({ key, ignoreValue: true, lease });
    const kv = first((await c.range("a")).kvs);
    expect([textOf(kv.value), kv.lease, kv.version]).toEqual(["kept", lease, 2n]);
    await expectRefused(c.put("a", "x", { ignoreValue: true }), "valueProvided");
  });

  test("put: ignore_lease keeps the lease and refuses one, or an absent key", async (c) => {
    const lease = await c.grant();
    await expectRefused(c.put("a", "1", { ignoreLease: true }), "keyNotFound");
    await c.put("a", "1", { lease });
    await c.put("a", "2", { ignoreLease: true });
    const kv = first((await c.range("a")).kvs);
    expect([textOf(kv.value), kv.lease]).toEqual(["2", lease]);
    await expectRefused(c.put("a", "3", { ignoreLease: true, lease }), "leaseProvided");
  });

  test("put: an unknown lease is refused without a revision", async (c) => {
    const before = await c.revision();
    await expectRefused(c.put("a", "1", { lease: UNKNOWN_LEASE }), "leaseNotFound");
    expect(await c.revision()).toBe(before);
    expect((await c.range("a")).kvs).toEqual([]);
  });

  test("put: no lease detaches the key, another lease takes it over", async (c) => {
    const [one, two] = [await c.grant(), await c.grant()];
    const keysOf = async (ID: bigint) =>
      (await c.client.leaseTimeToLive({ ID, keys: true })).keys.map((key) => c.nameOf(key));
    await c.put("a", "1", { lease: one });
    expect(await keysOf(one)).toEqual(["a"]);
    await c.put("a", "2", { lease: two });
    expect([await keysOf(one), await keysOf(two)]).toEqual([[], ["a"]]);
    await c.put("a", "3");
    expect(await keysOf(two)).toEqual([]);
    await c.client.leaseRevoke(two);
    expect(c.pairs(await c.range("a"))).toEqual([["a", "3"]]);
  });

  test("put: a request over the size limit is refused, one below it is kept", async (c) => {
    const value = new Uint8Array(LIMITS.requestBytesMax);
    await expectRefused(c.client.put({ key: c.key("a"), value }), "requestTooLarge");
    await c.client.put({ key: c.key("a"), value: value.subarray(1024) });
    const kv = first((await c.range("a")).kvs);
    expect(kv.value.length).toBe(value.length - 1024);
  });

  test("put: puts in flight together each get a revision of their own", async (c) => {
    const before = await c.revision();
    const names = Array.from({ length: 200 }, (_, index) => String(index));
    const answers = await Promise.all(names.map((name) => c.put(name, name)));
    const revisions = answers.map((answer) => Number(revisionOf(answer) - before));
    expect(revisions.toSorted((a, b) => a - b)).toEqual(names.map((_, index) => index + 1));
    expect((await c.list({ countOnly: true })).count).toBe(200n);
  });
};

export const deleteRange: ApiSuite = (test) => {
  test("delete: one key is one revision; nothing deleted is none", async (c) => {
    const before = revisionOf(await c.put("a", "1"));
    const gone = await c.deleteRange("a");
    expect([gone.deleted, revisionOf(gone)]).toEqual([1n, before + 1n]);
    expect(gone.prevKvs).toEqual([]);
    const again = await c.deleteRange("a");
    expect([again.deleted, revisionOf(again)]).toEqual([0n, before + 1n]);
  });

  test("delete: a range goes in one revision and returns the kvs when asked", async (c) => {
    for (const name of "abcd") await c.put(name, name.toUpperCase());
    const before = await c.list();
    const gone = await c.deleteRange("a", { rangeEnd: c.key("d"), prevKv: true });
    expect(gone.deleted).toBe(3n);
    expect(gone.prevKvs).toEqual(before.kvs.slice(0, 3));
    expect(revisionOf(gone)).toBe(revisionOf(before) + 1n);
    expect(c.names(await c.list())).toEqual(["d"]);
  });

  test("delete: range_end of one zero byte deletes from the key on", async (c) => {
    const from = Uint8Array.of(255, 255, 255, 1);
    for (const tail of [1, 2]) await c.client.put({ key: Uint8Array.of(...from, tail) });
    const gone = await c.client.deleteRange({ key: from, rangeEnd: Uint8Array.of(0) });
    expect(gone.deleted).toBe(2n);
  });

  test("delete: a key at or past range_end deletes nothing", async (c) => {
    const before = revisionOf(await c.put("b", "1"));
    const gone = await c.deleteRange("b", { rangeEnd: c.key("a") });
    expect([gone.deleted, revisionOf(gone)]).toEqual([0n, before]);
  });

  test("delete: an empty key is refused", async (c) => {
    await expectRefused(c.client.deleteRange({}), "emptyKey");
  });

  test("delete: a deleted key leaves its lease", async (c) => {
    const lease = await c.grant();
    await c.put("a", "1", { lease });
    await c.deleteRange("a");
    expect((await c.client.leaseTimeToLive({ ID: lease, keys: true })).keys).toEqual([]);
  });
};

export const compact: ApiSuite = (test) => {
  for (const physical of [false, true]) {
    const setting = physical ? " (physical)" : "";
    test(`compact: hides what was before it and keeps what is read since${setting}`, async (c) => {
      const one = revisionOf(await c.put("a", "1"));
      await c.put("b", "1");
      const two = revisionOf(await c.put("a", "2"));
      const three = revisionOf(await c.deleteRange("b"));
      const compacted = await c.client.compact({ revision: two, physical });
      expect(revisionOf(compacted)).toBe(three);
      await expectRefused(c.list({ revision: one }), "compacted");
      expect(c.pairs(await c.list({ revision: two }))).toEqual([
        ["a", "2"],
        ["b", "1"],
      ]);
      expect(c.names(await c.list())).toEqual(["a"]);
    });
  }

  test("compact: the same or an older revision is refused as compacted", async (c) => {
    await c.put("a", "1");
    const revision = revisionOf(await c.put("a", "2"));
    await c.client.compact({ revision });
    for (const again of [revision, revision - 1n, 0n, -1n]) {
      await expectRefused(c.client.compact({ revision: again }), "compacted");
    }
  });

  test("compact: a future revision is refused", async (c) => {
    const revision = revisionOf(await c.put("a", "1"));
    await expectRefused(c.client.compact({ revision: revision + 1n }), "futureRev");
  });

  test("compact: a tombstone at exactly the revision still shows to a watch from it", async (c) => {
    await c.put("a", "1");
    const revision = revisionOf(await c.deleteRange("a"));
    await c.client.compact({ revision, physical: true });
    const watch = c.watch();
    await watch.created({ key: c.key("a"), startRevision: revision });
    // What is written later comes behind it.
    await c.put("a", "2");
    const response = await watch.next();
    expect(response.events[0]?.kv?.modRevision).toBe(revision);
    expect((await c.range("a", { revision })).count).toBe(0n);
  });

  test("compact: revision, version and create revision of a living key stay", async (c) => {
    await c.put("a", "1");
    await c.put("a", "2");
    const before = await c.range("a");
    await c.put("b", "1");
    await c.client.compact({ revision: await c.revision(), physical: true });
    expect((await c.range("a")).kvs).toEqual(before.kvs);
  });
};
