/**
 * Builds one record of the log in a buffer that is used again and again. Items are appended as they
 * come; `seal` closes the record with its header and hands out its bytes, which stay valid until
 * `clear`.
 */
import { assert } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Entry, HardState } from "../../shared/raft/types.ts";
import type { LogPosition, SegmentStart } from "./layout.ts";
import {
  ITEM,
  RECORD_HEADER_BYTES,
  RECORD_MARKER,
  VOTE_BYTES_MAX,
  alignRecord,
  recordChecksum,
} from "./layout.ts";

const INITIAL_BYTES = 64 * 1024;
/** A buffer that one huge group has grown beyond this is not kept. */
const KEPT_BYTES = 4 * 1024 * 1024;
/** Room for a kind byte and the varints of any item. */
const ITEM_FIELDS_BYTES = 64;

export class RecordWriter {
  #bytes: Bytes = new Uint8Array(INITIAL_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #end = RECORD_HEADER_BYTES;

  /** Bytes of items so far. */
  get itemBytes(): number {
    return this.#end - RECORD_HEADER_BYTES;
  }

  clear(): void {
    if (this.#bytes.length > KEPT_BYTES) this.#replace(new Uint8Array(INITIAL_BYTES));
    this.#end = RECORD_HEADER_BYTES;
  }

  segment(start: SegmentStart): void {
    this.#reserve(0);
    this.#byte(ITEM.segment);
    this.#view.setBigUint64(this.#end, start.identity.clusterId, true);
    this.#view.setBigUint64(this.#end + 8, start.identity.memberId, true);
    this.#end += 16;
    this.#varint(start.sequence);
    this.#varint(start.base.index);
    this.#varint(start.base.term);
  }

  hardState(state: HardState): void {
    const vote = state.vote ?? "";
    assert(vote.length <= VOTE_BYTES_MAX, "a node id is an unsigned 64-bit number in decimal");
    this.#reserve(vote.length);
    this.#byte(ITEM.hardState);
    this.#varint(state.term);
    this.#varint(vote.length);
    for (let position = 0; position < vote.length; position += 1) {
      this.#byte(vote.charCodeAt(position));
    }
    this.#varint(state.commit);
  }

  entry(entry: Entry): void {
    const data = entry.data;
    this.#reserve(data.length);
    this.#byte(entry.kind === "normal" ? ITEM.normal : ITEM.membership);
    this.#varint(entry.term);
    this.#varint(entry.index);
    this.#varint(data.length);
    this.#bytes.set(data, this.#end);
    this.#end += data.length;
  }

  position(kind: "restart" | "compacted", position: LogPosition): void {
    this.#reserve(0);
    this.#byte(kind === "restart" ? ITEM.restart : ITEM.compacted);
    this.#varint(position.index);
    this.#varint(position.term);
  }

  /** The whole record, padded, and its checksum for the next one's chain. */
  seal(link: { salt: number; previous: number; ordinal: number }): { bytes: Bytes; crc: number } {
    assert(this.itemBytes > 0, "a record holds items");
    assert(Number.isSafeInteger(link.ordinal) && link.ordinal > 0, "ordinals count from 1");
    const end = this.#end;
    this.#view.setUint32(0, RECORD_MARKER, true);
    this.#view.setUint32(4, end - RECORD_HEADER_BYTES, true);
    this.#view.setUint32(12, link.previous, true);
    this.#view.setBigUint64(16, BigInt(link.ordinal), true);
    const crc = recordChecksum(this.#bytes, 0, end, link.salt);
    this.#view.setUint32(8, crc, true);
    const padded = alignRecord(end);
    assert(padded <= this.#bytes.length, "every item leaves room for the padding");
    this.#bytes.fill(0, end, padded);
    return { bytes: this.#bytes.subarray(0, padded), crc };
  }

  #byte(value: number): void {
    this.#bytes[this.#end] = value;
    this.#end += 1;
  }

  #varint(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, `no safe integer: ${value}`);
    let rest = value;
    while (rest > 0x7fff_ffff) {
      this.#byte((rest % 128) | 128);
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      this.#byte((rest & 127) | 128);
      rest >>>= 7;
    }
    this.#byte(rest);
  }

  /** Makes room for an item with so many bytes of data. */
  #reserve(dataBytes: number): void {
    const needed = this.#end + dataBytes + ITEM_FIELDS_BYTES;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#end));
    this.#replace(grown);
  }

  #replace(bytes: Uint8Array<ArrayBuffer>): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }
}
