/** Promises of a backend: what was put is there. */
import { describe, expect, test } from "vitest";
import { TABLES } from "../../../../shared/backend/backend.ts";
import { compareBytes, EMPTY, utf8 } from "../../../../shared/base/bytes.ts";
import { rowsOf } from "./store-under-test.ts";
import type { StoreUnderTest } from "./store-under-test.ts";

export function readsAndWrites(store: StoreUnderTest): void {
  describe("reads and writes", () => {
    test("a new store is empty and at index 0", async () => {
      const backend = await store.start();
      expect(backend.visibleIndex).toBe(0);
      expect(backend.durableIndex).toBe(0);
      for (const table of TABLES) {
        expect(rowsOf(backend, table)).toEqual([]);
        expect(backend.get(table, utf8("a"))).toBeUndefined();
      }
    });

    test("what was put is there at once, with the index of its apply", async () => {
      const backend = await store.start();
      backend.apply(3, (writer) => {
        writer.put("meta", utf8("a"), utf8("1"));
        writer.put("key", utf8("b"), utf8("2"));
      });
      expect(backend.visibleIndex).toBe(3);
      expect(backend.durableIndex).toBeLessThanOrEqual(3);
      expect(rowsOf(backend, "meta")).toEqual(["61=31"]);
      expect(rowsOf(backend, "key")).toEqual(["62=32"]);
      expect(backend.get("key", utf8("b"))).toEqual(utf8("2"));
    });

    test("tables are apart: the same key in each of them", async () => {
      const backend = await store.start();
      backend.apply(1, (writer) => {
        for (const table of TABLES) writer.put(table, utf8("same"), utf8(table));
      });
      backend.apply(2, (writer) => writer.delete("lease", utf8("same")));
      for (const table of TABLES) {
        const expected = table === "lease" ? undefined : utf8(table);
        expect(backend.get(table, utf8("same"))).toEqual(expected);
      }
    });

    test("later writes to a key win, within one apply and over applies", async () => {
      const backend = await store.start();
      backend.apply(1, (writer) => {
        writer.put("key", utf8("a"), utf8("1"));
        writer.put("key", utf8("a"), utf8("2"));
        writer.put("key", utf8("b"), utf8("1"));
        writer.delete("key", utf8("b"));
        writer.delete("key", utf8("c"));
        writer.put("key", utf8("c"), utf8("3"));
      });
      expect(rowsOf(backend, "key")).toEqual(["61=32", "63=33"]);
      backend.apply(2, (writer) => {
        writer.put("key", utf8("a"), utf8("4"));
        writer.delete("key", utf8("c"));
        writer.delete("key", utf8("never there"));
      });
      expect(rowsOf(backend, "key")).toEqual(["61=34"]);
    });

    test("values may be empty, which is not absent", async () => {
      const backend = await store.start();
      backend.apply(1, (writer) => writer.put("key", utf8("a"), EMPTY));
      const value = backend.get("key", utf8("a"));
      expect(value).toBeDefined();
      expect(value?.length).toBe(0);
      expect(rowsOf(backend, "key")).toEqual(["61="]);
    });

    test("values of several MiB come back whole", async () => {
      const backend = await store.start();
      const value = new Uint8Array(3 * 1024 * 1024 + 7);
      for (let i = 0; i < value.length; i += 1) value[i] = (i * 31) & 0xff;
      backend.apply(1, (writer) => writer.put("revision", utf8("big"), value));
      expect(compareBytes(backend.get("revision", utf8("big")) ?? EMPTY, value)).toBe(0);
    });
  });

  test("sizes grow with rows, and what is in use is part of the total", async () => {
    const backend = await store.start();
    backend.apply(1, (writer) => {
      for (let at = 0; at < 100; at += 1) {
        writer.put("key", utf8(`k${at}`), new Uint8Array(10_000));
      }
    });
    backend.flush();
    await expect.poll(() => backend.durableIndex, { interval: 1 }).toBe(1);
    const { totalBytes, inUseBytes } = backend.sizes();
    expect(inUseBytes).toBeGreaterThanOrEqual(1_000_000);
    expect(totalBytes).toBeGreaterThanOrEqual(inUseBytes);
  });
}
