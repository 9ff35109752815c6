/** The rows: the worked example of key-layout.ts, order, escapes, and that every change survives its encoding. */
import { describe, expect, test } from "vitest";
import { compareBytes } from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";
import { Slab } from "../../../shared/base/slab.ts";
import {
  changeOfRevisionRow,
  decodeKeyValue,
  encodeValueRow,
  escapeKey,
  isSameKey,
  isTombstoneRow,
  keyOfRow,
  keyRow,
  keyRowsAtMost,
  mainOfKeyRow,
  pastRowsOf,
  revisionRow,
  SUB_MAX,
  subOfKeyRow,
} from "../../../shared/mvcc/key-layout.ts";
import { TestStore, textOf, utf8 } from "./support.ts";

function keyRows(store: TestStore): string {
  const rows: string[] = [];
  store.backend.scan("key", {}, (row) => {
    const mark = isTombstoneRow(row) ? "x" : "";
    rows.push(`${textOf(keyOfRow(row))} ${mainOfKeyRow(row)}.${subOfKeyRow(row)}${mark}`);
    return true;
  });
  return rows.join(", ");
}

function revisionRows(store: TestStore): string {
  const rows: string[] = [];
  store.backend.scan("revision", {}, (row, key) => {
    const { main, sub, tombstone } = changeOfRevisionRow(row);
    rows.push(`${main}.${sub}${tombstone ? "x" : ""} ${textOf(key)}`);
    return true;
  });
  return rows.join(", ");
}

test("the example of the header: put, put, tombstone, put, compact", () => {
  const store = new TestStore();
  expect(store.store.revision).toBe(1);
  store.put("a", "1");
  expect(keyRows(store)).toBe("a 2.0");
  expect(revisionRows(store)).toBe("2.0 a");
  store.put("a", "2");
  expect(keyRows(store)).toBe("a 3.0, a 2.0");
  store.delete("a");
  expect(keyRows(store)).toBe("a 4.0x, a 3.0, a 2.0");
  expect(revisionRows(store)).toBe("2.0 a, 3.0 a, 4.0x a");
  store.write((transaction) => {
    transaction.put(utf8("a"), utf8("3"), 0n);
    transaction.put(utf8("b"), utf8("4"), 0n);
  });
  expect(keyRows(store)).toBe("a 5.0, a 4.0x, a 3.0, a 2.0, b 5.1");
  store.compactFully(3);
  expect(keyRows(store)).toBe("a 5.0, a 4.0x, a 3.0, b 5.1");
  expect(revisionRows(store)).toBe("3.0 a, 4.0x a, 5.0 a, 5.1 b");
  store.compactFully(4);
  expect(keyRows(store)).toBe("a 5.0, a 4.0x, b 5.1");
  store.compactFully(5);
  expect(keyRows(store)).toBe("a 5.0, b 5.1");
  expect(revisionRows(store)).toBe("5.0 a, 5.1 b");
});

describe("rows", () => {
  const keys = [[], [0], [0, 0], [0, 1], [0, 255], [1], [97], [97, 0], [97, 0, 31], [97, 0, 255]]
    .concat([[97, 1], [97, 98], [97, 255], [98], [255], [255, 255]])
    .map((bytes) => Uint8Array.from(bytes));

  test("sort by key first, then from the newest change to the oldest", () => {
    const changes = [
      { main: 1, sub: 0 },
      { main: 2, sub: 0 },
      { main: 2, sub: 1 },
      { main: 2, sub: SUB_MAX },
      { main: 2 ** 32, sub: 5 },
      { main: Number.MAX_SAFE_INTEGER, sub: 0 },
    ];
    const rows = keys.flatMap((key) =>
      changes.toReversed().map((change) => ({
        key,
        change,
        row: keyRow(key, { ...change, tombstone: change.sub === 1 }),
      })),
    );
    for (let at = 1; at < rows.length; at += 1) {
      const [a, b] = [rows[at - 1], rows[at]];
      expect(a !== undefined && b !== undefined && compareBytes(a.row, b.row)).toBe(-1);
    }
    for (const { key, change, row } of rows) {
      expect(keyOfRow(row)).toEqual(key);
      expect(mainOfKeyRow(row)).toBe(change.main);
      expect(subOfKeyRow(row)).toBe(change.sub);
      expect(isTombstoneRow(row)).toBe(change.sub === 1);
      expect(compareBytes(escapeKey(key), row)).toBe(-1);
      expect(compareBytes(keyRowsAtMost(key, change.main), row)).toBeLessThan(1);
      for (const other of rows) {
        expect(isSameKey(row, other.row)).toBe(key === other.key);
        const behind = compareBytes(other.row, pastRowsOf(row)) > 0;
        expect(behind).toBe(compareBytes(other.key, key) > 0);
      }
    }
  });

  test("escaped keys bound ranges as the keys do", () => {
    for (const a of keys) {
      for (const b of keys) {
        const row = keyRow(a, { main: 7, sub: 0, tombstone: false });
        expect(compareBytes(row, escapeKey(b)) >= 0).toBe(compareBytes(a, b) >= 0);
      }
    }
  });

  test("random key-values come back whole", () => {
    const seed = Number(process.env["SEED"] ?? 5);
    const prng = new Prng(seed);
    const slab = new Slab();
    const numbers = [1, 2, 127, 128, 16_383, 16_384, 2 ** 31, 2 ** 40, Number.MAX_SAFE_INTEGER - 1];
    for (let round = 0; round < 500; round += 1) {
      const modRevision = prng.pick(numbers) + 1;
      const kv = {
        key: Uint8Array.from({ length: prng.below(9) }, () => prng.pick([0, 1, 97, 255])),
        value: Uint8Array.from({ length: prng.below(200) }, () => prng.below(256)),
        createRevision: Math.max(1, modRevision - prng.pick(numbers)),
        modRevision,
        version: prng.pick(numbers),
        lease: prng.pick([0n, 1n, -1n, 2n ** 62n, -(2n ** 63n)]),
      };
      const row = keyRow(kv.key, { main: modRevision, sub: prng.below(9), tombstone: false });
      expect(decodeKeyValue(row, encodeValueRow(kv, slab)), `SEED=${seed}`).toEqual(kv);
    }
  });

  test("a row in `revision` names its change, in order of time", () => {
    const rows = [
      { main: 2, sub: 0, tombstone: true },
      { main: 2, sub: 1, tombstone: false },
      { main: 3, sub: 0, tombstone: false },
      { main: 2 ** 40, sub: SUB_MAX, tombstone: true },
    ];
    const encoded = rows.map((change) => revisionRow(change));
    expect(encoded.map(changeOfRevisionRow)).toEqual(rows);
    expect(encoded.toSorted(compareBytes)).toEqual(encoded);
  });

  test("a value's row of an unknown format is no value", () => {
    const row = keyRow(utf8("a"), { main: 2, sub: 0, tombstone: false });
    expect(() => decodeKeyValue(row, Uint8Array.of(0x80, 1, 0))).toThrow("format");
  });
});
