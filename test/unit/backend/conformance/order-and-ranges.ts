/** Promises of a backend: order, bounds and directions of scans, long keys. */
import { describe, expect, test } from "vitest";
import type { ScanOptions } from "../../../../shared/backend/backend.ts";
import { compareBytes, EMPTY, hexOf, utf8 } from "../../../../shared/base/bytes.ts";
import type { Bytes } from "../../../../shared/base/bytes.ts";
import { longKey, putAll, rowsOf, textsOf } from "./store-under-test.ts";
import type { StoreUnderTest } from "./store-under-test.ts";

export function orderAndRanges(store: StoreUnderTest): void {
  describe("order and ranges", () => {
    test("order is unsigned bytes, a prefix first, upwards and downwards", async () => {
      const backend = await store.start();
      const sorted = ["00", "0000", "00ff", "01", "7f", "80", "8000", "ff", "ff00", "ffff"];
      const shuffled = [...sorted].sort((a, b) => hexOf(utf8(a)).localeCompare(b));
      backend.apply(1, (writer) => {
        for (const hex of shuffled) {
          const bytes = hex.match(/../g) ?? [];
          writer.put(
            "key",
            Uint8Array.from(bytes, (byte) => Number.parseInt(byte, 16)),
            EMPTY,
          );
        }
      });
      const rows = sorted.map((hex) => `${hex}=`);
      expect(rowsOf(backend, "key")).toEqual(rows);
      expect(rowsOf(backend, "key", { reverse: true })).toEqual(rows.toReversed());
    });

    test("start is included, end is excluded, in both directions", async () => {
      const backend = await store.start();
      putAll(backend, "key", ["a", "b", "c", "d"]);
      const cases: [ScanOptions, string][] = [
        [{}, "abcd"],
        [{ start: utf8("b") }, "bcd"],
        [{ end: utf8("c") }, "ab"],
        [{ start: utf8("b"), end: utf8("d") }, "bc"],
        [{ start: utf8("bb"), end: utf8("cc") }, "c"],
        [{ start: utf8("b"), end: utf8("b") }, ""],
        [{ start: utf8("c"), end: utf8("b") }, ""],
        [{ start: utf8("e") }, ""],
        [{ end: utf8("a") }, ""],
        [{ start: utf8("0"), end: utf8("z") }, "abcd"],
        [{ start: undefined, end: undefined }, "abcd"],
      ];
      for (const [options, expected] of cases) {
        const down = expected.split("").toReversed().join("");
        expect(textsOf(backend, "key", options).join("")).toBe(expected);
        expect(textsOf(backend, "key", { ...options, reverse: true }).join("")).toBe(down);
      }
    });

    test("a scan ends when the visitor answers false", async () => {
      const backend = await store.start();
      putAll(backend, "key", ["a", "b", "c", "d"]);
      for (const reverse of [false, true]) {
        const seen: string[] = [];
        backend.scan("key", { reverse }, (key) => {
          seen.push(String.fromCharCode(...key));
          return seen.length < 2;
        });
        expect(seen).toEqual(reverse ? ["d", "c"] : ["a", "b"]);
      }
    });

    test("a scan for keys only visits the same keys", async () => {
      const backend = await store.start();
      putAll(backend, "key", ["a", "b", "c"]);
      expect(textsOf(backend, "key", { keysOnly: true })).toEqual(["a", "b", "c"]);
      expect(textsOf(backend, "key", { keysOnly: true, reverse: true })).toEqual(["c", "b", "a"]);
    });

    test("a scan and gets may run inside a visitor", async () => {
      const backend = await store.start();
      putAll(backend, "key", ["a", "b"]);
      const pairs: string[] = [];
      backend.scan("key", {}, (outer) => {
        expect(backend.get("key", outer)).toBeDefined();
        backend.scan("key", { reverse: true }, (inner) => {
          pairs.push(String.fromCharCode(...outer, ...inner));
          return true;
        });
        return true;
      });
      expect(pairs).toEqual(["ab", "aa", "bb", "ba"]);
    });

    test("long keys that share all but their last bytes keep order", async () => {
      const backend = await store.start();
      const lengths = [500, 501, 1977, 1978, 1979, 2000, 4095, 4096, 9000, 1_600_000];
      const keys = lengths.flatMap((length) => [2, 1, 300].map((last) => longKey(length, last)));
      // Prefixes of one another, around every length at which a store may start to treat keys in
      // another way.
      for (let length = 1; length < 4200; length += 53) {
        keys.push(new Uint8Array(length).fill(0x61));
      }
      const sorted = [...keys].sort(compareBytes);
      backend.apply(1, (writer) => {
        for (const [at, key] of keys.entries()) writer.put("key", key, utf8(String(at)));
      });
      for (const reverse of [false, true]) {
        const expected = reverse ? sorted.toReversed() : sorted;
        let at = 0;
        backend.scan("key", { reverse }, (key) => {
          expect(compareBytes(key, expected[at] as Bytes)).toBe(0);
          at += 1;
          return true;
        });
        expect(at).toBe(sorted.length);
      }
      for (const [at, key] of keys.entries()) {
        expect(backend.get("key", key)).toEqual(utf8(String(at)));
      }
      const [low, high] = [longKey(2000, 1), longKey(2000, 300)];
      let inside = 0;
      backend.scan("key", { start: low, end: high }, (key) => {
        expect(compareBytes(key, low)).toBeGreaterThanOrEqual(0);
        expect(compareBytes(key, high)).toBe(-1);
        inside += 1;
        return true;
      });
      const within = (key: Bytes) => compareBytes(key, low) >= 0 && compareBytes(key, high) < 0;
      expect(inside).toBe(sorted.filter(within).length);
      backend.apply(2, (writer) => {
        for (const key of keys) if (key.length > 1000) writer.delete("key", key);
      });
      expect(rowsOf(backend, "key").length).toBe(keys.filter((k) => k.length <= 1000).length);
    });
  });
}
