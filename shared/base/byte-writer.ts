/**
 * A growing buffer with the few number layouts that this project's codecs share: base-128 numbers (seven bits a
 * byte, least first, as protobuf and many log formats have them), fixed 8-byte numbers, and byte strings behind
 * their length. One writer serves many messages: `finish` hands out a copy of exactly the right size and starts anew.
 */
import { assert } from "./assert.ts";
import type { Bytes } from "./bytes.ts";
import { utf8 } from "./bytes.ts";
import { CUT_BYTES_MAX, Slab } from "./slab.ts";

const FIRST_CAPACITY = 1024;
/** A buffer that one huge message has blown up is not kept for the small ones that follow. */
const KEPT_CAPACITY = 1024 * 1024;

export class ByteWriter {
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_CAPACITY);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;
  readonly #slab = new Slab();

  get length(): number {
    return this.#length;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  /** A safe integer >= 0 in base 128. */
  varint(value: number): void {
    this.#reserve(8);
    const buffer = this.#buffer;
    let rest = value;
    if (rest > 0x7fff_ffff) {
      assert(Number.isSafeInteger(rest), `no safe integer: ${value}`);
      while (rest > 0x7fff_ffff) {
        buffer[this.#length++] = (rest % 128) | 0x80;
        rest = Math.floor(rest / 128);
      }
    }
    assert(rest >= 0, `a negative number: ${value}`);
    while (rest > 0x7f) {
      buffer[this.#length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    buffer[this.#length++] = rest;
  }

  /** A safe integer of either sign: sign and six bits of the magnitude first, the rest in base 128. */
  signedVarint(value: number): void {
    assert(Number.isSafeInteger(value), `no safe integer: ${value}`);
    const magnitude = Math.abs(value);
    const first = (magnitude % 64) | (value < 0 ? 0x40 : 0);
    if (magnitude < 64) return this.byte(first);
    this.byte(first | 0x80);
    this.varint(Math.floor(magnitude / 64));
  }

  /** The 64 bits of a signed or unsigned number, big-endian. */
  fixed64(value: bigint): void {
    this.#reserve(8);
    this.#view.setBigUint64(this.#length, BigInt.asUintN(64, value));
    this.#length += 8;
  }

  /** A safe integer >= 0 in 8 bytes, big-endian: the same bytes as `fixed64`, without a bigint. */
  fixedCount(value: number): void {
    this.#reserve(8);
    this.#view.setUint32(this.#length, Math.floor(value / 0x1_0000_0000));
    this.#view.setUint32(this.#length + 4, value >>> 0);
    this.#length += 8;
  }

  /** Raw bytes. */
  raw(bytes: Bytes): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Bytes behind their length. */
  bytes(bytes: Bytes): void {
    this.varint(bytes.length);
    this.raw(bytes);
  }

  /** UTF-8 text behind its length in bytes. */
  text(text: string): void {
    this.bytes(utf8(text));
  }

  /**
   * As `finish`, but small messages share memory with their neighbours: an allocation of its own costs a short message
   * more than all else. For those that are let go in the order in which they were made, as log entries are.
   */
  finishShared(): Bytes {
    if (this.#length > CUT_BYTES_MAX) return this.finish();
    const shared = this.#slab.copyOf(this.#buffer.subarray(0, this.#length));
    this.#length = 0;
    return shared;
  }

  /** A copy of what was written; the writer starts anew. */
  finish(): Uint8Array<ArrayBuffer> {
    const whole = this.#buffer.slice(0, this.#length);
    this.#length = 0;
    if (this.#buffer.length > KEPT_CAPACITY) this.#resize(FIRST_CAPACITY);
    return whole;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#buffer.length) return;
    this.#resize(Math.max(needed, this.#buffer.length * 2));
  }

  #resize(capacity: number): void {
    const old = this.#buffer;
    this.#buffer = new Uint8Array(capacity);
    this.#view = new DataView(this.#buffer.buffer);
    this.#buffer.set(old.subarray(0, this.#length));
  }
}
