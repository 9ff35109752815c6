/** Finds, checks and decodes records in the bytes of a segment. Used at start only. */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Item } from "./layout.ts";
import {
  ITEM,
  RECORD_ALIGNMENT,
  RECORD_HEADER_BYTES,
  RECORD_MARKER,
  VOTE_BYTES_MAX,
  alignRecord,
  recordChecksum,
} from "./layout.ts";

const MARKER_BYTES = new Uint8Array(4);
new DataView(MARKER_BYTES.buffer).setUint32(0, RECORD_MARKER, true);

export interface RecordHead {
  readonly start: number;
  /** Where the items end; the next record follows at the next multiple of 8. */
  readonly end: number;
  readonly crc: number;
  readonly previous: number;
  readonly ordinal: number;
}

/** The record at `start`, if an intact one stands there. */
export function recordAt(bytes: Bytes, start: number, salt: number): RecordHead | undefined {
  if (start + RECORD_HEADER_BYTES >= bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(start, true) !== RECORD_MARKER) return undefined;
  const end = start + RECORD_HEADER_BYTES + view.getUint32(start + 4, true);
  if (end === start + RECORD_HEADER_BYTES || end > bytes.length) return undefined;
  const crc = view.getUint32(start + 8, true);
  if (recordChecksum(bytes, start, end, salt) !== crc) return undefined;
  const ordinal = Number(view.getBigUint64(start + 16, true));
  return { start, end, crc, previous: view.getUint32(start + 12, true), ordinal };
}

/**
 * The first place at or behind `from` where a record's marker stands; whether a record follows is
 * another matter.
 */
export function markerBehind(bytes: Bytes, from: number): number | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = buffer.indexOf(MARKER_BYTES, alignRecord(from));
  while (at % RECORD_ALIGNMENT > 0) at = buffer.indexOf(MARKER_BYTES, at + 1);
  return at < 0 ? undefined : at;
}

/** The first intact record at or behind `from` whose ordinal is above `ordinal`. */
export function recordBehind(
  bytes: Bytes,
  options: { from: number; salt: number; ordinal: number },
): RecordHead | undefined {
  let at = markerBehind(bytes, options.from);
  while (at !== undefined) {
    const record = recordAt(bytes, at, options.salt);
    if (record !== undefined && record.ordinal > options.ordinal) return record;
    at = markerBehind(bytes, at + RECORD_ALIGNMENT);
  }
  return undefined;
}

/** Items that an intact record can't hold: another program wrote it. */
export class UnknownItemError extends Error {
  override readonly name = "UnknownItemError";
}

/** Where an item's bytes stand in its segment: [start, end). */
export interface ItemPlace {
  readonly start: number;
  readonly end: number;
}

/**
 * Calls `visit` with each item of an intact record. Entries' data are copies. Throws
 * `UnknownItemError`.
 */
export function readItems(
  bytes: Bytes,
  record: RecordHead,
  visit: (item: Item, place: ItemPlace) => void,
): void {
  const cursor = new Cursor(bytes, record.start + RECORD_HEADER_BYTES, record.end);
  while (!cursor.done) {
    const start = cursor.position;
    const item = readItem(cursor);
    visit(item, { start, end: cursor.position });
  }
}

function readItem(cursor: Cursor): Item {
  const kind = cursor.byte();
  switch (kind) {
    case ITEM.segment: {
      const identity = { clusterId: cursor.uint64(), memberId: cursor.uint64() };
      const sequence = cursor.varint();
      return { kind: "segment", start: { identity, sequence, base: readPosition(cursor) } };
    }
    case ITEM.hardState: {
      const term = cursor.varint();
      const vote = readVote(cursor);
      const commit = cursor.varint();
      const hardState = { term, vote: vote === "" ? undefined : vote, commit };
      return { kind: "hardState", hardState };
    }
    case ITEM.normal:
    case ITEM.membership: {
      const term = cursor.varint();
      const index = cursor.varint();
      const data = cursor.take(cursor.varint());
      const entryKind = kind === ITEM.normal ? "normal" : "membership";
      return { kind: "entry", entry: { term, index, kind: entryKind, data } };
    }
    case ITEM.restart:
      return { kind: "restart", position: readPosition(cursor) };
    case ITEM.compacted:
      return { kind: "compacted", position: readPosition(cursor) };
    default:
      throw new UnknownItemError(`unknown item kind ${kind}`);
  }
}

/** Empty, or an unsigned 64-bit number in decimal. */
function readVote(cursor: Cursor): string {
  const length = cursor.varint();
  if (length > VOTE_BYTES_MAX) throw new UnknownItemError(`a vote of ${length} bytes`);
  const vote = String.fromCharCode(...cursor.take(length));
  if (!/^\d*$/.test(vote)) throw new UnknownItemError("a vote that is no number");
  return vote;
}

function readPosition(cursor: Cursor): { index: number; term: number } {
  const index = cursor.varint();
  return { index, term: cursor.varint() };
}

/**
 * Reads fields of a record; the checksum vouches for them, so a field past the end is a foreign
 * writer's.
 */
class Cursor {
  readonly #bytes: Bytes;
  readonly #end: number;
  #position: number;

  constructor(bytes: Bytes, start: number, end: number) {
    this.#bytes = bytes;
    this.#position = start;
    this.#end = end;
  }

  get done(): boolean {
    return this.#position === this.#end;
  }

  get position(): number {
    return this.#position;
  }

  byte(): number {
    if (this.#position >= this.#end) throw new UnknownItemError("an item is cut short");
    const byte = this.#bytes[this.#position] as number;
    this.#position += 1;
    return byte;
  }

  varint(): number {
    let value = 0;
    let weight = 1;
    for (;;) {
      const byte = this.byte();
      value += (byte & 127) * weight;
      if (!Number.isSafeInteger(value)) throw new UnknownItemError("a number is too large");
      if (byte < 128) return value;
      weight *= 128;
    }
  }

  uint64(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 64n; shift += 8n) value |= BigInt(this.byte()) << shift;
    return value;
  }

  take(length: number): Bytes {
    const from = this.#position;
    if (from + length > this.#end) throw new UnknownItemError("an item is cut short");
    this.#position += length;
    return this.#bytes.slice(from, from + length);
  }
}
