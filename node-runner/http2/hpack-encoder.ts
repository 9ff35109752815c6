/**
 * Encodes response headers (RFC 7541). Fields are prepared once: their octets are ready, and a
 * connection only chooses between an index and a literal. Fields that every gRPC reply repeats own
 * a slot and enter the client's dynamic table at their first use; nothing else ever does, so the
 * table cannot overflow and an index is plain arithmetic.
 */
import { assert } from "../../shared/base/assert.ts";
import { huffmanEncode, huffmanEncodedBytes } from "./huffman.ts";
import { STATIC_COUNT, STATIC_NAMES, STATIC_PAIRS } from "./hpack-table.ts";

export interface PreparedField {
  readonly name: string;
  readonly value: string;
  /** Index of the same name and value in the static table, or 0. */
  readonly staticIndex: number;
  /** A literal that leaves the dynamic table alone. */
  readonly literal: Uint8Array;
  /** The literal that enters the dynamic table, for fields with a slot. */
  readonly inserting: Uint8Array;
  /** Which of the fields that may enter the dynamic table this is, or -1. */
  readonly slot: number;
}

export type PreparedHeaders = readonly PreparedField[];

/** Slots' fields are far below the smallest table that counts: 4096 octets, the default. */
const SLOTS_MAX = 16;
const SLOT_FIELD_BYTES_MAX = 128;
const TABLE_BYTES_NEEDED = 4096;

let slots = 0;

/**
 * Prepares headers for repeated use; names are in lower case. `indexed` lets them enter clients'
 * dynamic tables.
 */
export function prepareHeaders(
  fields: readonly (readonly [name: string, value: string])[],
  options: { indexed?: boolean } = {},
): PreparedHeaders {
  return fields.map(([name, value]) => prepareField(name, value, options.indexed ?? false));
}

function prepareField(name: string, value: string, indexed: boolean): PreparedField {
  const staticIndex = STATIC_PAIRS.get(`${name}\0${value}`) ?? 0;
  const takesSlot = indexed && staticIndex === 0;
  if (takesSlot) {
    assert(slots < SLOTS_MAX, "few kinds of fields are indexed");
    assert(name.length + value.length + 32 <= SLOT_FIELD_BYTES_MAX, "indexed fields are short");
  }
  return {
    name,
    value,
    staticIndex,
    literal: encodeLiteral(name, value, 4, 0x00),
    inserting: takesSlot ? encodeLiteral(name, value, 6, 0x40) : new Uint8Array(0),
    slot: takesSlot ? slots++ : -1,
  };
}

function encodeLiteral(
  name: string,
  value: string,
  prefixBits: number,
  pattern: number,
): Uint8Array {
  const target = new Uint8Array(name.length + value.length + 16);
  const index = STATIC_NAMES.get(name) ?? 0;
  let at = writeInteger(target, 0, { value: index, prefixBits, pattern });
  if (index === 0) at = writeString(target, at, name);
  return target.slice(0, writeString(target, at, value));
}

function writeString(target: Uint8Array, offset: number, text: string): number {
  const packed = huffmanEncodedBytes(text);
  if (packed < text.length) {
    const at = writeInteger(target, offset, { value: packed, prefixBits: 7, pattern: 0x80 });
    return huffmanEncode(text, target, at);
  }
  let at = writeInteger(target, offset, { value: text.length, prefixBits: 7, pattern: 0 });
  for (let position = 0; position < text.length; position += 1) {
    target[at++] = text.charCodeAt(position);
  }
  return at;
}

/** Section 5.1. `pattern` holds the bits in front of the prefix. */
export function writeInteger(
  target: Uint8Array,
  offset: number,
  integer: { value: number; prefixBits: number; pattern: number },
): number {
  const mask = (1 << integer.prefixBits) - 1;
  let at = offset;
  if (integer.value < mask) {
    target[at++] = integer.pattern | integer.value;
    return at;
  }
  target[at++] = integer.pattern | mask;
  let rest = integer.value - mask;
  for (; rest >= 0x80; rest >>>= 7) target[at++] = (rest & 0x7f) | 0x80;
  target[at++] = rest;
  return at;
}

/** One connection's encoder. */
export class HeaderEncoder {
  /** Insertion numbers by slot, from 1; absent or 0: not inserted. */
  #inserted: number[] | undefined;
  #insertions = 0;
  #indexing = true;
  /** The client has shrunk its table: the next block says so first (section 4.2). */
  #announcesEmptyTable = false;

  /** SETTINGS_HEADER_TABLE_SIZE of the client. Below the default the table is given up for good. */
  setTableBytes(bytes: number): void {
    if (bytes >= TABLE_BYTES_NEEDED || !this.#indexing) return;
    this.#indexing = false;
    this.#announcesEmptyTable = true;
  }

  /** Octets that `encode` writes at most. */
  bytesMax(headers: PreparedHeaders): number {
    let bytes = 1;
    for (const field of headers) bytes += field.literal.length + 1;
    return bytes;
  }

  /**
   * Writes the block at `offset` and returns the offset behind it. Blocks must be sent in the
   * order of these calls.
   */
  encode(headers: PreparedHeaders, target: Uint8Array, offset: number): number {
    let at = offset;
    if (this.#announcesEmptyTable) {
      target[at++] = 0x20;
      this.#announcesEmptyTable = false;
    }
    for (const field of headers) {
      if (field.staticIndex !== 0) target[at++] = 0x80 | field.staticIndex;
      else if (field.slot >= 0 && this.#indexing) at = this.#indexed(field, target, at);
      else {
        target.set(field.literal, at);
        at += field.literal.length;
      }
    }
    return at;
  }

  #indexed(field: PreparedField, target: Uint8Array, offset: number): number {
    this.#inserted ??= [];
    const inserted = this.#inserted[field.slot] ?? 0;
    if (inserted !== 0) {
      target[offset] = 0x80 | (STATIC_COUNT + 1 + this.#insertions - inserted);
      return offset + 1;
    }
    this.#insertions += 1;
    this.#inserted[field.slot] = this.#insertions;
    target.set(field.inserting, offset);
    return offset + field.inserting.length;
  }
}
