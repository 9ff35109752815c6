/**
 * Fuzzing of one decoder: valid messages, the same mutated (bits, lengths, pieces cut, doubled and
 * moved), and plain chance. Whatever comes, a decoder either refuses with the error that it
 * documents, or decodes to something whose encoding decodes to the same again, and whose size is in
 * proportion to the input. Bounded in time; fast-check prints the seed and the shrunk input of a
 * failure, which then goes into `found` and is replayed first for ever.
 */
import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hexOf } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";

const MILLISECONDS = 1200;
const RUNS = 20_000;
const RANDOM_BYTES_MAX = 200;
/** What a decoded byte may come to, in items and bytes of the result. */
const WEIGHT_PER_BYTE = 64;
const WEIGHT_FREE = 4096;

export interface FuzzedDecoder<Value> {
  readonly name: string;
  /** Valid messages. */
  readonly seeds: readonly Bytes[];
  decode(bytes: Bytes): Value;
  /** True for the errors that `decode` documents. */
  refuses(error: unknown): boolean;
  /** Absent where there is no encoder for all that decodes. */
  encode?(value: Value): Bytes;
  /** Inputs that once failed, as hexadecimal digits. */
  readonly found?: readonly string[];
}

/** Edits that break formats where it hurts: lengths, counts, tags, borders. */
function mutated(seeds: readonly Bytes[]): fc.Arbitrary<Bytes> {
  const place = fc.nat(0xffff);
  const edit = fc.oneof(
    fc.record({ kind: fc.constant("flip" as const), place, bit: fc.nat(7) }),
    fc.record({ kind: fc.constant("set" as const), place, bytes: INTERESTING }),
    fc.record({ kind: fc.constant("insert" as const), place, bytes: INTERESTING }),
    fc.record({ kind: fc.constant("cut" as const), place, length: fc.nat(8) }),
    fc.record({ kind: fc.constant("end" as const), place }),
    fc.record({ kind: fc.constant("double" as const), place, length: fc.nat(40) }),
  );
  return fc
    .tuple(fc.constantFrom(...seeds), fc.array(edit, { minLength: 1, maxLength: 4 }))
    .map(([seed, edits]) => {
      let bytes = [...seed];
      for (const change of edits) {
        const at = bytes.length === 0 ? 0 : change.place % bytes.length;
        if (change.kind === "flip") bytes[at] = (bytes[at] ?? 0) ^ (1 << change.bit);
        else if (change.kind === "set") bytes.splice(at, change.bytes.length, ...change.bytes);
        else if (change.kind === "insert") bytes.splice(at, 0, ...change.bytes);
        else if (change.kind === "cut") bytes.splice(at, change.length);
        else if (change.kind === "end") bytes = bytes.slice(0, at);
        else bytes.splice(at, 0, ...bytes.slice(at, at + change.length));
      }
      return Uint8Array.from(bytes);
    });
}

/** Largest and smallest lengths and numbers of the formats here, and chance. */
const INTERESTING = fc.oneof(
  fc.constantFrom(
    [0],
    [0x7f],
    [0x80],
    [0xff],
    [0xff, 0xff, 0xff, 0xff],
    [0x7f, 0xff, 0xff, 0xff],
    [0x00, 0x00, 0x00, 0x80],
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    [0x5b, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff],
    [0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
    [0xfb, 0x80, 0, 0, 0, 0, 0, 0, 0],
    Array.from({ length: 40 }, () => 0x81),
  ),
  fc.array(fc.nat(255), { minLength: 1, maxLength: 9 }),
);

/** Inputs for a decoder of messages like these. */
export function inputsLike(seeds: readonly Bytes[]): fc.Arbitrary<Bytes> {
  return fc.oneof(
    { weight: 4, arbitrary: mutated(seeds) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: RANDOM_BYTES_MAX }) },
  );
}

/** The property alone, for one input. */
function check<Value>(decoder: FuzzedDecoder<Value>, input: Bytes): "decoded" | "refused" {
  const before = hexOf(input);
  let value: Value;
  try {
    value = decoder.decode(input);
  } catch (error) {
    if (decoder.refuses(error)) return "refused";
    throw error;
  }
  expect(hexOf(input), "the input is left as it is").toBe(before);
  expect(weightOf(value)).toBeLessThanOrEqual(WEIGHT_FREE + WEIGHT_PER_BYTE * input.length);
  if (decoder.encode === undefined) return "decoded";
  const again = decoder.decode(decoder.encode(value));
  if (!isDeepStrictEqual(again, value)) expect(again).toEqual(value);
  return "decoded";
}

/** Items, characters and bytes of a value. */
function weightOf(value: unknown): number {
  if (typeof value === "string" || value instanceof Uint8Array) return 1 + value.length;
  if (typeof value !== "object" || value === null) return 1;
  let weight = 1;
  for (const item of Object.values(value)) weight += weightOf(item);
  return weight;
}

/** Runs a property over many inputs, within the time that each has. */
export async function many<Input>(
  inputs: fc.Arbitrary<Input>,
  property: (input: Input) => void | Promise<void>,
): Promise<number> {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(inputs, async (input) => {
      runs += 1;
      await property(input);
    }),
    { numRuns: RUNS, interruptAfterTimeLimit: MILLISECONDS },
  );
  return runs;
}

export function fuzz<Value>(decoder: FuzzedDecoder<Value>): void {
  describe(decoder.name, () => {
    test("valid messages come back as the same bytes", () => {
      for (const seed of decoder.seeds) {
        const value = decoder.decode(seed);
        if (decoder.encode !== undefined) expect(hexOf(decoder.encode(value))).toBe(hexOf(seed));
      }
    });

    test("what once failed", () => {
      for (const hex of decoder.found ?? []) {
        check(decoder, Uint8Array.from(Buffer.from(hex, "hex")));
      }
    });

    test("mutated and random bytes decode or are refused", async () => {
      const outcomes = { decoded: 0, refused: 0 };
      const runs = await many(inputsLike(decoder.seeds), (input) => {
        outcomes[check(decoder, input)] += 1;
      });
      expect(runs).toBeGreaterThan(20);
      expect(outcomes.refused).toBeGreaterThan(0);
    });
  });
}
