/**
 * The durable log of a peer in a Durable Object. A row holds all entries of one write (up to
 * `CHUNK_BYTES_MAX`), since rows are what is paid for; terms are kept in memory by runs, entries are
 * read back as needed. What a turn writes is durable before anything leaves the object, so it
 * counts as durable at once.
 *
 *   log        first, last: indexes; entries: as packed for links (wire/raft-codec.ts)
 *   log_more   first, piece, entries: what they have beyond the first `pieceBytes`, as a row holds 2 MB
 *   log_state  base index and term (before the first entry), and the hard state
 */
import { assert } from "../../shared/base/assert.ts";
import { concatBytes } from "../../shared/base/bytes.ts";
import type { LogStore, LogWrite } from "../../shared/raft/log-store.ts";
import { bytesOf as dataBytes, cutToBytes, type LogBase } from "../../shared/raft/memory-log.ts";
import type { Entry, HardState } from "../../shared/raft/types.ts";
import { packEntries, unpackEntries } from "../../shared/wire/raft-codec.ts";
import {
  blobOf,
  bytesOfBlob,
  consume,
  numberOfColumn,
  oneRow,
  type Sql,
  type SqlValue,
} from "./sql.ts";

/** Data of one row; a single entry may be longer. */
const CHUNK_BYTES_MAX = 1024 * 1024;
/** Of what one row holds; the largest request of usual size stays within. */
const PIECE_BYTES = 1792 * 1024;
/** Rows that a start reads at a time. */
const ROWS_PER_PAGE = 8;
/** Rows that are kept decoded. */
const CACHED_CHUNKS = 16;

/** Consecutive entries of one row. */
interface Chunk {
  readonly first: number;
  readonly entries: readonly Entry[];
}

/** Entries from `first` on have this term, up to the next run. */
interface TermRun {
  readonly first: number;
  readonly term: number;
}

export class SqlLogStore implements LogStore {
  onDurable: (sequence: number) => void = () => {};
  readonly #sql: Sql;
  readonly #pieceBytes: number;
  /** False: there are no further pieces. */
  #hasMore: boolean;
  #hardState: HardState | undefined;
  #base: LogBase;
  #lastIndex: number;
  #runs: TermRun[] = [];
  /** By first index; the one that was used last stands last. */
  readonly #cache = new Map<number, Chunk>();

  /** `pieceBytes`: for tests. */
  constructor(sql: Sql, pieceBytes = PIECE_BYTES) {
    this.#sql = sql;
    this.#pieceBytes = pieceBytes;
    this.#run(
      "CREATE TABLE IF NOT EXISTS log (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, entries BLOB NOT NULL)",
    );
    this.#run(
      "CREATE TABLE IF NOT EXISTS log_more (first INTEGER, piece INTEGER, entries BLOB NOT NULL, PRIMARY KEY (first, piece)) WITHOUT ROWID",
    );
    this.#hasMore = [...sql.exec("SELECT 1 FROM log_more LIMIT 1")].length > 0;
    this.#run(
      "CREATE TABLE IF NOT EXISTS log_state (one INTEGER PRIMARY KEY, base INTEGER, base_term INTEGER, term INTEGER, vote TEXT, committed INTEGER)",
    );
    this.#run("INSERT OR IGNORE INTO log_state VALUES (1, 0, 0, NULL, NULL, NULL)");
    const state = oneRow(sql.exec("SELECT * FROM log_state"));
    this.#base = {
      index: numberOfColumn(state["base"]),
      term: numberOfColumn(state["base_term"]),
    };
    const { term, vote, committed } = state;
    if (typeof term === "number") {
      this.#hardState = {
        term,
        vote: typeof vote === "string" ? vote : undefined,
        commit: numberOfColumn(committed),
      };
    }
    this.#lastIndex = this.#base.index;
    this.#readTerms();
  }

  get hardState(): HardState | undefined {
    return this.#hardState;
  }

  get firstIndex(): number {
    return this.#base.index + 1;
  }

  get lastIndex(): number {
    return this.#lastIndex;
  }

  termOf(index: number): number | undefined {
    if (index === this.#base.index) return this.#base.term;
    if (index < this.#base.index || index > this.#lastIndex) return undefined;
    return this.#runs.findLast((run) => run.first <= index)?.term;
  }

  slice(low: number, high: number, bytesMax: number): readonly Entry[] {
    assert(this.firstIndex <= low && low <= high, `slice [${low}, ${high})`);
    assert(high <= this.#lastIndex + 1, `slice up to ${high} of a log up to ${this.#lastIndex}`);
    const entries: Entry[] = [];
    let bytes = 0;
    while (low + entries.length < high && bytes <= bytesMax) {
      const next = low + entries.length;
      const chunk = this.#chunkOf(next);
      const part = chunk.entries.slice(next - chunk.first, high - chunk.first);
      bytes += dataBytes(part);
      entries.push(...part);
    }
    return entries.slice(0, cutToBytes(entries, 0, entries.length, bytesMax));
  }

  append(write: LogWrite): void {
    const { snapshot, hardState, entries } = write;
    if (snapshot !== undefined) this.#restart(snapshot);
    if (hardState !== undefined) {
      const { term, vote, commit } = hardState;
      this.#run(
        "UPDATE log_state SET term = ?, vote = ?, committed = ?",
        term,
        vote ?? null,
        commit,
      );
      this.#hardState = hardState;
    }
    const first = entries[0];
    if (first !== undefined) {
      assert(
        this.firstIndex <= first.index && first.index <= this.#lastIndex + 1,
        `append at ${first.index} to a log of ${this.firstIndex} to ${this.#lastIndex}`,
      );
      if (first.index <= this.#lastIndex) this.#truncate(first.index);
      this.#addAll(entries);
    }
    this.onDurable(write.sequence);
  }

  compact(index: number): void {
    if (index <= this.#base.index) return;
    const term = this.termOf(index);
    assert(term !== undefined, `compact(${index}) of a log up to ${this.#lastIndex}`);
    this.#setBase({ index, term });
    // A row goes once its last entry isn't needed; the few before the base in it are never read.
    this.#run("DELETE FROM log WHERE last <= ?", index);
    this.#dropPieces();
    for (const chunk of this.#cache.values()) {
      if (chunk.first + chunk.entries.length - 1 <= index) this.#cache.delete(chunk.first);
    }
    const kept = this.#runs.findLastIndex((run) => run.first <= index + 1);
    if (kept > 0) this.#runs.splice(0, kept);
  }

  #restart(base: LogBase): void {
    this.#run("DELETE FROM log");
    this.#dropPieces();
    this.#cache.clear();
    this.#runs = [];
    this.#setBase({ index: base.index, term: base.term });
    this.#lastIndex = base.index;
  }

  #setBase(base: LogBase): void {
    this.#base = base;
    this.#run("UPDATE log_state SET base = ?, base_term = ?", base.index, base.term);
  }

  /** Drops the entries from `index` on. */
  #truncate(index: number): void {
    const straddling = this.#chunkOf(index);
    const kept = straddling.entries.slice(0, index - straddling.first);
    this.#run("DELETE FROM log WHERE last >= ?", index);
    this.#dropPieces();
    for (const first of this.#cache.keys()) {
      if (first >= straddling.first) this.#cache.delete(first);
    }
    this.#runs = this.#runs.filter((run) => run.first < index);
    this.#lastIndex = index - 1;
    if (kept.length > 0) this.#insert({ first: straddling.first, entries: kept });
  }

  #addAll(entries: readonly Entry[]): void {
    let from = 0;
    while (from < entries.length) {
      const end = cutToBytes(entries, from, entries.length, CHUNK_BYTES_MAX);
      const part = entries.slice(from, end);
      this.#insert({ first: (part[0] as Entry).index, entries: part });
      for (const entry of part) this.#noteTerm(entry);
      from = end;
    }
  }

  #insert(chunk: Chunk): void {
    const packed = packEntries(chunk.entries);
    const size = this.#pieceBytes;
    this.#run(
      "INSERT INTO log VALUES (?, ?, ?)",
      chunk.first,
      chunk.first + chunk.entries.length - 1,
      blobOf(packed.length > size ? packed.subarray(0, size) : packed),
    );
    for (let piece = 1; piece * size < packed.length; piece += 1) {
      this.#hasMore = true;
      const rest = blobOf(packed.subarray(piece * size, (piece + 1) * size));
      this.#run("INSERT INTO log_more VALUES (?, ?, ?)", chunk.first, piece, rest);
    }
    this.#remember(chunk);
  }

  /** Further pieces go with their rows. */
  #dropPieces(): void {
    if (!this.#hasMore) return;
    this.#run("DELETE FROM log_more WHERE first NOT IN (SELECT first FROM log)");
  }

  #readTerms(): void {
    let last = 0;
    for (;;) {
      const rows = [
        ...this.#sql.exec(
          "SELECT first, entries FROM log WHERE first > ? ORDER BY first LIMIT ?",
          last,
          ROWS_PER_PAGE,
        ),
      ];
      for (const row of rows) {
        const chunk = this.#decode(row);
        last = chunk.first;
        for (const entry of chunk.entries) {
          if (entry.index > this.#base.index) this.#noteTerm(entry);
        }
      }
      if (rows.length < ROWS_PER_PAGE) return;
    }
  }

  #decode(row: Readonly<Record<string, SqlValue>>): Chunk {
    const first = numberOfColumn(row["first"]);
    let packed = bytesOfBlob(row["entries"]);
    if (packed.length === this.#pieceBytes) {
      const query = "SELECT entries FROM log_more WHERE first = ? ORDER BY piece";
      const more = [...this.#sql.exec(query, first)];
      packed = concatBytes(packed, ...more.map(({ entries }) => bytesOfBlob(entries)));
    }
    return { first, entries: unpackEntries(packed, first) };
  }

  #noteTerm({ index, term }: Entry): void {
    assert(index === this.#lastIndex + 1, `entry ${index} after ${this.#lastIndex}`);
    if (this.#runs.at(-1)?.term !== term) this.#runs.push({ first: index, term });
    this.#lastIndex = index;
  }

  #chunkOf(index: number): Chunk {
    for (const chunk of this.#cache.values()) {
      if (chunk.first <= index && index < chunk.first + chunk.entries.length) return chunk;
    }
    const row = oneRow(
      this.#sql.exec(
        "SELECT first, entries FROM log WHERE first <= ? ORDER BY first DESC LIMIT 1",
        index,
      ),
    );
    const chunk = this.#decode(row);
    this.#remember(chunk);
    return chunk;
  }

  #remember(chunk: Chunk): void {
    this.#cache.delete(chunk.first);
    this.#cache.set(chunk.first, chunk);
    const [oldest] = this.#cache.keys();
    if (this.#cache.size > CACHED_CHUNKS && oldest !== undefined) this.#cache.delete(oldest);
  }

  #run(query: string, ...bindings: (ArrayBuffer | string | number | null)[]): void {
    consume(this.#sql.exec(query, ...bindings));
  }
}
