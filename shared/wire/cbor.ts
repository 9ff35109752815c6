/**
 * The subset of CBOR (RFC 8949) that links speak: definite arrays, integers, float64, byte and
 * text strings, booleans and null. Integers past 32 bits travel as float64, 64-bit ids as 8 bytes.
 * Tags, maps, indefinite lengths, deep nesting and lengths beyond the input are refused before
 * anything of their size is made. Decoded byte strings are views of the input.
 *
 * A general codec is many times this size, and browsers carry this file: their bundle has a limit.
 * So the state of the one encoding that is under way stands in the module, not in an object.
 */
import { utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import * as LIMITS from "../base/link-limits.ts";

/** Input that is not what the protocol says: the link is closed with this text, the process goes on. */
export class WireError extends Error {
  override readonly name = "WireError";
}

/** CBOR's simple values from 20 on. */
const SIMPLE_VALUES: readonly unknown[] = [false, true, null, undefined];
const FIRST_SIMPLE = 20;
const FLOAT64 = 0xfb;

/** The upper three bits of an item's first byte, as the functions below write and read them. */
type Major =
  /** An unsigned integer. */
  | 0
  /** A negative one: -1 less the argument. */
  | 1
  /** A byte string. */
  | 2
  /** A text. */
  | 3
  /** An array. */
  | 4;

/** A scratch buffer that has grown past this is not kept. */
const SCRATCH_BYTES = 4096;
const SCRATCH_BYTES_MAX = 1024 * 1024;

let scratch: Uint8Array<ArrayBuffer> | undefined;
let view: DataView;
let length = 0;

/** The bytes of a value of the subset. The result is the caller's own. */
export function encodeCbor(value: unknown): Bytes {
  if (scratch === undefined || scratch.length > SCRATCH_BYTES_MAX) resize(SCRATCH_BYTES);
  length = 0;
  write(value);
  return (scratch as Bytes).slice(0, length);
}

/** Makes room for `count` bytes more, and returns where they go. */
function reserve(count: number): Uint8Array {
  const bytes = scratch as Bytes;
  const needed = length + count;
  return needed > bytes.length ? resize(Math.max(needed, bytes.length * 2)) : bytes;
}

function resize(size: number): Uint8Array {
  const grown = new Uint8Array(size);
  if (scratch !== undefined) grown.set(scratch.subarray(0, Math.min(size, length)));
  view = new DataView(grown.buffer);
  return (scratch = grown);
}

function write(value: unknown): void {
  if (typeof value === "number") {
    writeNumber(value);
  } else if (typeof value === "string") {
    writeString(3, utf8(value));
  } else if (value instanceof Uint8Array) {
    writeString(2, value);
  } else if (Array.isArray(value)) {
    writeHead(4, value.length);
    for (const item of value) write(item);
  } else {
    const simple = SIMPLE_VALUES.indexOf(value);
    if (simple < 0) throw new WireError("no CBOR for this value");
    reserve(1)[length++] = 0xe0 | (FIRST_SIMPLE + simple);
  }
}

function writeNumber(value: number): void {
  // The shifts tell whether the number has 32 bits; -0 is no integer here.
  if (value >>> 0 === value && !Object.is(value, -0)) writeHead(0, value);
  else if (value < 0 && ~value >>> 0 === -1 - value) writeHead(1, -1 - value);
  else {
    reserve(9)[length] = FLOAT64;
    view.setFloat64(length + 1, value);
    length += 9;
  }
}

/** `argument` is below 2^32. */
function writeHead(major: Major, argument: number): void {
  const bytes = reserve(5);
  const initial = major << 5;
  if (argument < 24) {
    bytes[length++] = initial | argument;
  } else if (argument < 0x100) {
    bytes[length++] = initial | 24;
    bytes[length++] = argument;
  } else if (argument < 0x1_0000) {
    bytes[length] = initial | 25;
    view.setUint16(length + 1, argument);
    length += 3;
  } else {
    bytes[length] = initial | 26;
    view.setUint32(length + 1, argument);
    length += 5;
  }
}

function writeString(major: 2 | 3, content: Bytes): void {
  writeHead(major, content.length);
  reserve(content.length).set(content, length);
  length += content.length;
}

/** The value of exactly these bytes; throws `WireError` on anything outside the subset. */
export function decodeCbor(input: Bytes): unknown {
  // Not Node's Buffer: its `subarray` makes Buffers, whose `slice` does not copy.
  const bytes =
    input.constructor === Uint8Array
      ? input
      : new Uint8Array(input.buffer, input.byteOffset, input.length);
  const reader = new Reader(bytes);
  const value = reader.item(0);
  if (reader.position !== bytes.length) throw new WireError("malformed CBOR");
  return value;
}

/** A leading byte order mark is part of the text. */
const decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });

class Reader {
  position = 0;
  readonly #bytes: Bytes;
  readonly #view: DataView;

  constructor(bytes: Bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  item(depth: number): unknown {
    const initial = this.#view.getUint8(this.#past(1));
    const info = initial & 31;
    switch (initial >> 5) {
      case 0:
        return this.#argument(info);
      case 1:
        return -1 - this.#argument(info);
      case 2:
        return this.#string(info);
      case 3:
        return decoder.decode(this.#string(info));
      case 4:
        return this.#array(info, depth);
      case 7:
        if (initial === FLOAT64) return this.#view.getFloat64(this.#past(8));
        if (info >= FIRST_SIMPLE && info < FIRST_SIMPLE + SIMPLE_VALUES.length) {
          return SIMPLE_VALUES[info - FIRST_SIMPLE];
        }
    }
    throw new WireError(`CBOR's ${initial} is not part of the protocol`);
  }

  /** Goes past `count` bytes, and returns where they start. */
  #past(count: number): number {
    const start = this.position;
    if (count > this.#bytes.length - start) throw new WireError("malformed CBOR");
    this.position = start + count;
    return start;
  }

  /** A length, or an integer; past 2^53 it is not exact, which `integerOf` refuses. */
  #argument(info: number): number {
    if (info < 24) return info;
    if (info > 27) throw new WireError("malformed CBOR");
    const start = this.#past(1 << (info - 24));
    if (info === 24) return this.#view.getUint8(start);
    if (info === 25) return this.#view.getUint16(start);
    if (info === 26) return this.#view.getUint32(start);
    return Number(this.#view.getBigUint64(start));
  }

  #string(info: number): Bytes {
    const start = this.#past(this.#argument(info));
    return this.#bytes.subarray(start, this.position);
  }

  #array(info: number, depth: number): unknown[] {
    const count = this.#argument(info);
    // Each item has a byte at least, so a length beyond the input makes nothing of its size.
    if (count > this.#bytes.length - this.position) throw new WireError("malformed CBOR");
    if (count > 0 && depth >= LIMITS.frameDepthMax) {
      throw new WireError("CBOR nests too deeply");
    }
    const items: unknown[] = [];
    while (items.length < count) items.push(this.item(depth + 1));
    return items;
  }
}
