/**
 * The byte layout of the write-ahead log, format 1. With this page a second implementer can write a
 * reader.
 *
 * Files. The log's folder holds segments, `<sequence>-<first index>.wal` (each 16 lower-case
 * hexadecimal digits): sequence counts up by one without gaps from the oldest one kept; first index
 * is that of the entry that would have come next when the segment was begun. `spare.wal` is an old
 * segment kept for reuse; it has no meaning. Integers are little-endian.
 *
 * Segment. 16 bytes, then records, then anything (zeros, or rests of what the file held when it was
 * another segment):
 *
 *     0   8   magic "QUORWAL1" (the last digit is the format)
 *     8   4   salt: chance, drawn when the log was made, the same in all its segments
 *     12  4   CRC-32C of bytes [0, 12)
 *
 * Record. What one group commit wrote: one write and one flush. It starts at a multiple of 8.
 *
 *     0   4   marker "QREC"
 *     4   4   length of the items in bytes, > 0
 *     8   4   checksum: CRC-32C of bytes [12, 24 + length), begun with the salt as the checksum of what came before
 *     12  4   checksum of the preceding record of the log (also over segments; 0 in the log's very first record)
 *     16  8   ordinal: counts up by one a record, over all segments; the log's very first record is 1
 *     24  n   items
 *             zeros up to the next multiple of 8 (not checked)
 *
 * Items. A kind byte, then fields; "varint" is LEB128 of a safe integer.
 *
 *     1 segment      cluster id (8 bytes), member id (8 bytes), sequence, base index, base term
 *                    (varints). First item of the first record of each segment, and only there.
 *                    Entries continue behind the base index. It counts only for the oldest segment
 *                    kept: there the log starts behind the base.
 *     2 hard state   term (varint), vote (varint length, 0 for none, and as many ASCII digits), commit (varint)
 *     3 entry        term, index, length (varints), data; of kind "normal"
 *     4 entry        the same, of kind "membership"
 *     5 restart      index, term (varints): a snapshot was installed; the log starts anew behind it
 *     6 compacted    index, term (varints): entries up to it are no longer needed
 *
 * An entry whose index is not above the last one replaces that entry and all behind it. The last
 * hard state counts; the first record of a segment repeats the one in force, so older segments can
 * go. If an entry at or below the base of the segment that the log began with comes up, that
 * segment is the leftover of an interrupted removal, and the log begins with the next one.
 *
 * Reading. The next record must stand right behind the last one, or be the first of the next
 * segment; its ordinal and its preceding checksum must fit. A record is written only after the one
 * before is durable. So where no fitting record stands:
 * - if a record with a higher ordinal exists anywhere behind (every record can be checked alone),
 *   the missing one had been durable: the log is damaged, and the peer must not start;
 * - otherwise the log ends here. What is left of a torn record was never acknowledged and is cut.
 * Rot of the very last record can't be told from a torn write; the marks that others know (hard
 * state's commit, the backend's applied index) must then be reached by the entries left, else the
 * peer must not start either.
 */
import { assert } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { crc32c } from "../../shared/base/crc32c.ts";
import type { Entry, HardState } from "../../shared/raft/types.ts";

export const WAL_FORMAT = "1";
export const SEGMENT_MAGIC = new TextEncoder().encode(`QUORWAL${WAL_FORMAT}`);
export const SEGMENT_HEADER_BYTES = 16;
export const RECORD_HEADER_BYTES = 24;
export const RECORD_ALIGNMENT = 8;
export const RECORD_MARKER = 0x43455251;
/** Of a node id: an unsigned 64-bit number in decimal. */
export const VOTE_BYTES_MAX = 20;
export const SPARE_NAME = "spare.wal";

export const ITEM = {
  segment: 1,
  hardState: 2,
  normal: 3,
  membership: 4,
  restart: 5,
  compacted: 6,
} as const;

/** Who the log belongs to. Ids are unsigned 64-bit numbers. */
export interface LogIdentity {
  readonly clusterId: bigint;
  readonly memberId: bigint;
}

/** A place in the log and the term of its entry. */
export interface LogPosition {
  readonly index: number;
  readonly term: number;
}

export interface SegmentStart {
  readonly identity: LogIdentity;
  readonly sequence: number;
  readonly base: LogPosition;
}

export type Item =
  | { readonly kind: "segment"; readonly start: SegmentStart }
  | { readonly kind: "hardState"; readonly hardState: HardState }
  | { readonly kind: "entry"; readonly entry: Entry }
  | { readonly kind: "restart" | "compacted"; readonly position: LogPosition };

export function segmentName(sequence: number, firstIndex: number): string {
  const digits = (value: number): string => value.toString(16).padStart(16, "0");
  return `${digits(sequence)}-${digits(firstIndex)}.wal`;
}

/** The sequence of a segment's name; `undefined` for other files. */
export function sequenceOfName(name: string): number | undefined {
  const match = /^([0-9a-f]{16})-[0-9a-f]{16}\.wal$/.exec(name);
  return match === null ? undefined : Number.parseInt(match[1] as string, 16);
}

export function encodeSegmentHeader(salt: number): Bytes {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  bytes.set(SEGMENT_MAGIC);
  const view = new DataView(bytes.buffer);
  view.setUint32(8, salt, true);
  view.setUint32(12, crc32c(bytes, { end: 12 }), true);
  return bytes;
}

/** The salt and the format; `undefined` when these are not a segment's first bytes. */
export function decodeSegmentHeader(bytes: Bytes): { salt: number; format: string } | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(12, true) !== crc32c(bytes, { end: 12 })) return undefined;
  const name = SEGMENT_MAGIC.subarray(0, -1);
  if (name.some((byte, position) => bytes[position] !== byte)) return undefined;
  const format = String.fromCharCode(bytes[SEGMENT_MAGIC.length - 1] as number);
  return { salt: view.getUint32(8, true), format };
}

/** The place where a record may follow one that ends at `end`. */
export function alignRecord(end: number): number {
  return Math.ceil(end / RECORD_ALIGNMENT) * RECORD_ALIGNMENT;
}

export function recordChecksum(bytes: Bytes, start: number, end: number, salt: number): number {
  assert(end - start > RECORD_HEADER_BYTES, "a record holds items");
  return crc32c(bytes, { previous: salt, start: start + 12, end });
}
