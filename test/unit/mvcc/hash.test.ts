/**
 * HashKV is etcd's byte for byte. The numbers are those that etcd's own test holds fast
 * (server/storage/mvcc/hash_test.go, TestHashByRevValue and TestHashByRevValueLastRevision); the history is described
 * there.
 */
import { describe, expect, test } from "vitest";
import { TestStore, utf8 } from "./support.ts";

const CYCLE = 71;
const TOTAL = 1210;
const NAMES = ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"];

/** [hash, compacted revision, hashed revision]. */
type Hashed = readonly [number, number, number];

const AT_MIDDLE: readonly Hashed[] = [
  [4082599214, -1, 35],
  [2279933401, 35, 106],
  [3284231217, 106, 177],
  [126286495, 177, 248],
  [900108730, 248, 319],
  [2475485232, 319, 390],
  [1226296507, 390, 461],
  [2503661030, 461, 532],
  [4155130747, 532, 603],
  [106915399, 603, 674],
  [406914006, 674, 745],
  [1882211381, 745, 816],
  [806177088, 816, 887],
  [664311366, 887, 958],
  [1496914449, 958, 1029],
  [2434525091, 1029, 1100],
  [3988652253, 1100, 1171],
  [1122462288, 1171, 1242],
  [724436716, 1242, 1883],
];

const AT_LAST: readonly Hashed[] = [
  [1913897190, -1, 73],
  [224860069, 73, 145],
  [1565167519, 145, 217],
  [1566261620, 217, 289],
  [2037173024, 289, 361],
  [691659396, 361, 433],
  [2713730748, 433, 505],
  [3919322507, 505, 577],
  [769967540, 577, 649],
  [2909194793, 649, 721],
  [1576921157, 721, 793],
  [4067701532, 793, 865],
  [2226384237, 865, 937],
  [2923408134, 937, 1009],
  [2680329256, 1009, 1081],
  [1546717673, 1081, 1153],
  [2713657846, 1153, 1225],
  [1046575299, 1225, 1297],
  [2017735779, 1297, 2508],
];

function keyNumber(number: number): string {
  if (number % (CYCLE * 2) === 30) return "zenek";
  if (number % CYCLE === 30) return "xavery";
  return NAMES[number % 7] as string;
}

function putNumbers(store: TestStore, from: number, count: number): void {
  for (let number = from; number <= from + count; number += 1) {
    store.put(keyNumber(number), String(number));
  }
}

/** Hashes at `revision` (0: the newest), then compacts there. */
function hashAndCompact(store: TestStore, revision: number, removes: boolean): Hashed {
  const at = revision === 0 ? store.store.revision : revision;
  const compacted = store.store.compactRevision;
  const hash = store.hash(at, { rows: 50, bytes: 1e6 });
  store.compact(at);
  if (removes) store.finishCompaction({ rows: 100, bytes: 1e6 });
  return [hash, compacted, at];
}

describe("HashKV has etcd's value", () => {
  for (const removes of [true, false]) {
    const setting = removes ? "removed at once" : "not removed yet";
    for (const [place, expected] of [
      ["middle", AT_MIDDLE],
      ["last", AT_LAST],
    ] as const) {
      test(`at the ${place} revision of each cycle (compacted rows ${setting})`, () => {
        const store = new TestStore();
        const hashes: Hashed[] = [];
        let from = 0;
        for (; from < TOTAL; from += CYCLE) {
          putNumbers(store, from, CYCLE);
          const at = place === "last" ? 0 : from + Math.floor(CYCLE / 2);
          hashes.push(hashAndCompact(store, at, removes));
        }
        putNumbers(store, from, TOTAL);
        hashes.push(hashAndCompact(store, place === "last" ? 0 : from + TOTAL / 2, removes));
        expect(hashes).toEqual(expected);
      });
    }
  }
});

describe("HashKV", () => {
  test("is refused below the compacted revision and above the newest", () => {
    const store = new TestStore();
    store.put("a", "1");
    store.put("a", "2");
    store.compact(3);
    expect(store.store.openHash(2)).toEqual({ code: "compacted" });
    expect(store.store.openHash(4)).toEqual({ code: "futureRev" });
    expect(store.hash(3)).toBe(store.hash(0));
  });

  test("is the same however much of the compaction's removal is done", () => {
    const store = new TestStore();
    for (let number = 0; number < 60; number += 1) {
      if (number % 5 === 4) store.delete(NAMES[(number * 3) % 7] as string);
      else store.put(NAMES[number % 7] as string, String(number), BigInt(number % 2));
    }
    store.compact(40);
    const revisions = Array.from({ length: store.store.revision - 39 }, (_, at) => 40 + at);
    const hashes = () => revisions.map((revision) => store.hash(revision));
    const before = hashes();
    expect(new Set(before).size).toBe(revisions.length);
    for (let owed = true; owed;) {
      owed = store.stepCompaction();
      expect(hashes()).toEqual(before);
    }
  });

  test("isn't disturbed by writes and compactions between its steps", () => {
    const store = new TestStore();
    for (let number = 0; number < 30; number += 1) store.put(NAMES[number % 7] as string, "x");
    const { revision } = store.store;
    const expected = store.hash(revision);
    const cursor = store.store.openHash(revision);
    if ("code" in cursor) throw new Error(cursor.code);
    for (let done = false; !done;) {
      done = cursor.advance({ rows: 2, bytes: 1e6 });
      store.write((transaction) => transaction.put(utf8("alice"), utf8("later"), 0n));
      store.compactFully(store.store.revision);
    }
    expect(cursor.result().hash).toBe(expected);
    expect(cursor.result()).toMatchObject({ hashRevision: revision, compactRevision: -1 });
    cursor.close();
  });
});
