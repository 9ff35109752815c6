/**
 * The few pieces of protobuf's wire format (protobuf.dev, "Encoding") that hand-written encoders of
 * hot replies need. An encoder first adds up sizes, then writes into an array of exactly that size;
 * the order is that of field numbers and zero values are left out, so that the bytes are those that
 * protobuf-es writes.
 */
import type { Bytes } from "../base/bytes.ts";

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

/** Writes into an array that the caller has sized; `position` is where the next byte goes. */
export class WireWriter {
  readonly bytes: Bytes;
  position = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
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
