/**
 * The reader of bbolt files, on a snapshot that etcd 3.4.23 saved (`etcd-3.4.db.gz`: 69 changes, a
 * lease, a compaction to 4) and on damaged copies of it: each is read, or refused by a typed error.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { BboltError, BboltFile, fnv1a } from "../../../../node-runner/snapshot/bbolt.ts";
import { EtcdSnapshot } from "../../../../node-runner/snapshot/etcd-snapshot.ts";
import { openSnapshot } from "../../../../node-runner/snapshot/open-snapshot.ts";
import { fileOfBytes, SnapshotFileError } from "../../../../node-runner/snapshot/readable-file.ts";
import type {
  CopiedState,
  SnapshotSource,
} from "../../../../node-runner/snapshot/snapshot-source.ts";
import { MemoryBackend } from "../../../../shared/backend/memory-backend.ts";
import { textOf, utf8 } from "../../../../shared/base/bytes.ts";
import { createStore } from "../../../../shared/mvcc/mvcc-store.ts";
import { wholeRange } from "../../../../shared/mvcc/types.ts";

const SNAPSHOT = new Uint8Array(
  gunzipSync(readFileSync(join(import.meta.dirname, "etcd-3.4.db.gz"))),
);
const PAGE_BYTES = 4096;

function copyTo(source: SnapshotSource, backend: MemoryBackend): CopiedState {
  const steps = source.copy();
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done === true) return step.value;
    backend.apply(0, step.value);
  }
}

function fuzzRuns(): number {
  return Number(process.env["FUZZ_RUNS"] ?? 300);
}

/** Reads everything there is; only typed errors may come. */
function readAll(bytes: Uint8Array): "read" | "refused" {
  try {
    const source = openSnapshot(fileOfBytes(bytes), { checkHash: "never" });
    source.status();
    copyTo(source, new MemoryBackend());
    return "read";
  } catch (error) {
    if (error instanceof SnapshotFileError) return "refused";
    throw error;
  }
}

test("buckets, keys in order, and long values over several pages", () => {
  const database = new BboltFile(fileOfBytes(SNAPSHOT), SNAPSHOT.length - 32);
  const names = [...database.bucketNames()].map(textOf);
  expect(names).toEqual(
    expect.arrayContaining(["alarm", "auth", "cluster", "key", "lease", "meta"]),
  );
  const items = [...database.items("key")];
  expect(items.length).toBeGreaterThan(60);
  expect(Math.max(...items.map(({ value }) => value.length))).toBeGreaterThan(2 * PAGE_BYTES);
  expect([...database.items("lease")].length).toBe(1);
  expect([...database.items("none")]).toEqual([]);
});

test("status is what etcdctl says of the same file", () => {
  const source = openSnapshot(fileOfBytes(SNAPSHOT), { checkHash: "always" });
  expect(source).toBeInstanceOf(EtcdSnapshot);
  const { hash, revision, totalKeys, totalBytes } = source.status();
  expect([hash, revision, totalKeys, totalBytes]).toEqual([2987576934, 72, 136, 77824]);
});

test("the copy is a store with the revisions, the history and the hash of that etcd", () => {
  const backend = new MemoryBackend();
  const source = openSnapshot(fileOfBytes(SNAPSHOT), { checkHash: "always" });
  expect(copyTo(source, backend)).toEqual({ revision: 72, compactRevision: 4, notes: [] });
  const store = createStore(backend);
  expect([store.revision, store.compactRevision]).toEqual([72, 4]);
  const [a, leased] = [store.get(utf8("a")), store.get(utf8("leased"))];
  expect(a).toMatchObject({ createRevision: 2, modRevision: 69, version: 4, value: utf8("4") });
  expect(leased?.lease).toBe(0x15f7a1fd28b2e20an);
  const old = store.range({ ...wholeRange(utf8("a"), utf8("b")), revision: 60 });
  expect("code" in old ? old : old.kvs[0]?.modRevision).toBe(4);
  expect(store.range({ ...wholeRange(utf8("a"), utf8("b")), revision: 3 })).toEqual({
    code: "compacted",
  });
  const cursor = store.openHash(0);
  if ("code" in cursor) throw new Error(cursor.code);
  expect(cursor.advance({ rows: 1e6, bytes: 1e9 })).toBe(true);
  expect(cursor.result().hash).toBe(4002123029);
  cursor.close();
});

test("FNV-1a of known texts", () => {
  expect(fnv1a(utf8(""))).toBe(0xcbf29ce484222325n);
  expect(fnv1a(utf8("a"))).toBe(0xaf63dc4c8601ec8cn);
  expect(fnv1a(utf8("foobar"))).toBe(0x85944171f73967e8n);
});

test("one damaged meta page is made good by the other; two are refused", () => {
  const damaged = SNAPSHOT.slice();
  damaged.fill(0, 40, 60);
  expect(() => new BboltFile(fileOfBytes(damaged), damaged.length)).not.toThrow();
  damaged.fill(0, PAGE_BYTES + 40, PAGE_BYTES + 60);
  expect(() => new BboltFile(fileOfBytes(damaged), damaged.length)).toThrow(BboltError);
});

test("a page that leads back to its own tree is refused, not followed for ever", () => {
  const damaged = SNAPSHOT.slice();
  const view = new DataView(damaged.buffer);
  let changed = 0;
  for (let page = 2 * PAGE_BYTES; page + PAGE_BYTES < damaged.length; page += PAGE_BYTES) {
    if (view.getUint16(page + 8, true) !== 1 || view.getUint16(page + 10, true) === 0) continue;
    view.setBigUint64(page + 16 + 8, view.getBigUint64(page, true), true);
    changed += 1;
  }
  expect(changed).toBeGreaterThan(0);
  expect(readAll(damaged)).toBe("refused");
});

test("any cut is refused or read, and with the hash check always refused", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: SNAPSHOT.length - 1 }), (length) => {
      const cut = SNAPSHOT.slice(0, length);
      readAll(cut);
      const open = () => openSnapshot(fileOfBytes(cut), { checkHash: "always" });
      expect(open).toThrow(SnapshotFileError);
    }),
    { numRuns: fuzzRuns() },
  );
});

test("changed bits anywhere are refused or read, and with the hash check always refused", () => {
  const change = fc.record({
    at: fc.integer({ min: 0, max: SNAPSHOT.length - 1 }),
    bits: fc.integer({ min: 1, max: 255 }),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 20 }), (changes) => {
      const damaged = SNAPSHOT.slice();
      for (const { at, bits } of changes) damaged[at] = (damaged[at] ?? 0) ^ bits;
      readAll(damaged);
      if (Buffer.compare(damaged, SNAPSHOT) === 0) return;
      const open = () => openSnapshot(fileOfBytes(damaged), { checkHash: "always" });
      expect(open).toThrow(SnapshotFileError);
    }),
    { numRuns: fuzzRuns() },
  );
});

test("changed heads of pages and elements are refused or read", () => {
  const pages = Math.floor(SNAPSHOT.length / PAGE_BYTES);
  const change = fc.record({
    page: fc.integer({ min: 0, max: pages - 1 }),
    offset: fc.integer({ min: 0, max: 120 }),
    byte: fc.integer({ min: 0, max: 255 }),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
      const damaged = SNAPSHOT.slice();
      for (const { page, offset, byte } of changes) damaged[page * PAGE_BYTES + offset] = byte;
      readAll(damaged);
    }),
    { numRuns: fuzzRuns() },
  );
});
