/**
 * One revision's writes over a backend: each put or delete is one row in `key` and one in `revision` (key-layout.ts),
 * and one read of what was there. Reads see the writes so far because the backend's do inside `apply`.
 */
import { assert } from "../base/assert.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Slab } from "../base/slab.ts";
import type { BackendReader, BatchWriter } from "../backend/backend.ts";
import {
  encodeValueRow,
  findKeyValue,
  findRow,
  isTombstoneRow,
  decodeKeyValue,
  keyRow,
  revisionRow,
  tombstoneKeyValue,
} from "./key-layout.ts";
import { EMPTY } from "../base/bytes.ts";
import { KeyWalk, UNBOUNDED } from "./key-walk.ts";
import type { WriteTransaction } from "./store.ts";
import type {
  Event,
  KeyValue,
  MvccRefusal,
  RangeQuery,
  RangeResult,
  RevisionEvents,
} from "./types.ts";

/** What the transaction needs of its store. */
export interface TransactionOwner {
  readonly reader: BackendReader;
  /** Memory for rows: those of one time are committed, and given up, together. */
  readonly slab: Slab;
  /** A range with `newest` as the store's revision. */
  rangeAt(query: RangeQuery, newest: number): RangeResult | MvccRefusal;
  /** Called once, at the end of a transaction; `created` minus `removed` keys came to life. */
  commit(events: RevisionEvents | undefined, keysAdded: number): void;
}

export class BackendTransaction implements WriteTransaction {
  readonly revision: number;
  readonly #owner: TransactionOwner;
  readonly #writer: BatchWriter;
  readonly #events: Event[] = [];
  #keysAdded = 0;
  #ended = false;

  constructor(owner: TransactionOwner, writer: BatchWriter, revision: number) {
    assert(Number.isSafeInteger(revision) && revision >= 2, `a first write is revision 2`);
    this.#owner = owner;
    this.#writer = writer;
    this.revision = revision;
  }

  get changed(): boolean {
    return this.#events.length > 0;
  }

  get(key: Bytes): KeyValue | undefined {
    return findKeyValue(this.#owner.reader, key);
  }

  range(query: RangeQuery): RangeResult | MvccRefusal {
    assert(!this.#ended, "an ended transaction is not read");
    return this.#owner.rangeAt(query, this.changed ? this.revision : this.revision - 1);
  }

  put(key: Bytes, value: Bytes, lease: bigint, previous?: KeyValue | "none"): KeyValue {
    assert(!this.#ended && key.length > 0, "a put names a key, within its transaction");
    const before = previous ?? this.get(key) ?? "none";
    const main = this.revision;
    const createRevision = before === "none" ? main : before.createRevision;
    const version = before === "none" ? 1 : before.version + 1;
    const kv = { key, value, createRevision, modRevision: main, version, lease };
    if (before === "none") this.#keysAdded += 1;
    this.#write("put", kv, encodeValueRow(kv, this.#owner.slab));
    return kv;
  }

  delete(key: Bytes): KeyValue | undefined {
    assert(!this.#ended, "a delete stands within its transaction");
    const found = findRow(this.#owner.reader, key);
    if (found === undefined || isTombstoneRow(found.row)) return undefined;
    this.#keysAdded -= 1;
    this.#write("delete", tombstoneKeyValue(key, this.revision), EMPTY);
    return decodeKeyValue(found.row, found.value);
  }

  deleteRange(key: Bytes, rangeEnd: Bytes, each: (kv: KeyValue) => void): void {
    assert(!this.#ended && rangeEnd.length > 0, "a range is deleted within its transaction");
    const options = { key, rangeEnd, revision: this.revision };
    const walk = new KeyWalk(this.#owner.reader, options, true);
    // Found first, written afterwards: a scan doesn't go on over rows that are added under it.
    const found: KeyValue[] = [];
    walk.advance(UNBOUNDED, (row, value) => found.push(decodeKeyValue(row, value)));
    for (const kv of found) {
      this.#keysAdded -= 1;
      this.#write("delete", tombstoneKeyValue(kv.key, this.revision), EMPTY);
      each(kv);
    }
  }

  end(): RevisionEvents | undefined {
    assert(!this.#ended, "a transaction ends once");
    this.#ended = true;
    const events = this.changed ? { revision: this.revision, events: this.#events } : undefined;
    this.#owner.commit(events, this.#keysAdded);
    return events;
  }

  #write(type: "put" | "delete", kv: KeyValue, value: Bytes): void {
    const change = { main: this.revision, sub: this.#events.length, tombstone: type === "delete" };
    const { slab } = this.#owner;
    this.#writer.put("key", keyRow(kv.key, change, slab), value);
    // A copy: the key may be a view of a large message, which the row would keep alive.
    this.#writer.put("revision", revisionRow(change, slab), slab.copyOf(kv.key));
    this.#events.push({ type, kv });
  }
}
