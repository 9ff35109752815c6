/**
 * The removal that a compaction owes, in bounded and resumable steps.
 *
 * Of each key, only the newest row at the compacted revision X stays; a tombstone stays only if its revision is just
 * X (etcd: key_index.go, `compact`). The removal walks the table `revision` from the compaction before, P, up to X:
 * rows that became obsolete lost their place to a row in that stretch, so what lies below P is met only as older rows
 * of the same key. The cost follows what changed since P, not what the store holds.
 *
 * Progress is the row `mvcc/compaction` in `meta`: X, then the place (main, sub) of the next row to look at, 8 bytes
 * each. Doing a part twice removes nothing else, so a crash between steps is harmless; the row goes with the last
 * step. A compaction to Y > X while X's removal is under way: what is done for X stays right for Y, except that
 * tombstones at just X are now obsolete; so the walk goes on from there or from the start of X, whichever comes
 * first.
 */
import { assert } from "../base/assert.ts";
import { type Bytes, readUint64, writeUint64 } from "../base/bytes.ts";
import type { BackendReader, BatchWriter } from "../backend/backend.ts";
import {
  type ChangeId,
  changeOfRevisionRow,
  COMPACTION_ROW,
  findRow,
  isSameKey,
  isTombstoneRow,
  keyOfRow,
  mainOfKeyRow,
  pastRowsOf,
  revisionRow,
  subOfKeyRow,
} from "./key-layout.ts";
import type { StepBudget } from "./store.ts";

/** Rows that are read at once before their removals are written: nothing may be applied while a scan goes on. */
const ROWS_AT_ONCE = 256;

export interface OwedCompaction {
  readonly target: number;
  readonly main: number;
  readonly sub: number;
}

export function readOwedCompaction(reader: BackendReader): OwedCompaction | undefined {
  const row = reader.get("meta", COMPACTION_ROW);
  if (row === undefined) return undefined;
  assert(row.length === 24, `a compaction's row of ${row.length} bytes`);
  return { target: readUint64(row, 0), main: readUint64(row, 8), sub: readUint64(row, 16) };
}

export function writeOwedCompaction(writer: BatchWriter, owed: OwedCompaction | undefined): void {
  if (owed === undefined) {
    writer.delete("meta", COMPACTION_ROW);
    return;
  }
  const row = new Uint8Array(24);
  writeUint64(row, 0, owed.target);
  writeUint64(row, 8, owed.main);
  writeUint64(row, 16, owed.sub);
  writer.put("meta", COMPACTION_ROW, row);
}

/** What is owed after a compaction to `target`, when the one before reached `previous` (-1: none). */
export function oweCompaction(
  before: OwedCompaction | undefined,
  previous: number,
  target: number,
): OwedCompaction {
  assert(target > previous, "compactions ascend");
  if (before === undefined || before.main >= before.target) {
    return { target, main: Math.max(previous, 0), sub: 0 };
  }
  return { target, main: before.main, sub: before.sub };
}

interface RevisionEntry extends ChangeId {
  readonly key: Bytes;
}

/** One step of the removal. */
export class BackendCompaction {
  readonly #reader: BackendReader;
  readonly #target: number;
  #main: number;
  #sub: number;
  #rows = 0;
  #bytes = 0;

  constructor(reader: BackendReader, owed: OwedCompaction) {
    this.#reader = reader;
    this.#target = owed.target;
    this.#main = owed.main;
    this.#sub = owed.sub;
  }

  /** Removes within the budget; returns what is owed still. */
  step(writer: BatchWriter, budget: StepBudget): OwedCompaction | undefined {
    this.#rows = budget.rows;
    this.#bytes = budget.bytes;
    let finished = false;
    while (!finished && this.#hasBudget()) {
      const entries = this.#readEntries(Math.min(ROWS_AT_ONCE, this.#rows));
      this.#cleanAll(entries, writer);
      finished = entries.length === 0;
    }
    const owed = { target: this.#target, main: this.#main, sub: this.#sub };
    writeOwedCompaction(writer, finished ? undefined : owed);
    return finished ? undefined : owed;
  }

  #cleanAll(entries: readonly RevisionEntry[], writer: BatchWriter): void {
    for (const entry of entries) {
      if (!this.#hasBudget() || !this.#clean(entry, writer)) return;
      this.#main = entry.main;
      this.#sub = entry.sub + 1;
    }
  }

  #hasBudget(): boolean {
    return this.#rows > 0 && this.#bytes > 0;
  }

  #readEntries(count: number): RevisionEntry[] {
    const entries: RevisionEntry[] = [];
    const start = revisionRow({ main: this.#main, sub: this.#sub, tombstone: false });
    const end = revisionRow({ main: this.#target + 1, sub: 0, tombstone: false });
    this.#reader.scan("revision", { start, end }, (row, key) => {
      entries.push({ ...changeOfRevisionRow(row), key });
      return entries.length < count;
    });
    return entries;
  }

  /** Removes what `entry` makes obsolete; false if the budget ended before that was done. */
  #clean(entry: RevisionEntry, writer: BatchWriter): boolean {
    this.#rows -= 1;
    this.#bytes -= entry.key.length;
    const newest = findRow(this.#reader, entry.key, this.#target)?.row;
    assert(newest !== undefined, "a change has a row by key and one by time");
    // A newer change up to the target comes later in the walk and removes this one.
    if (mainOfKeyRow(newest) !== entry.main || subOfKeyRow(newest) !== entry.sub) return true;
    const older: Bytes[] = [];
    let whole = true;
    const options = { start: newest, end: pastRowsOf(newest), keysOnly: true };
    this.#reader.scan("key", options, (row) => {
      assert(isSameKey(row, newest), "only the key's own rows lie in between");
      if (mainOfKeyRow(row) === entry.main && subOfKeyRow(row) === entry.sub) return true;
      whole = this.#hasBudget() || older.length === 0;
      if (!whole) return false;
      older.push(row);
      this.#rows -= 1;
      this.#bytes -= row.length;
      return true;
    });
    for (const row of older) remove(writer, row);
    if (!whole) return false;
    if (entry.tombstone && entry.main < this.#target) remove(writer, newest);
    return true;
  }
}

function remove(writer: BatchWriter, row: Bytes): void {
  const tombstone = isTombstoneRow(row);
  assert(keyOfRow(row).length > 0, "a row has a key");
  writer.delete("key", row);
  writer.delete(
    "revision",
    revisionRow({ main: mainOfKeyRow(row), sub: subOfKeyRow(row), tombstone }),
  );
}
