/**
 * Byte strings: order, ranges, text and hexadecimal. Keys are compared as unsigned bytes, a proper
 * prefix first; that is the order of every table, range and interval in this project.
 */
import { assert } from "./assert.ts";

export type Bytes = Uint8Array;

export const EMPTY: Bytes = new Uint8Array(0);

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** -1, 0 or 1, as `a` sorts before, with or after `b`. */
export function compareBytes(a: Bytes, b: Bytes): -1 | 0 | 1 {
  const shared = a.length < b.length ? a.length : b.length;
  for (let position = 0; position < shared; position += 1) {
    const left = a[position] as number;
    const right = b[position] as number;
    if (left !== right) return left < right ? -1 : 1;
  }
  if (a.length === b.length) return 0;
  return a.length < b.length ? -1 : 1;
}

export function equalBytes(a: Bytes, b: Bytes): boolean {
  return a.length === b.length && compareBytes(a, b) === 0;
}

export function concatBytes(...parts: readonly Bytes[]): Bytes {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** The text's UTF-8 bytes. */
export function utf8(text: string): Bytes {
  return encoder.encode(text);
}

/** The text of UTF-8 bytes; malformed sequences become U+FFFD. */
export function textOf(bytes: Bytes): string {
  return decoder.decode(bytes);
}

const HEX_DIGITS = "0123456789abcdef";

/** Two lower-case hexadecimal digits a byte. */
export function hexOf(bytes: Bytes): string {
  let text = "";
  for (const byte of bytes) text += `${HEX_DIGITS[byte >> 4]}${HEX_DIGITS[byte & 15]}`;
  return text;
}

/**
 * The smallest byte string after every string that starts with `prefix`: the last byte below 0xff
 * plus one, the rest cut off. `undefined` when there is none (an empty prefix, or 0xff only): the
 * range is open at its end.
 */
export function prefixEnd(prefix: Bytes): Bytes | undefined {
  for (let position = prefix.length - 1; position >= 0; position -= 1) {
    const byte = prefix[position] as number;
    if (byte === 0xff) continue;
    // Not `slice`: that of a Buffer shares its bytes.
    const end = Uint8Array.from(prefix.subarray(0, position + 1));
    end[position] = byte + 1;
    return end;
  }
  return undefined;
}

/** Writes a safe integer >= 0 as 8 bytes, big-endian, so that byte order is number order. */
export function writeUint64(target: Bytes, offset: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `no safe integer: ${value}`);
  let high = Math.floor(value / 0x1_0000_0000);
  let low = value >>> 0;
  for (let position = 3; position >= 0; position -= 1) {
    target[offset + position] = high & 0xff;
    target[offset + 4 + position] = low & 0xff;
    high >>>= 8;
    low >>>= 8;
  }
}

/** Reads what `writeUint64` wrote; asserts that the number is safe. */
export function readUint64(source: Bytes, offset: number): number {
  assert(offset + 8 <= source.length, `no 8 bytes at ${offset} of ${source.length}`);
  let high = 0;
  let low = 0;
  for (let position = 0; position < 4; position += 1) {
    high = high * 256 + (source[offset + position] as number);
    low = low * 256 + (source[offset + 4 + position] as number);
  }
  const value = high * 0x1_0000_0000 + low;
  assert(Number.isSafeInteger(value), `no safe integer at ${offset}`);
  return value;
}
