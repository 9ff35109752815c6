/**
 * Typed access to decoded CBOR arrays: each reader names the field in its error, so that a broken
 * frame says what is wrong with it. Throws `WireError` only.
 */
import { EMPTY } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { WireError } from "./cbor.ts";

/** What a peer answers is not worth a name each: browsers carry them. */
const UNNAMED = "an item";

export type Fields = readonly unknown[];

export function listOf(value: unknown, name = UNNAMED): Fields {
  if (!Array.isArray(value)) throw new WireError(`${name} is no array`);
  return value as Fields;
}

export function bytesOf(value: unknown, name = UNNAMED): Bytes {
  if (!(value instanceof Uint8Array)) throw new WireError(`${name} is no byte string`);
  return value.length === 0 ? EMPTY : value;
}

export function textOfField(value: unknown, name = UNNAMED): string {
  if (typeof value !== "string") throw new WireError(`${name} is no text`);
  return value;
}

export function optionalText(value: unknown, name = UNNAMED): string | undefined {
  return value === null || value === undefined ? undefined : textOfField(value, name);
}

/** A safe integer of either sign. */
export function integerOf(value: unknown, name = UNNAMED): number {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isSafeInteger(number)) {
    throw new WireError(`${name} is no safe integer`);
  }
  return number;
}

/** A safe integer >= 0. */
export function countOf(value: unknown, name = UNNAMED): number {
  const number = integerOf(value, name);
  if (number < 0) throw new WireError(`${name} is negative`);
  return number;
}

/** One of the names by its number. */
export function nameOf<Name extends string>(
  value: unknown,
  names: readonly Name[],
  field: string,
): Name {
  const found = names[countOf(value, field)];
  if (found === undefined) throw new WireError(`${field} ${String(value)} is not known`);
  return found;
}

/** A signed 64-bit number is 8 bytes, big-endian, two's complement; 0 is the integer 0. */
export function encodeInt64(value: bigint): Bytes | 0 {
  if (value === 0n) return 0;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt.asIntN(64, value));
  return bytes;
}

export function int64Of(value: unknown, name = UNNAMED): bigint {
  if (value === 0) return 0n;
  const bytes = viewOf8(value, name);
  return bytes.getBigInt64(0);
}

/** Ids of clusters and members are unsigned; they travel as the same 8 bytes. */
export function uint64Of(value: unknown, name = UNNAMED): bigint {
  return BigInt.asUintN(64, int64Of(value, name));
}

function viewOf8(value: unknown, name = UNNAMED): DataView {
  if (!(value instanceof Uint8Array) || value.length !== 8) {
    throw new WireError(`${name} is not 8 bytes`);
  }
  return new DataView(value.buffer, value.byteOffset, 8);
}
