/** base: byte order, ranges, number layout, chance and checksums. */
import { describe, expect, test } from "vitest";
import {
  compareBytes,
  hexOf,
  prefixEnd,
  readUint64,
  utf8,
  writeUint64,
} from "../../shared/base/bytes.ts";
import { crc32c } from "../../shared/base/crc32c.ts";
import { Prng } from "../../shared/base/prng.ts";

describe("bytes", () => {
  test("order is unsigned and a proper prefix comes first", () => {
    const sorted = [[], [0], [0, 255], [1], [127], [128], [255], [255, 0]].map((b) =>
      Uint8Array.from(b),
    );
    for (const [i, a] of sorted.entries()) {
      for (const [j, b] of sorted.entries()) expect(compareBytes(a, b)).toBe(Math.sign(i - j));
    }
  });

  test("prefixEnd raises the last byte below 0xff and is open behind 0xff only", () => {
    expect(hexOf(prefixEnd(utf8("a")) ?? utf8(""))).toBe("62");
    expect(hexOf(prefixEnd(Uint8Array.of(1, 255, 255)) ?? utf8(""))).toBe("02");
    expect(prefixEnd(Uint8Array.of(255))).toBeUndefined();
    expect(prefixEnd(utf8(""))).toBeUndefined();
  });

  test("eight-byte numbers keep order and value up to the safe limit", () => {
    const bytes = new Uint8Array(9);
    for (const value of [0, 1, 255, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      writeUint64(bytes, 1, value);
      expect(readUint64(bytes, 1)).toBe(value);
    }
    expect(() => writeUint64(bytes, 0, 2 ** 53)).toThrow("no safe integer");
    bytes.fill(255);
    expect(() => readUint64(bytes, 0)).toThrow("no safe integer");
  });
});

describe("crc32c", () => {
  test("matches the vectors of RFC 3720 appendix B.4", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
  });

  test("continues over parts of any length", () => {
    const bytes = Uint8Array.from({ length: 50 }, (_, i) => (i * 37) & 255);
    for (let cut = 0; cut <= 50; cut += 1) {
      const head = crc32c(bytes, { end: cut });
      expect(crc32c(bytes, { start: cut, previous: head })).toBe(crc32c(bytes));
    }
  });
});

test("a seed replays its draws, another seed draws others", () => {
  const draws = (seed: number) => {
    const prng = new Prng(seed);
    return Array.from({ length: 20 }, () => prng.below(1000));
  };
  expect(draws(7)).toEqual(draws(7));
  expect(draws(7)).not.toEqual(draws(8));
});
