/** wire/cbor: the subset against a whole codec, golden bytes, and what it refuses. */
import { Encoder } from "cbor-x/index-no-eval";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { hexOf } from "../../../shared/base/bytes.ts";
import { WireError, decodeCbor, encodeCbor } from "../../../shared/wire/cbor.ts";

const reference = new Encoder({ useRecords: false, tagUint8Array: false, variableMapSize: true });

const leaf = fc.oneof(
  fc.integer(),
  fc.maxSafeInteger(),
  // The other codec writes -0 as 0; that ours keeps it is shown below.
  fc.double({ noNaN: true }).map((number) => (Object.is(number, -0) ? 0 : number)),
  fc.string({ unit: "grapheme", maxLength: 80 }),
  fc.uint8Array({ maxLength: 300 }),
  fc.boolean(),
  fc.constant(null),
);
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof({ maxDepth: 4 }, leaf, fc.array(tie("value"), { maxLength: 30 })),
}));

test("values come back as they were, by this codec and by a whole one, in either direction", () => {
  fc.assert(
    fc.property(value, (written) => {
      const bytes = encodeCbor(written);
      expect(decodeCbor(bytes)).toEqual(written);
      expect(reference.decode(bytes)).toEqual(written);
      const theirs = Uint8Array.from(reference.encode(written) as Uint8Array);
      expect(decodeCbor(theirs)).toEqual(written);
    }),
    { numRuns: 300 },
  );
});

test.each([
  [0, "00"],
  [23, "17"],
  [24, "1818"],
  [255, "18ff"],
  [256, "190100"],
  [65_536, "1a00010000"],
  [0xffff_ffff, "1affffffff"],
  [2 ** 32, "fb41f0000000000000"],
  [-1, "20"],
  [-500, "3901f3"],
  [-0, "fb8000000000000000"],
  ["a", "6161"],
  ["\u{1F600}", "64f09f9880"],
  ["\uFEFFx", "64efbbbf78"],
  [Uint8Array.of(1, 2), "420102"],
  [[true, false, null, undefined], "84f5f4f6f7"],
])("%s is written as %s", (written, hex) => {
  expect(hexOf(encodeCbor(written))).toBe(hex);
  expect(decodeCbor(encodeCbor(written))).toEqual(written);
});

test("what it returns is the caller's own, and byte strings are views of the input", () => {
  const first = encodeCbor([1, 2, 3]);
  encodeCbor("something else");
  expect(hexOf(first)).toBe("83010203");
  const input = encodeCbor(Uint8Array.of(7, 7));
  const view = decodeCbor(input) as Uint8Array;
  input[1] = 9;
  expect(view[0]).toBe(9);
  expect((decodeCbor(Buffer.from(input)) as Uint8Array).constructor).toBe(Uint8Array);
});

test.each([
  "1bffffffffffffffff",
  "9b00000000ffffffff",
  "5affffffff01",
  "a0",
  "c001",
  "9fff",
  "f8ff",
])("%s makes nothing of its size: refused, or a number", (hex) => {
  const input = Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
  if (hex.startsWith("1b")) expect(decodeCbor(input)).toBe(2 ** 64);
  else expect(() => decodeCbor(input)).toThrow(WireError);
});

test("any input is a value or a WireError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (input) => {
      try {
        decodeCbor(input);
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    }),
    { numRuns: 2000 },
  );
});
