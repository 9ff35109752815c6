/**
 * Reads what `ByteWriter` wrote. Input comes from disks and networks: every read is checked against the end, and a
 * fault is thrown as `MalformedError`, never as an assertion. Byte strings are views of the source, not copies.
 */
import type { Bytes } from "./bytes.ts";

/** Input that is no valid encoding. */
export class MalformedError extends Error {
  override readonly name = "MalformedError";
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class ByteReader {
  readonly #source: Bytes;
  #offset: number;
  readonly #end: number;

  /** Reads `source[start, end)`. */
  constructor(source: Bytes, start = 0, end = source.length) {
    this.#source = source;
    this.#offset = start;
    this.#end = end;
  }

  get offset(): number {
    return this.#offset;
  }

  get atEnd(): boolean {
    return this.#offset >= this.#end;
  }

  byte(): number {
    this.#need(1);
    return this.#source[this.#offset++] as number;
  }

  /** A safe integer >= 0 in base 128. */
  varint(): number {
    let value = this.byte();
    if (value < 0x80) return value;
    value &= 0x7f;
    let scale = 128;
    for (let count = 1; count < 8; count += 1) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
      scale *= 128;
    }
    throw new MalformedError(`a number ends past 53 bits at ${this.#offset}`);
  }

  signedVarint(): number {
    const first = this.byte();
    const rest = first < 0x80 ? 0 : this.varint();
    const magnitude = rest * 64 + (first & 0x3f);
    if (!Number.isSafeInteger(magnitude)) {
      throw new MalformedError(`a number ends past 53 bits at ${this.#offset}`);
    }
    return (first & 0x40) === 0 || magnitude === 0 ? magnitude : -magnitude;
  }

  /** 8 bytes, big-endian, as a signed number. */
  int64(): bigint {
    return BigInt.asIntN(64, this.uint64());
  }

  /** 8 bytes, big-endian, as an unsigned number. */
  uint64(): bigint {
    const high = this.#uint32();
    return (BigInt(high) << 32n) | BigInt(this.#uint32());
  }

  /** 8 bytes, big-endian, as a safe integer >= 0. */
  fixedCount(): number {
    const value = this.#uint32() * 0x1_0000_0000 + this.#uint32();
    if (!Number.isSafeInteger(value)) {
      throw new MalformedError(`a number ends past 53 bits at ${this.#offset}`);
    }
    return value;
  }

  /** The next `length` bytes, as a view. */
  raw(length: number): Bytes {
    this.#need(length);
    const start = this.#offset;
    this.#offset += length;
    return this.#source.subarray(start, this.#offset);
  }

  skip(length: number): void {
    this.#need(length);
    this.#offset += length;
  }

  /** Bytes behind their length, as a view. */
  bytes(): Bytes {
    return this.raw(this.varint());
  }

  text(): string {
    const bytes = this.bytes();
    try {
      return decoder.decode(bytes);
    } catch (cause) {
      throw new MalformedError(`text that is no UTF-8 before ${this.#offset}`, { cause });
    }
  }

  #uint32(): number {
    this.#need(4);
    const source = this.#source;
    const start = this.#offset;
    this.#offset += 4;
    return (
      (source[start] as number) * 0x100_0000 +
      (((source[start + 1] as number) << 16) |
        ((source[start + 2] as number) << 8) |
        (source[start + 3] as number))
    );
  }

  #need(count: number): void {
    if (this.#offset + count > this.#end) {
      throw new MalformedError(`${count} bytes needed at ${this.#offset}, end at ${this.#end}`);
    }
  }
}
