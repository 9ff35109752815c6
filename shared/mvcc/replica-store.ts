/**
 * The multi-version store of a replica: a copy of one range of keys of another store, fed by its events. Rows are
 * those of `key-layout.ts`, with the revisions, versions and leases of the source.
 *
 *     base        the revision at which the range was copied; nothing older is known
 *     revision    the watermark: every event of the range up to it is here. It may grow without events
 *     compactRevision, watchFloor   the oldest revision that can be read (base at first), and that can be watched
 *                 (base + 1 at first: the copy of a state doesn't tell what its own revision changed)
 *
 * Rows may stand above the watermark, while a revision arrives in parts: reads never look above it, and a feed that
 * begins anew at the watermark writes the same rows again. So a crash between any two batches is harmless.
 *
 * Each event must continue what is known of its key (its version follows, its creation is the same), else something
 * was lost on the way: `add` says so, and the range must be copied anew.
 *
 * Of the events between `HISTORY_EVENTS` and twice as many stay readable; older ones are compacted away.
 *
 *     meta      "mvcc/replica": watermark | base | mark | events since the mark, 8 bytes each
 */
import { assert } from "../base/assert.ts";
import { type Bytes, EMPTY, readUint64, utf8, writeUint64 } from "../base/bytes.ts";
import { Slab } from "../base/slab.ts";
import type { Backend, BackendReader, BatchWriter } from "../backend/backend.ts";
import {
  BackendCompaction,
  oweCompaction,
  type OwedCompaction,
  readOwedCompaction,
  writeOwedCompaction,
} from "./backend-compaction.ts";
import {
  COMPACT_REVISION_ROW,
  decodeKeyValue,
  encodeValueRow,
  findKeyValue,
  findRow,
  isTombstoneRow,
  keyRow,
  mainOfKeyRow,
  revisionRow,
} from "./key-layout.ts";
import { PageCounts } from "./page-counts.ts";
import { openCursor } from "./pinned-work.ts";
import { RangeWork, runRange } from "./range-work.ts";
import type { Cursor, StepBudget } from "./store.ts";
import type { Event, KeyValue, MvccRefusal, RangeQuery, RangeResult } from "./types.ts";
import { Watchers, type WatchSource } from "./watchers.ts";

const REPLICA_ROW: Bytes = utf8("mvcc/replica");
/** Events of the range that stay readable, at least. */
const HISTORY_EVENTS = 10_000;

/** Writes a page of the range as it was at the base, into an empty store; the keys of all pages are distinct. */
export function writeCopy(kvs: readonly KeyValue[], writer: BatchWriter, slab: Slab): void {
  for (const kv of kvs) {
    const change = { main: kv.modRevision, sub: 0, tombstone: false };
    // No row by time: what is watched begins behind the base.
    writer.put("key", keyRow(kv.key, change), encodeValueRow(kv, slab));
  }
}

/** Ends the copy: from now on the store is one at revision `base`. */
export function sealCopy(base: number, writer: BatchWriter): void {
  writer.put("meta", REPLICA_ROW, encodeRow([base, base, base, 0]));
  writer.put("meta", COMPACT_REVISION_ROW, encodeRow([base]));
}

/** What an event is to what is known: a new change, one that is here already, or one after a lost one. */
export type Fit = "new" | "known" | "gap";

export class ReplicaStore implements WatchSource {
  readonly watches: Watchers;
  readonly slab = new Slab();
  readonly #backend: Backend;
  readonly #historyEvents: number;
  readonly #pages = new PageCounts();
  #base = 0;
  #revision = 0;
  #compactRevision = 0;
  #owed: OwedCompaction | undefined;
  /** The watermark when the events since then were first counted: the next compaction's target. */
  #mark = 0;
  #eventsSinceMark = 0;
  /** The watermark as the backend has it. */
  #noted = 0;
  /** The revision that is being added, and how many of its changes were. */
  #adding = { revision: 0, changes: 0 };

  constructor(backend: Backend, options: { readonly historyEvents?: number } = {}) {
    this.#backend = backend;
    this.#historyEvents = options.historyEvents ?? HISTORY_EVENTS;
    this.#load();
    this.watches = new Watchers(this);
  }

  /** False: nothing was copied yet, and nothing can be read. */
  get isCopied(): boolean {
    return this.#base > 0;
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
    return Math.max(this.#compactRevision, this.#base + 1);
  }

  /** The newest value of a key, at the watermark. */
  get(key: Bytes): KeyValue | undefined {
    return findKeyValue(this.#backend, key, this.#revision);
  }

  range(query: RangeQuery): RangeResult | MvccRefusal {
    const revision = query.revision <= 0 ? this.#revision : query.revision;
    return this.#refusal(revision) ?? runRange(this.#backend, query, revision, this.#pages);
  }

  openRange(query: RangeQuery): Cursor<RangeResult> | MvccRefusal {
    const revision = query.revision <= 0 ? this.#revision : query.revision;
    const refusal = this.#refusal(revision);
    if (refusal !== undefined) return refusal;
    return openCursor(
      this.#backend,
      (reader) => new RangeWork(reader, query, revision, this.#pages),
    );
  }

  /** A feed begins behind the watermark: what an earlier one left there is written anew. */
  beginFeed(): void {
    this.#adding = { revision: this.#revision, changes: 0 };
  }

  /**
   * Adds one event, in the order of the source, below the surface: it shows once `seal` has reached its revision.
   * At a gap nothing is written.
   */
  add(event: Event, writer: BatchWriter): Fit {
    const { kv } = event;
    if (kv.modRevision <= this.#revision) return this.#isKnown(kv) ? "known" : "gap";
    if (kv.modRevision < this.#adding.revision || !this.#continues(event)) return "gap";
    if (kv.modRevision > this.#adding.revision) {
      this.#adding = { revision: kv.modRevision, changes: 0 };
    }
    const tombstone = event.type === "delete";
    const change = { main: kv.modRevision, sub: this.#adding.changes, tombstone };
    this.#adding.changes += 1;
    writer.put("key", keyRow(kv.key, change), tombstone ? EMPTY : encodeValueRow(kv, this.slab));
    writer.put("revision", revisionRow(change), this.slab.copyOf(kv.key));
    this.#eventsSinceMark += 1;
    return "new";
  }

  /** Every event up to `revision` was added: they show. Notes it in the same batch. */
  seal(revision: number, writer: BatchWriter): void {
    this.advance(revision);
    this.note(writer);
  }

  /** The source has shown everything up to `revision`: there were no more events. In memory only; see `note`. */
  advance(revision: number): void {
    assert(Number.isSafeInteger(revision), `revision ${revision}`);
    this.#revision = Math.max(this.#revision, revision);
  }

  /** How far the watermark is ahead of what a restart would find. */
  get unnoted(): number {
    return this.#revision - this.#noted;
  }

  /** Notes the watermark, so that the next start begins there; and begins a compaction when one is due. */
  note(writer: BatchWriter): void {
    if (this.#eventsSinceMark >= this.#historyEvents) {
      if (this.#mark > this.#compactRevision) this.#compact(this.#mark, writer);
      this.#mark = this.#revision;
      this.#eventsSinceMark = 0;
    }
    const row = [this.#revision, this.#base, this.#mark, this.#eventsSinceMark];
    writer.put("meta", REPLICA_ROW, encodeRow(row));
    this.#noted = this.#revision;
  }

  /** True while a compaction owes removals: `compactStep` does some. */
  get owesCompaction(): boolean {
    return this.#owed !== undefined;
  }

  compactStep(writer: BatchWriter, budget: StepBudget): void {
    if (this.#owed === undefined) return;
    this.#owed = new BackendCompaction(this.#backend, this.#owed).step(writer, budget);
  }

  /** Another copy was put in place of this one. */
  reload(): void {
    this.#load();
    this.#pages.clear();
    this.watches.reload();
  }

  #load(): void {
    const row = this.#backend.get("meta", REPLICA_ROW);
    const [revision, base, mark, events] =
      row === undefined ? [0, 0, 0, 0] : [0, 8, 16, 24].map((offset) => readUint64(row, offset));
    this.#revision = revision ?? 0;
    this.#noted = this.#revision;
    this.#base = base ?? 0;
    this.#mark = mark ?? 0;
    this.#eventsSinceMark = events ?? 0;
    const compacted = this.#backend.get("meta", COMPACT_REVISION_ROW);
    this.#compactRevision = compacted === undefined ? 0 : readUint64(compacted, 0);
    this.#owed = readOwedCompaction(this.#backend);
    this.beginFeed();
  }

  #compact(revision: number, writer: BatchWriter): void {
    this.#owed = oweCompaction(this.#owed, this.#compactRevision, revision);
    this.#compactRevision = revision;
    writer.put("meta", COMPACT_REVISION_ROW, encodeRow([revision]));
    writeOwedCompaction(writer, this.#owed);
  }

  #refusal(revision: number): MvccRefusal | undefined {
    if (revision > this.#revision) return { code: "futureRev" };
    if (revision < this.#compactRevision) return { code: "compacted" };
    return undefined;
  }

  /** Whether a change below the watermark is one that was added; compacted ones are not asked about. */
  #isKnown({ key, modRevision }: KeyValue): boolean {
    if (modRevision < this.watchFloor) return true;
    const found = findRow(this.#backend, key, modRevision);
    return found !== undefined && mainOfKeyRow(found.row) === modRevision;
  }

  /** Whether the event follows from what the key was before its revision. */
  #continues({ type, kv }: Event): boolean {
    const found = findRow(this.#backend, kv.key, kv.modRevision - 1);
    const before =
      found === undefined || isTombstoneRow(found.row)
        ? undefined
        : decodeKeyValue(found.row, found.value);
    if (type === "delete") return before !== undefined;
    if (before === undefined) return kv.version === 1 && kv.createRevision === kv.modRevision;
    return kv.version === before.version + 1 && kv.createRevision === before.createRevision;
  }
}

function encodeRow(numbers: readonly number[]): Bytes {
  const row = new Uint8Array(8 * numbers.length);
  for (const [place, each] of numbers.entries()) writeUint64(row, 8 * place, each);
  return row;
}
