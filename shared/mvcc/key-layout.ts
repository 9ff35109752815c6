/**
 * The rows of the multi-version store: this file owns the bytes of the tables `key`, `revision` and mvcc's part of
 * `meta`.
 *
 * Every change of a key is one row in `key`, found by key, and one in `revision`, found by time. Rows are never
 * changed, only added, and removed by compaction; so a revision is a stable view. A change is named by its revision
 * `main` and its place `sub` (0, 1, ...) among the changes of that revision.
 *
 *     key       escaped key | 2^53-1 - main, 8 bytes | (2^31-1 - sub) * 2 + tombstone, 4 bytes   ->  key-value
 *     revision  main, 8 bytes | sub * 2 + tombstone, 4 bytes                                     ->  key
 *     meta      "mvcc/compactRevision"                                                           ->  revision, 8 bytes
 *               "mvcc/compaction": the removal that is owed                                  ->  backend-compaction.ts
 *               "mvcc/keys": how many keys exist, for metrics                                ->  count, 8 bytes
 *
 *     key-value, of a put   flags (1: has a lease) | varint version | varint (main - create revision)
 *                           | lease, 8 bytes, if it has one | value to the end
 *     key-value, of a tombstone   nothing
 *
 * Numbers are big-endian, varints little-endian base 128. Revisions count down in `key`: the first row at or behind
 * (key, R) is the newest at R, one step of a scan. The tombstone stands in the row's key, so that counting reads no
 * values. A zero byte of a key is escaped as 00 ff; the first byte of `2^53-1 - main` is always 00, and the second at
 * most 1f, so it ends the escaped key: rows sort by key first, and a key's rows lie between those of its prefixes and
 * its extensions.
 *
 * An example, with revisions written as they count and `x` for a tombstone. Empty stores are at revision 1.
 *
 *     put a=1        key: (a 2.0)                          revision: 2.0 a
 *     put a=2        key: (a 3.0) (a 2.0)                  revision: 2.0 a, 3.0 a
 *     delete a       key: (a 4.0x) (a 3.0) (a 2.0)         revision: 2.0 a, 3.0 a, 4.0x a
 *     put a=3, b=4   key: (a 5.0) (a 4.0x) .. (b 5.1)      revision: .., 5.0 a, 5.1 b
 *     compact 3      key: (a 5.0) (a 4.0x) (a 3.0) (b 5.1) what is newest at 3 stays: reads at 3 need it
 *     compact 4      key: (a 5.0) (a 4.0x) (b 5.1)         a tombstone at just 4 stays: watches from 4 need it
 *     compact 5      key: (a 5.0) (b 5.1)                  an older one says nothing that absence doesn't
 *
 * The newest revision needs no row of its own: compaction always leaves its last change, so it is that of the last
 * row of `revision`, or the compacted one.
 */
import { assert } from "../base/assert.ts";
import { type Bytes, EMPTY, utf8 } from "../base/bytes.ts";
import type { Slab } from "../base/slab.ts";
import type { BackendReader } from "../backend/backend.ts";
import type { KeyValue } from "./types.ts";

/** Bytes behind the escaped key in a row of `key`, and all bytes of a row's key in `revision`. */
const SUFFIX_BYTES = 12;
/** Changes of one revision, at most. */
export const SUB_MAX = 0x7fff_ffff;

export const COMPACT_REVISION_ROW: Bytes = utf8("mvcc/compactRevision");
export const COMPACTION_ROW: Bytes = utf8("mvcc/compaction");
export const KEYS_ALIVE_ROW: Bytes = utf8("mvcc/keys");

const FLAG_LEASE = 1;
/** Below it a loop is faster than calls into the runtime. */
const SHORT_KEY_BYTES = 100;

/** Where one change stands in the order of all. */
export interface ChangeId {
  readonly main: number;
  readonly sub: number;
  readonly tombstone: boolean;
}

/** Memory for a row's key: cut off the slab of those that are given up together with it, if there is one. */
function newRow(length: number, slab: Slab | undefined): Bytes {
  return slab === undefined ? new Uint8Array(length) : slab.take(length);
}

/**
 * The key as it begins its rows, with `extra` zero bytes behind it. Alone it bounds ranges: all rows of keys >=
 * `key`.
 */
export function escapeKey(key: Bytes, extra = 0, slab?: Slab): Bytes {
  const { length } = key;
  const plain = newRow(length + extra, slab);
  if (length <= SHORT_KEY_BYTES) {
    let offset = 0;
    for (; offset < length && key[offset] !== 0; offset += 1) plain[offset] = key[offset] as number;
    if (offset === length) return plain;
  } else if (!key.includes(0)) {
    plain.set(key);
    return plain;
  }
  let zeros = 0;
  for (const byte of key) if (byte === 0) zeros += 1;
  const escaped = newRow(key.length + zeros + extra, slab);
  let offset = 0;
  for (const byte of key) {
    escaped[offset] = byte;
    offset += 1;
    if (byte !== 0) continue;
    escaped[offset] = 0xff;
    offset += 1;
  }
  return escaped;
}

/** The key of a row of `key`. */
export function keyOfRow(row: Bytes): Bytes {
  const escaped = row.subarray(0, row.length - SUFFIX_BYTES);
  if (!escaped.includes(0)) return escaped;
  const key = new Uint8Array(escaped.length);
  let length = 0;
  for (let offset = 0; offset < escaped.length; offset += 1) {
    const byte = escaped[offset] as number;
    key[length] = byte;
    length += 1;
    if (byte !== 0) continue;
    offset += 1;
    assert(escaped[offset] === 0xff, "a zero byte of a key is escaped");
  }
  return key.subarray(0, length);
}

function writeUint32(target: Bytes, offset: number, value: number): void {
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
}

function readUint32(source: Bytes, offset: number): number {
  return (
    (((source[offset] as number) << 24) |
      ((source[offset + 1] as number) << 16) |
      ((source[offset + 2] as number) << 8) |
      (source[offset + 3] as number)) >>>
    0
  );
}

function writeMain(target: Bytes, offset: number, main: number): void {
  const high = Math.floor(main / 0x1_0000_0000);
  writeUint32(target, offset, high);
  writeUint32(target, offset + 4, main - high * 0x1_0000_0000);
}

function readMain(source: Bytes, offset: number): number {
  return readUint32(source, offset) * 0x1_0000_0000 + readUint32(source, offset + 4);
}

function assertChange(main: number, sub: number): void {
  assert(Number.isSafeInteger(main) && main >= 0, `revision ${main}`);
  assert(Number.isInteger(sub) && sub >= 0 && sub <= SUB_MAX, `change ${sub} of a revision`);
}

/** The row of a change in `key`. */
export function keyRow(key: Bytes, { main, sub, tombstone }: ChangeId, slab?: Slab): Bytes {
  assertChange(main, sub);
  const row = escapeKey(key, SUFFIX_BYTES, slab);
  const offset = row.length - SUFFIX_BYTES;
  writeMain(row, offset, Number.MAX_SAFE_INTEGER - main);
  writeUint32(row, offset + 8, (SUB_MAX - sub) * 2 + (tombstone ? 1 : 0));
  return row;
}

/** Sorts at or before every row of the key whose revision is at most `main`, and behind its newer rows. */
export function keyRowsAtMost(key: Bytes, main: number): Bytes {
  return keyRow(key, { main, sub: SUB_MAX, tombstone: false });
}

/** Sorts behind all rows of the key whose row is given, and before those of the next key. */
export function pastRowsOf(row: Bytes): Bytes {
  const length = row.length - SUFFIX_BYTES;
  const past = new Uint8Array(length + 2);
  past.set(row.subarray(0, length));
  past[length + 1] = 0xff;
  return past;
}

/** The rows `a` and `b` belong to the same key. Compares from the end, where neighbours differ. */
export function isSameKey(a: Bytes, b: Bytes): boolean {
  if (a.length !== b.length) return false;
  for (let offset = a.length - SUFFIX_BYTES - 1; offset >= 0; offset -= 1) {
    if (a[offset] !== b[offset]) return false;
  }
  return true;
}

export function mainOfKeyRow(row: Bytes): number {
  return Number.MAX_SAFE_INTEGER - readMain(row, row.length - SUFFIX_BYTES);
}

export function subOfKeyRow(row: Bytes): number {
  return SUB_MAX - (readUint32(row, row.length - 4) >>> 1);
}

export function isTombstoneRow(row: Bytes): boolean {
  return ((row[row.length - 1] as number) & 1) === 1;
}

/** The row of a change in `revision`. */
export function revisionRow({ main, sub, tombstone }: ChangeId, slab?: Slab): Bytes {
  assertChange(main, sub);
  const row = newRow(SUFFIX_BYTES, slab);
  writeMain(row, 0, main);
  writeUint32(row, 8, sub * 2 + (tombstone ? 1 : 0));
  return row;
}

export function changeOfRevisionRow(row: Bytes): ChangeId {
  assert(row.length === SUFFIX_BYTES, `a revision's row of ${row.length} bytes`);
  const low = readUint32(row, 8);
  return { main: readMain(row, 0), sub: low >>> 1, tombstone: (low & 1) === 1 };
}

function varintBytes(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length += 1;
  return length;
}

/** Returns the offset behind it. */
function writeVarint(target: Bytes, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  while (rest >= 128) {
    target[at] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
    at += 1;
  }
  target[at] = rest;
  return at + 1;
}

/** The value of a put's row in `key`. */
export function encodeValueRow(kv: KeyValue, slab: Slab): Bytes {
  const age = kv.modRevision - kv.createRevision;
  assert(age >= 0 && kv.version >= 1, "a key is created before it is modified, at version 1");
  const leaseBytes = kv.lease === 0n ? 0 : 8;
  const header = 1 + varintBytes(kv.version) + varintBytes(age) + leaseBytes;
  const row = slab.take(header + kv.value.length);
  row[0] = leaseBytes === 0 ? 0 : FLAG_LEASE;
  const offset = writeVarint(row, writeVarint(row, 1, kv.version), age);
  if (leaseBytes > 0) writeInt64(row, offset, kv.lease);
  row.set(kv.value, header);
  return row;
}

/** What `encodeValueRow` wrote, of the key and revision that the row in `key` names. */
export function decodeKeyValue(row: Bytes, value: Bytes): KeyValue {
  const flags = value[0];
  assert(flags === 0 || flags === FLAG_LEASE, `a row's format is unknown: flags ${flags}`);
  let offset = 1;
  let byte = value[offset] as number;
  let version = byte & 127;
  for (let unit = 128; byte >= 128; unit *= 128) {
    offset += 1;
    byte = value[offset] as number;
    version += (byte & 127) * unit;
  }
  offset += 1;
  byte = value[offset] as number;
  let age = byte & 127;
  for (let unit = 128; byte >= 128; unit *= 128) {
    offset += 1;
    byte = value[offset] as number;
    age += (byte & 127) * unit;
  }
  offset += 1;
  let lease = 0n;
  if (flags === FLAG_LEASE) {
    lease = readInt64(value, offset);
    offset += 8;
  }
  assert(offset <= value.length && version >= 1, "a row's value is whole");
  const modRevision = mainOfKeyRow(row);
  return {
    key: keyOfRow(row),
    value: value.subarray(offset),
    createRevision: modRevision - age,
    modRevision,
    version,
    lease,
  };
}

/** Writes a signed 64-bit number, big-endian. */
function writeInt64(target: Bytes, offset: number, value: bigint): void {
  const unsigned = BigInt.asUintN(64, value);
  writeUint32(target, offset, Number(unsigned >> 32n));
  writeUint32(target, offset + 4, Number(unsigned & 0xffff_ffffn));
}

function readInt64(source: Bytes, offset: number): bigint {
  const high = BigInt(readUint32(source, offset));
  return BigInt.asIntN(64, (high << 32n) | BigInt(readUint32(source, offset + 4)));
}

/** A row of `key` with its value. */
export interface FoundRow {
  readonly row: Bytes;
  readonly value: Bytes;
}

/** The newest row of `key` at `revision` (absent: of all), a tombstone's too; one step of a scan. */
export function findRow(
  reader: BackendReader,
  key: Bytes,
  revision?: number,
): FoundRow | undefined {
  // All rows of the key, and no others, lie between the escaped key with 00 and with 00 ff.
  const end = escapeKey(key, 2);
  end[end.length - 1] = 0xff;
  // Copied: for a view of a short array V8 moves its bytes out of the heap, which takes four times as long.
  const start =
    revision === undefined ? end.slice(0, end.length - 1) : keyRowsAtMost(key, revision);
  let found: FoundRow | undefined;
  reader.scan("key", { start, end, firstOnly: true }, (row, value) => {
    assert(row.length === end.length - 2 + SUFFIX_BYTES, "only the key's own rows lie in between");
    found = { row, value };
    return false;
  });
  return found;
}

/** The key's value at `revision` (absent: now), undefined when it doesn't exist then. */
export function findKeyValue(
  reader: BackendReader,
  key: Bytes,
  revision?: number,
): KeyValue | undefined {
  const found = findRow(reader, key, revision);
  if (found === undefined || isTombstoneRow(found.row)) return undefined;
  return decodeKeyValue(found.row, found.value);
}

/** The event's form of a deletion: key and revision only. */
export function tombstoneKeyValue(key: Bytes, modRevision: number): KeyValue {
  return { key, value: EMPTY, createRevision: 0, modRevision, version: 0, lease: 0n };
}
