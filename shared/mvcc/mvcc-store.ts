/**
 * The multi-version store over a backend. Its whole state in memory is three numbers, the removal that compaction owes,
 * the counts behind recent pages, and the watchers: keys and values stay in the backend (key-layout.ts), so a start
 * costs a few reads, whatever the store holds.
 */
import { assert } from "../base/assert.ts";
import { type Bytes, readUint64, writeUint64 } from "../base/bytes.ts";
import { Slab } from "../base/slab.ts";
import type { Backend, BackendReader, BatchWriter } from "../backend/backend.ts";
import {
  BackendCompaction,
  oweCompaction,
  type OwedCompaction,
  readOwedCompaction,
  writeOwedCompaction,
} from "./backend-compaction.ts";
import { BackendTransaction, type TransactionOwner } from "./backend-transaction.ts";
import { HashWork } from "./hash-work.ts";
import {
  changeOfRevisionRow,
  COMPACT_REVISION_ROW,
  findKeyValue,
  KEYS_ALIVE_ROW,
} from "./key-layout.ts";
import { PageCounts } from "./page-counts.ts";
import { openCursor } from "./pinned-work.ts";
import { RangeWork, runRange } from "./range-work.ts";
import type { Compaction, Cursor, HashResult, MvccStore, WriteTransaction } from "./store.ts";
import { FIRST_KEY, OPEN_END, wholeRange } from "./types.ts";
import type { KeyValue, MvccRefusal, RangeQuery, RangeResult, RevisionEvents } from "./types.ts";
import { Watchers } from "./watchers.ts";

/** The revision of an empty store: the first write gets 2. */
const FIRST_REVISION = 1;
/** No compaction yet. */
const UNCOMPACTED = -1;

export function createStore(backend: Backend): MvccStore {
  return new BackendStore(backend);
}

class BackendStore implements MvccStore, TransactionOwner {
  readonly watches: Watchers;
  readonly slab = new Slab();
  readonly #backend: Backend;
  readonly #pages = new PageCounts();
  #revision = FIRST_REVISION;
  #compactRevision = UNCOMPACTED;
  #owed: OwedCompaction | undefined;
  #keysAlive = 0;
  /** As the backend has it. */
  #keysNoted = 0;
  #inTransaction = false;

  constructor(backend: Backend) {
    this.#backend = backend;
    this.#load();
    this.watches = new Watchers(this);
  }

  get reader(): BackendReader {
    return this.#backend;
  }

  get revision(): number {
    return this.#revision;
  }

  get compactRevision(): number {
    return this.#compactRevision;
  }

  get watchFloor(): number {
    return this.#compactRevision;
  }

  get keysAlive(): number {
    return this.#keysAlive;
  }

  finishBatch(writer: BatchWriter): void {
    if (this.#keysAlive === this.#keysNoted) return;
    const row = new Uint8Array(8);
    writeUint64(row, 0, this.#keysAlive);
    writer.put("meta", KEYS_ALIVE_ROW, row);
    this.#keysNoted = this.#keysAlive;
  }

  get(key: Bytes): KeyValue | undefined {
    return findKeyValue(this.#backend, key);
  }

  range(query: RangeQuery): RangeResult | MvccRefusal {
    const revision = query.revision <= 0 ? this.#revision : query.revision;
    return (
      this.#refusal(revision, this.#revision) ??
      runRange(this.#backend, query, revision, this.#pages)
    );
  }

  openRange(query: RangeQuery): Cursor<RangeResult> | MvccRefusal {
    const revision = query.revision <= 0 ? this.#revision : query.revision;
    const refusal = this.#refusal(revision, this.#revision);
    if (refusal !== undefined) return refusal;
    return openCursor(
      this.#backend,
      (reader) => new RangeWork(reader, query, revision, this.#pages),
    );
  }

  begin(writer: BatchWriter): WriteTransaction {
    assert(!this.#inTransaction, "one transaction at a time");
    this.#inTransaction = true;
    return new BackendTransaction(this, writer, this.#revision + 1);
  }

  rangeAt(query: RangeQuery, newest: number): RangeResult | MvccRefusal {
    const refusal = query.revision === 0 ? undefined : this.#refusal(query.revision, newest);
    if (refusal !== undefined) return refusal;
    return runRange(this.#backend, query, query.revision <= 0 ? newest : query.revision, undefined);
  }

  commit(events: RevisionEvents | undefined, keysAdded: number): void {
    assert(this.#inTransaction, "a transaction ends after it began");
    this.#inTransaction = false;
    if (events === undefined) return;
    assert(events.revision === this.#revision + 1, "revisions have no gaps");
    this.#revision = events.revision;
    this.#keysAlive += keysAdded;
  }

  compact(revision: number, writer: BatchWriter): MvccRefusal | undefined {
    if (revision <= this.#compactRevision) return { code: "compacted" };
    if (revision > this.#revision) return { code: "futureRev" };
    this.#owed = oweCompaction(this.#owed, this.#compactRevision, revision);
    this.#compactRevision = revision;
    const row = new Uint8Array(8);
    writeUint64(row, 0, revision);
    writer.put("meta", COMPACT_REVISION_ROW, row);
    writeOwedCompaction(writer, this.#owed);
    return undefined;
  }

  compaction(): Compaction | undefined {
    if (this.#owed === undefined) return undefined;
    return {
      step: (writer, budget) => {
        if (this.#owed === undefined) return true;
        const removal = new BackendCompaction(this.#backend, this.#owed);
        this.#owed = removal.step(writer, budget);
        return this.#owed === undefined;
      },
    };
  }

  openHash(revision: number): Cursor<HashResult> | MvccRefusal {
    const at = revision <= 0 ? this.#revision : revision;
    const compactRevision = this.#compactRevision;
    const refusal = this.#refusal(at, this.#revision);
    if (refusal !== undefined) return refusal;
    return openCursor(this.#backend, (reader) => new HashWork(reader, at, compactRevision));
  }

  reload(): void {
    assert(!this.#inTransaction, "no transaction is open while the state is replaced");
    this.#load();
    this.#pages.clear();
    this.watches.reload();
  }

  #load(): void {
    const compacted = this.#backend.get("meta", COMPACT_REVISION_ROW);
    this.#compactRevision = compacted === undefined ? UNCOMPACTED : readUint64(compacted, 0);
    this.#owed = readOwedCompaction(this.#backend);
    let newest = FIRST_REVISION;
    this.#backend.scan("revision", { reverse: true, keysOnly: true }, (row) => {
      newest = changeOfRevisionRow(row).main;
      return false;
    });
    this.#revision = Math.max(newest, this.#compactRevision);
    this.#keysAlive = this.#loadKeysAlive();
    this.#keysNoted = this.#keysAlive;
  }

  /** Counted only where no batch has noted it: a store that something else than `finishBatch` filled. */
  #loadKeysAlive(): number {
    const noted = this.#backend.get("meta", KEYS_ALIVE_ROW);
    if (noted !== undefined) return readUint64(noted, 0);
    if (this.#revision === FIRST_REVISION) return 0;
    const all = { ...wholeRange(FIRST_KEY, OPEN_END), countOnly: true };
    return runRange(this.#backend, all, this.#revision, undefined).count;
  }

  #refusal(revision: number, newest: number): MvccRefusal | undefined {
    if (revision > newest) return { code: "futureRev" };
    if (revision < this.#compactRevision) return { code: "compacted" };
    return undefined;
  }
}
