/**
 * Decodes header blocks (RFC 7541). Every field of a block goes to a sink, also when the sink has
 * lost interest: the dynamic table must follow the client's. Blocks are complete and bounded by
 * the caller, so lengths need no bound of their own.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import { makeField, type HeaderField } from "./header-field.ts";
import { huffmanDecode, huffmanDecodedBytesMax } from "./huffman.ts";
import { DynamicTable, STATIC_COUNT, STATIC_FIELDS } from "./hpack-table.ts";

export interface FieldSink {
  add(field: HeaderField): void;
}

/**
 * Integers of a block are lengths, indexes and table sizes; none needs more than these
 * continuation octets.
 */
const INTEGER_OCTETS_MAX = 4;

/** Shared by all decoders: a decoded string is copied out of it at once. */
const scratch = Buffer.allocUnsafeSlow(huffmanDecodedBytesMax(LIMITS.http2HeaderBlockBytesMax));

export class HeaderDecoder {
  readonly table: DynamicTable;
  readonly #tableBytesMax: number;
  #source: Buffer = scratch;
  #at = 0;
  #end = 0;

  constructor(tableBytesMax: number = LIMITS.http2HeaderTableBytes) {
    this.#tableBytesMax = tableBytesMax;
    this.table = new DynamicTable(tableBytesMax);
  }

  /**
   * Decodes `source[start, end)`; false when the block is malformed, and the connection is lost
   * with it.
   */
  decode(source: Buffer, start: number, end: number, sink: FieldSink): boolean {
    this.#source = source;
    this.#at = start;
    this.#end = end;
    const done = this.#sizeUpdates() && this.#fields(sink);
    this.#source = scratch;
    return done;
  }

  /** Size updates come first in a block (section 4.2) and stay below what SETTINGS announced. */
  #sizeUpdates(): boolean {
    while (this.#at < this.#end && ((this.#source[this.#at] as number) & 0xe0) === 0x20) {
      const size = this.#integer(5);
      if (size < 0 || size > this.#tableBytesMax) return false;
      this.table.resize(size);
    }
    return true;
  }

  #fields(sink: FieldSink): boolean {
    while (this.#at < this.#end) {
      const first = this.#source[this.#at] as number;
      let field: HeaderField | undefined;
      if (first >= 0x80) {
        field = this.#indexed(this.#integer(7));
      } else if (first >= 0x40) {
        field = this.#literal(6);
        if (field !== undefined) this.table.insert(field);
      } else if (first < 0x20) {
        field = this.#literal(4);
      }
      if (field === undefined) return false;
      sink.add(field);
    }
    return true;
  }

  #indexed(index: number): HeaderField | undefined {
    if (index > STATIC_COUNT) return this.table.at(index - STATIC_COUNT - 1);
    return STATIC_FIELDS[index - 1];
  }

  #literal(prefixBits: number): HeaderField | undefined {
    const index = this.#integer(prefixBits);
    if (index < 0) return undefined;
    const name = index === 0 ? this.#string() : this.#indexed(index)?.name;
    if (name === undefined) return undefined;
    const value = this.#string();
    return value === undefined ? undefined : makeField(name, value);
  }

  /**
   * An integer with a prefix of `prefixBits` (section 5.1), or -1 when it is cut off or too large.
   */
  #integer(prefixBits: number): number {
    if (this.#at >= this.#end) return -1;
    const mask = (1 << prefixBits) - 1;
    let value = (this.#source[this.#at++] as number) & mask;
    if (value < mask) return value;
    for (let octets = 0; octets < INTEGER_OCTETS_MAX; octets += 1) {
      if (this.#at >= this.#end) return -1;
      const octet = this.#source[this.#at++] as number;
      value += (octet & 0x7f) << (7 * octets);
      if (octet < 0x80) return value;
    }
    return -1;
  }

  #string(): string | undefined {
    if (this.#at >= this.#end) return undefined;
    const huffman = (this.#source[this.#at] as number) >= 0x80;
    const length = this.#integer(7);
    if (length < 0 || length > this.#end - this.#at) return undefined;
    const start = this.#at;
    this.#at += length;
    if (!huffman) return this.#source.toString("latin1", start, this.#at);
    const decoded = huffmanDecode(this.#source, start, this.#at, scratch);
    return decoded < 0 ? undefined : scratch.toString("latin1", 0, decoded);
  }
}
