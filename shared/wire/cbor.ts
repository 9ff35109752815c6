/**
 * The subset of CBOR (RFC 8949) that links speak: definite arrays, integers, float64, byte and
 * text strings, booleans and null. cbor-x does the coding, in its build without `eval`;
 * `decodeCbor` walks the input first, so that tags, maps, indefinite lengths, deep nesting and
 * lengths beyond the input never reach it. Integers past 32 bits travel as float64 (cbor-x writes
 * them so), 64-bit ids as 8 bytes. Decoded byte strings are views of the input.
 */
import { Encoder } from "cbor-x/index-no-eval";
import type { Bytes } from "../base/bytes.ts";
import { LIMITS } from "../base/limits.ts";

/** Input that is not what the protocol says: the link is closed with this text, the process goes on. */
export class WireError extends Error {
  override readonly name = "WireError";
}

const codec = new Encoder({
  useRecords: false,
  mapsAsObjects: true,
  structuredClone: false,
  bundleStrings: false,
  tagUint8Array: false,
  variableMapSize: true,
});

/** The bytes of a value of the subset. The result is the caller's own. */
export function encodeCbor(value: unknown): Bytes {
  return plain(codec.encode(value));
}

/** The value of exactly these bytes; throws `WireError` on anything outside the subset. */
export function decodeCbor(bytes: Bytes): unknown {
  checkCbor(bytes);
  try {
    return codec.decode(plain(bytes)) as unknown;
  } catch (cause) {
    throw new WireError("malformed CBOR", { cause });
  }
}

/**
 * A plain Uint8Array over the same memory: Node's Buffer has a `slice` that does not copy, which
 * surprises shared code.
 */
function plain(bytes: Bytes): Bytes {
  return bytes.constructor === Uint8Array
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTE_STRING = 2;
const TEXT = 3;
const ARRAY = 4;
const SIMPLE = 7;
const FLOAT64 = 27;

/** One pass without recursion: `open` holds how many items each open array still waits for. */
function checkCbor(bytes: Bytes): void {
  const open: number[] = [];
  let position = 0;
  do {
    if (position >= bytes.length) throw new WireError("CBOR ends inside an item");
    const initial = bytes[position] as number;
    const major = initial >> 5;
    const info = initial & 31;
    const width = argumentWidth(major, info);
    if (position + 1 + width > bytes.length) throw new WireError("CBOR ends inside a length");
    let argument = info;
    if (width > 0) argument = readArgument(bytes, position + 1, width);
    position += 1 + width;
    if (major === BYTE_STRING || major === TEXT) {
      if (argument > bytes.length - position) throw new WireError("CBOR string beyond the input");
      position += argument;
    } else if (major === ARRAY && argument > 0) {
      if (argument > bytes.length - position) throw new WireError("CBOR array beyond the input");
      if (open.length >= LIMITS.frameDepthMax) throw new WireError("CBOR nests too deeply");
      open.push(argument);
      continue;
    }
    closeArrays(open);
  } while (open.length > 0);
  if (position !== bytes.length) throw new WireError("bytes after the CBOR item");
}

/** An item has ended: so have the arrays that it was the last one of. */
function closeArrays(open: number[]): void {
  while (open.length > 0) {
    const rest = (open.at(-1) as number) - 1;
    if (rest > 0) {
      open[open.length - 1] = rest;
      return;
    }
    open.pop();
  }
}

function argumentWidth(major: number, info: number): number {
  if (major === SIMPLE) {
    if (info === FLOAT64) return 8;
    if (info >= 20 && info <= 23) return 0;
    throw new WireError(`CBOR simple value ${info} is not part of the protocol`);
  }
  if (major > ARRAY) throw new WireError("CBOR maps and tags are not part of the protocol");
  if (info < 24) return 0;
  if (info > 27) throw new WireError("CBOR of indefinite or reserved length");
  if (info === 27 && major !== UNSIGNED && major !== NEGATIVE) {
    throw new WireError("CBOR string or array beyond the input");
  }
  return 1 << (info - 24);
}

function readArgument(bytes: Bytes, start: number, width: number): number {
  let value = 0;
  for (let offset = 0; offset < width; offset += 1) {
    value = value * 256 + (bytes[start + offset] as number);
  }
  return value;
}
