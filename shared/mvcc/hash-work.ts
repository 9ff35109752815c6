/**
 * HashKV as etcd 3.7 computes it (server/storage/mvcc/hash.go): CRC-32C over "key", the name of its bucket, then over
 * key and value (key-value-proto.ts) of every change up to the revision, in the order of time. Of the changes up to
 * the compacted revision only those count that a compaction at the hash's revision would keep - the values of keys
 * that exist then - and no tombstone; so neither unfinished removals nor the compaction's date show in the hash.
 *
 * One oddity is etcd's: when no key exists at the revision, that rule is off, and all rows that the last compaction
 * kept count (except tombstones at just the compacted revision). Rows that it has yet to remove are left out here, as
 * if it were done.
 */
import { assert } from "../base/assert.ts";
import { type Bytes, utf8 } from "../base/bytes.ts";
import { crc32c } from "../base/crc32c.ts";
import type { BackendReader } from "../backend/backend.ts";
import {
  type ChangeId,
  type FoundRow,
  changeOfRevisionRow,
  decodeKeyValue,
  findRow,
  isTombstoneRow,
  keyRow,
  mainOfKeyRow,
  revisionRow,
  subOfKeyRow,
} from "./key-layout.ts";
import { encodeBucketKey, encodeKeyValueProto, encodeTombstoneProto } from "./key-value-proto.ts";
import { KeyWalk } from "./key-walk.ts";
import type { HashResult, StepBudget } from "./store.ts";
import { OPEN_END } from "./types.ts";

const BUCKET_NAME = utf8("key");

export class HashWork {
  readonly #reader: BackendReader;
  readonly #revision: number;
  readonly #compactRevision: number;
  /** Looks for a key that exists at the revision; undefined once that is known. */
  #search: KeyWalk | undefined;
  /** Of the changes up to the compacted revision, those count that are newest at this one. */
  #keepRevision: number;
  #next: Bytes = revisionRow({ main: 0, sub: 0, tombstone: false });
  #crc = crc32c(BUCKET_NAME);
  #complete = false;

  constructor(reader: BackendReader, revision: number, compactRevision: number) {
    this.#reader = reader;
    this.#revision = revision;
    this.#compactRevision = compactRevision;
    this.#keepRevision = compactRevision;
    this.#search = new KeyWalk(reader, { key: OPEN_END, rangeEnd: OPEN_END, revision }, false);
  }

  advance(budget: StepBudget): boolean {
    if (this.#search !== undefined && !this.#searchKey(this.#search, budget)) return false;
    let { rows, bytes } = budget;
    let paused = false;
    const end = revisionRow({ main: this.#revision + 1, sub: 0, tombstone: false });
    this.#reader.scan("revision", { start: this.#next, end }, (row, key) => {
      if (rows <= 0 || bytes <= 0) {
        this.#next = row;
        paused = true;
        return false;
      }
      rows -= 1;
      bytes -= this.#add(changeOfRevisionRow(row), key);
      return true;
    });
    this.#complete = !paused;
    return this.#complete;
  }

  result(): HashResult {
    assert(this.#complete, "a hash is complete before its result is taken");
    return {
      hash: this.#crc,
      hashRevision: this.#revision,
      compactRevision: this.#compactRevision,
    };
  }

  /** One step; true when it is known whether a key exists. */
  #searchKey(search: KeyWalk, budget: StepBudget): boolean {
    let found = false;
    const rows = Math.min(budget.rows, 64);
    const ended = search.advance({ rows, bytes: budget.bytes }, () => {
      found = true;
    });
    if (found) this.#keepRevision = this.#revision;
    if (found || ended) this.#search = undefined;
    return found || ended;
  }

  /** Adds the change if it counts; returns the bytes that were read. */
  #add(change: ChangeId, key: Bytes): number {
    const { main, sub, tombstone } = change;
    let found: FoundRow | undefined;
    if (main <= this.#compactRevision) {
      if (tombstone) return key.length;
      found = findRow(this.#reader, key, this.#keepRevision);
      if (found === undefined || isTombstoneRow(found.row)) return key.length;
      if (mainOfKeyRow(found.row) !== main || subOfKeyRow(found.row) !== sub) return key.length;
    }
    const value = this.#encode(change, key, found);
    this.#crc = crc32c(encodeBucketKey(change), { previous: this.#crc });
    this.#crc = crc32c(value, { previous: this.#crc });
    return key.length + value.length;
  }

  #encode(change: ChangeId, key: Bytes, found: FoundRow | undefined): Bytes {
    if (change.tombstone) return encodeTombstoneProto(key);
    const row = found?.row ?? keyRow(key, change);
    const value = found?.value ?? this.#reader.get("key", row);
    assert(value !== undefined, "a change has a row by key and one by time");
    return encodeKeyValueProto(decodeKeyValue(row, value));
  }
}
