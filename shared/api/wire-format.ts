/**
 * The few pieces of protobuf's wire format (protobuf.dev, "Encoding") that hand-written codecs of
 * hot messages need. An encoder first adds up sizes, then writes into an array of exactly that
 * size; the order is that of field numbers and zero values are left out, so that the bytes are
 * those that protobuf-es writes. A decoder reads what encoders usually write and leaves all else,
 * malformed input too, to protobuf-es.
 */
import { EMPTY, type Bytes } from "../base/bytes.ts";
import { Slab } from "../base/slab.ts";

/** Wire types, as they stand in a field's tag. */
export const VARINT = 0;
export const LENGTH_DELIMITED = 2;

const INT64_BYTES_MAX = 10;

/** Bytes of a safe integer >= 0 as a varint. */
export function sizeOfVarint(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

/** Bytes of a 64-bit number as a varint; negative ones take ten. */
export function sizeOfInt64(value: bigint): number {
  if (value < 0n) return INT64_BYTES_MAX;
  if (value <= 0x1f_ffff_ffff_ffffn) return sizeOfVarint(Number(value));
  let size = 0;
  for (let rest = value; rest > 0n; rest >>= 7n) size += 1;
  return size;
}

/** Bytes of a length-delimited field with a tag of one byte. */
export function sizeOfField(length: number): number {
  return 1 + sizeOfVarint(length) + length;
}

/** Replies leave about in the order in which they are written. */
const slab = new Slab();

/** Writes into an array that the caller has sized; `position` is where the next byte goes. */
export class WireWriter {
  readonly bytes: Bytes;
  position = 0;

  constructor(size: number) {
    this.bytes = slab.take(size);
  }

  varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.position] = (rest % 0x80) | 0x80;
      this.position += 1;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.position] = rest;
    this.position += 1;
  }

  int64(value: bigint): void {
    if (value >= 0n && value <= 0x1f_ffff_ffff_ffffn) return this.varint(Number(value));
    let rest = BigInt.asUintN(64, value);
    while (rest >= 0x80n) {
      this.bytes[this.position] = Number(rest & 0x7fn) | 0x80;
      this.position += 1;
      rest >>= 7n;
    }
    this.bytes[this.position] = Number(rest);
    this.position += 1;
  }

  /** The tag of a field below 16: one byte. */
  tag(field: number, wireType: typeof VARINT | typeof LENGTH_DELIMITED): void {
    this.bytes[this.position] = (field << 3) | wireType;
    this.position += 1;
  }

  /** A number field, left out when zero. */
  number(field: number, value: number): void {
    if (value === 0) return;
    this.tag(field, VARINT);
    this.varint(value);
  }

  bigint(field: number, value: bigint): void {
    if (value === 0n) return;
    this.tag(field, VARINT);
    this.int64(value);
  }

  /** A bytes field, left out when empty. */
  data(field: number, value: Bytes): void {
    if (value.length === 0) return;
    this.tag(field, LENGTH_DELIMITED);
    this.varint(value.length);
    this.raw(value);
  }

  /** The start of an embedded message of this length; its content follows. */
  message(field: number, length: number): void {
    this.tag(field, LENGTH_DELIMITED);
    this.varint(length);
  }

  raw(value: Bytes): void {
    this.bytes.set(value, this.position);
    this.position += value.length;
  }
}

/**
 * Reads fields while they look as encoders write them. After the first that doesn't, nothing it
 * returned counts: `hasField` is false and `isUsual` too.
 */
export class WireReader {
  readonly #bytes: Bytes;
  #position = 0;
  #isUsual = true;

  constructor(bytes: Bytes) {
    this.#bytes = bytes;
  }

  get isUsual(): boolean {
    return this.#isUsual;
  }

  get hasField(): boolean {
    return this.#isUsual && this.#position < this.#bytes.length;
  }

  /** A field's tag, or the value of a flag or an enum: one byte below 128. */
  small(): number {
    const byte = this.#byte();
    if (byte >= 0x80) this.#isUsual = false;
    return byte;
  }

  flag(): boolean {
    return this.small() !== 0;
  }

  /** A view, plain even when the source is a Node `Buffer`. */
  data(): Bytes {
    const length = this.#length();
    const start = this.#position;
    if (length > this.#bytes.length - start) this.#isUsual = false;
    if (!this.#isUsual) return EMPTY;
    this.#position += length;
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + start, length);
  }

  int64(): bigint {
    let low = 0;
    let middle = 0;
    let high = 0;
    for (let shift = 0; shift < 7 * INT64_BYTES_MAX; shift += 7) {
      const byte = this.#byte();
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift < 56) middle |= bits << (shift - 28);
      else high |= bits << (shift - 56);
      if (byte >= 0x80) continue;
      if (middle === 0 && high === 0) return BigInt(low);
      return BigInt.asIntN(64, BigInt(low) | (BigInt(middle) << 28n) | (BigInt(high) << 56n));
    }
    this.#isUsual = false;
    return 0n;
  }

  /** Of at most four bytes: no message is longer than that can say. */
  #length(): number {
    let length = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#byte();
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) return length;
    }
    this.#isUsual = false;
    return 0;
  }

  #byte(): number {
    if (this.#position >= this.#bytes.length) {
      this.#isUsual = false;
      return 0;
    }
    const byte = this.#bytes[this.#position] as number;
    this.#position += 1;
    return byte;
  }
}
