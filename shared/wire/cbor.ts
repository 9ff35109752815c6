/**
 * The subset of CBOR (RFC 8949) that links speak: definite arrays, integers, float64, byte and
 * text strings, booleans and null. Integers past 32 bits travel as float64, 64-bit ids as 8 bytes.
 * Tags, maps, indefinite lengths, deep nesting and lengths beyond the input are refused before
 * anything of their size is made. Decoded byte strings are views of the input.
 *
 * A general codec is many times this size, and browsers carry this file: their bundle has a limit.
 */
import { utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { LINK_LIMITS } from "../base/link-limits.ts";

/** Input that is not what the protocol says: the link is closed with this text, the process goes on. */
export class WireError extends Error {
  override readonly name = "WireError";
}

const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTE_STRING = 2;
const TEXT = 3;
const ARRAY = 4;
const SIMPLE = 7;
const FLOAT64 = 27;
/** The initial bytes of the simple values. */
const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;
const UNDEFINED = 0xf7;

/** A scratch buffer that has grown past this is not kept. */
const SCRATCH_BYTES_MAX = 1024 * 1024;
/** Texts up to here are tried as ASCII first: calling the platform's codec costs more. */
const SHORT_TEXT = 48;

/** The bytes of a value of the subset. The result is the caller's own. */
export function encodeCbor(value: unknown): Bytes {
  writer ??= new Writer();
  return writer.encode(value);
}

/** Made when it is first needed: importing this does nothing. */
let writer: Writer | undefined;

class Writer {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  encode(value: unknown): Bytes {
    this.#length = 0;
    this.#write(value);
    const encoded = this.#bytes.slice(0, this.#length);
    if (this.#bytes.length > SCRATCH_BYTES_MAX) this.#resize(4096);
    return encoded;
  }

  #write(value: unknown): void {
    if (typeof value === "number") this.#number(value);
    else if (typeof value === "string") this.#text(value);
    else if (value instanceof Uint8Array) this.#byteString(BYTE_STRING, value);
    else if (Array.isArray(value)) {
      this.#head(ARRAY, value.length);
      for (const item of value) this.#write(item);
    } else this.#simple(value);
  }

  #simple(value: unknown): void {
    this.#reserve(1);
    const byte =
      value === true ? TRUE : value === false ? FALSE : value === null ? NULL : UNDEFINED;
    if (byte === UNDEFINED && value !== undefined) {
      throw new WireError(`a ${typeof value} has no form in the protocol`);
    }
    this.#bytes[this.#length++] = byte;
  }

  #number(value: number): void {
    if (Number.isInteger(value) && !Object.is(value, -0)) {
      if (value >= 0 && value <= 0xffff_ffff) return this.#head(UNSIGNED, value);
      if (value < 0 && value >= -0x1_0000_0000) return this.#head(NEGATIVE, -1 - value);
    }
    this.#reserve(9);
    this.#bytes[this.#length] = (SIMPLE << 5) | FLOAT64;
    this.#view.setFloat64(this.#length + 1, value);
    this.#length += 9;
  }

  /** `argument` is below 2^32. */
  #head(major: number, argument: number): void {
    this.#reserve(5);
    const start = this.#length;
    const initial = major << 5;
    if (argument < 24) {
      this.#bytes[start] = initial | argument;
      this.#length = start + 1;
    } else if (argument < 0x100) {
      this.#bytes[start] = initial | 24;
      this.#bytes[start + 1] = argument;
      this.#length = start + 2;
    } else if (argument < 0x1_0000) {
      this.#bytes[start] = initial | 25;
      this.#view.setUint16(start + 1, argument);
      this.#length = start + 3;
    } else {
      this.#bytes[start] = initial | 26;
      this.#view.setUint32(start + 1, argument);
      this.#length = start + 5;
    }
  }

  #text(text: string): void {
    if (text.length > SHORT_TEXT || !this.#ascii(text)) this.#byteString(TEXT, utf8(text));
  }

  /** Writes a short text, unless it has a character outside ASCII: then nothing is written. */
  #ascii(text: string): boolean {
    const start = this.#length;
    this.#head(TEXT, text.length);
    this.#reserve(text.length);
    for (let position = 0; position < text.length; position += 1) {
      const code = text.charCodeAt(position);
      if (code >= 0x80) {
        this.#length = start;
        return false;
      }
      this.#bytes[this.#length++] = code;
    }
    return true;
  }

  #byteString(major: number, bytes: Bytes): void {
    this.#head(major, bytes.length);
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed > this.#bytes.length) this.#resize(Math.max(needed, this.#bytes.length * 2));
  }

  #resize(length: number): void {
    const grown = new Uint8Array(length);
    grown.set(this.#bytes.subarray(0, Math.min(length, this.#length)));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** The value of exactly these bytes; throws `WireError` on anything outside the subset. */
export function decodeCbor(bytes: Bytes): unknown {
  const reader = new Reader(bytes);
  const value = reader.item(0);
  if (!reader.atEnd) throw new WireError("bytes after the CBOR item");
  return value;
}

class Reader {
  readonly #bytes: Bytes;
  #view: DataView | undefined;
  #position = 0;

  constructor(bytes: Bytes) {
    // Not Node's Buffer: its `subarray` makes Buffers, whose `slice` does not copy.
    this.#bytes =
      bytes.constructor === Uint8Array
        ? bytes
        : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.#position === this.#bytes.length;
  }

  item(depth: number): unknown {
    const initial = this.#bytes[this.#position++];
    if (initial === undefined) throw new WireError("CBOR ends inside an item");
    const major = initial >> 5;
    const info = initial & 31;
    switch (major) {
      case UNSIGNED:
        return this.#argument(info);
      case NEGATIVE:
        return -1 - this.#argument(info);
      case BYTE_STRING:
        return this.#string(info);
      case TEXT:
        return textOfBytes(this.#string(info));
      case ARRAY:
        return this.#array(info, depth);
      case SIMPLE:
        return this.#simple(info);
      default:
        throw new WireError("CBOR maps and tags are not part of the protocol");
    }
  }

  #simple(info: number): unknown {
    switch (info) {
      case FALSE & 31:
        return false;
      case TRUE & 31:
        return true;
      case NULL & 31:
        return null;
      case UNDEFINED & 31:
        return undefined;
      case FLOAT64:
        return this.#take(8, (view, position) => view.getFloat64(position));
      default:
        throw new WireError(`CBOR simple value ${info} is not part of the protocol`);
    }
  }

  /** A length, or an integer; past 2^53 it is not exact, which `integerOf` refuses. */
  #argument(info: number): number {
    if (info < 24) return info;
    switch (info) {
      case 24:
        return this.#take(1, (view, position) => view.getUint8(position));
      case 25:
        return this.#take(2, (view, position) => view.getUint16(position));
      case 26:
        return this.#take(4, (view, position) => view.getUint32(position));
      case 27:
        return this.#take(8, (view, position) => Number(view.getBigUint64(position)));
      default:
        throw new WireError("CBOR of indefinite or reserved length");
    }
  }

  #take(width: number, read: (view: DataView, position: number) => number): number {
    const { buffer, byteOffset, length } = this.#bytes;
    const position = this.#position;
    if (position + width > length) throw new WireError("CBOR ends inside a length");
    this.#view ??= new DataView(buffer, byteOffset, length);
    this.#position = position + width;
    return read(this.#view, position);
  }

  #string(info: number): Bytes {
    const length = this.#argument(info);
    const start = this.#position;
    if (length > this.#bytes.length - start) throw new WireError("CBOR string beyond the input");
    this.#position = start + length;
    return this.#bytes.subarray(start, start + length);
  }

  #array(info: number, depth: number): unknown[] {
    const length = this.#argument(info);
    // Each item has a byte at least, so a length beyond the input makes nothing of its size.
    if (length > this.#bytes.length - this.#position) {
      throw new WireError("CBOR array beyond the input");
    }
    if (length > 0 && depth >= LINK_LIMITS.frameDepthMax) {
      throw new WireError("CBOR nests too deeply");
    }
    const items: unknown[] = [];
    for (let count = 0; count < length; count += 1) items.push(this.item(depth + 1));
    return items;
  }
}

/** A leading byte order mark is part of the text. */
const decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });

function textOfBytes(bytes: Bytes): string {
  if (bytes.length <= SHORT_TEXT) {
    let text = "";
    for (const byte of bytes) {
      if (byte >= 0x80) break;
      text += String.fromCharCode(byte);
    }
    if (text.length === bytes.length) return text;
  }
  return decoder.decode(bytes);
}
