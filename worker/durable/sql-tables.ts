/**
 * The tables of one generation of a store in a Durable Object's SQLite, whose rows hold at most 2 MB.
 *
 *   g<n>_<table>   k, v: a row of the store's table
 *   g<n>_long      the rest of keys above `keyChunkBytes` (shared/backend/long-keys.ts)
 *   g<n>_more      t, k, piece, v: what a value has beyond its first `pieceBytes`; t: the table or "long"
 *
 * A value of exactly `pieceBytes` may have more. Each statement is read to its end at once, ranges by
 * pages: a cursor left open would keep SQLite from dropping any table.
 */
import { createHash } from "node:crypto";
import { assert } from "../../shared/base/assert.ts";
import { concatBytes, EMPTY } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import {
  KEY_BYTES_MAX,
  TABLES,
  type BatchWriter,
  type ScanOptions,
  type Table,
} from "../../shared/backend/backend.ts";
import {
  LongKeys,
  NODE_ID_BYTES,
  POINTER_VALUE,
  rootOf,
  type NodeRange,
} from "../../shared/backend/long-keys.ts";
import { DELETED } from "../../shared/backend/overlay.ts";
import type { Visit } from "../../shared/backend/overlay.ts";
import { blobOf, bytesOfBlob, consume, type Sql, type SqlValue } from "./sql.ts";

/** Where keys and values are cut. A row's key with a node's id, and a piece, stay below 2 MB together. */
export interface RowLimits {
  readonly keyChunkBytes: number;
  readonly pieceBytes: number;
}

export const ROW_LIMITS: RowLimits = { keyChunkBytes: 1024 * 1024, pieceBytes: 768 * 1024 };

/** Rows of a page of a scan: few at first, as most scans want few, and more while they are small. */
const PAGE_ROWS_FIRST = 8;
const PAGE_ROWS_MAX = 256;
const PAGE_BYTES = 1024 * 1024;

type RowTable = Table | "long";

/** A node that a scan walks (the table itself: no id), and what its keys begin with. */
interface Level {
  readonly id: Bytes | undefined;
  readonly lead: Bytes;
  readonly start: Bytes | undefined;
  readonly end: Bytes | undefined;
}

export class SqlTables implements BatchWriter {
  readonly generation: number;
  readonly #sql: Sql;
  readonly #pieceBytes: number;
  readonly #keys: LongKeys;
  /** False: there are no further pieces; undefined: not looked yet. */
  #hasMore: boolean | undefined;

  constructor(sql: Sql, generation: number, { keyChunkBytes, pieceBytes }: RowLimits) {
    this.#sql = sql;
    this.generation = generation;
    this.#pieceBytes = pieceBytes;
    this.#keys = new LongKeys(keyChunkBytes, (a, b) =>
      // A copy: slices of the runtime's own buffers share their memory.
      Uint8Array.from(createHash("sha256").update(a).update(b).digest()),
    );
  }

  create(): void {
    for (const table of [...TABLES, "long"] as const) {
      this.#run(
        `CREATE TABLE IF NOT EXISTS ${this.#name(table)} (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID`,
      );
    }
    this.#run(
      `CREATE TABLE IF NOT EXISTS ${this.#name("more")} (t TEXT, k BLOB, piece INTEGER, v BLOB NOT NULL, PRIMARY KEY (t, k, piece)) WITHOUT ROWID`,
    );
  }

  drop(): void {
    for (const table of [...TABLES, "long", "more"] as const) {
      this.#run(`DROP TABLE IF EXISTS ${this.#name(table)}`);
    }
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    if (key.length <= this.#keys.chunkBytes) return this.#getRow(table, key);
    return this.#getRow("long", this.#keys.longPath(table, key).row);
  }

  put(table: Table, key: Bytes, value: Bytes): void {
    assert(key.length > 0 && key.length <= KEY_BYTES_MAX, `a key of ${key.length} bytes`);
    if (key.length <= this.#keys.chunkBytes) return this.#putRow(table, key, value);
    const { tablePointer, pointers, row } = this.#keys.longPath(table, key);
    this.#putRow(table, tablePointer, POINTER_VALUE);
    for (const pointer of pointers) this.#putRow("long", pointer, POINTER_VALUE);
    this.#putRow("long", row, value);
  }

  delete(table: Table, key: Bytes): void {
    if (key.length <= this.#keys.chunkBytes) return this.#deleteRow(table, key);
    const { tablePointer, pointers, row } = this.#keys.longPath(table, key);
    this.#deleteRow("long", row);
    // From the bottom up, pointers to nodes that are empty now.
    let node = row.subarray(0, NODE_ID_BYTES);
    for (const pointer of pointers.toReversed()) {
      if (!this.#isEmpty(node)) return;
      this.#deleteRow("long", pointer);
      node = pointer.subarray(0, NODE_ID_BYTES);
    }
    if (this.#isEmpty(node)) this.#deleteRow(table, tablePointer);
  }

  /** False when the visitor ended the walk. */
  scan(table: Table, options: ScanOptions, visit: Visit): boolean {
    const { start, end } = options;
    return this.#scanLevel(table, { id: undefined, lead: EMPTY, start, end }, options, visit);
  }

  #scanLevel(table: Table, level: Level, options: ScanOptions, visit: Visit): boolean {
    const { id, lead, start, end } = level;
    const { chunkBytes } = this.#keys;
    const from = id === undefined ? table : "long";
    const idBytes = id?.length ?? 0;
    for (const row of this.#rows(from, this.#keys.nodeRange(id, start, end), options)) {
      const key = bytesOfBlob(row["k"]);
      const rest = key.subarray(idBytes);
      if (rest.length > chunkBytes) {
        const chunk = rest.subarray(0, chunkBytes);
        const below = {
          id: this.#keys.nodeBelow(id ?? rootOf(table), chunk),
          lead: concatBytes(lead, chunk),
          start: this.#keys.boundBelow(start, chunk),
          end: this.#keys.boundBelow(end, chunk),
        };
        if (!this.#scanLevel(table, below, options, visit)) return false;
        continue;
      }
      const whole = id === undefined ? key : concatBytes(lead, rest);
      const value = options.keysOnly === true ? DELETED : this.#valueOf(from, key, row["v"]);
      if (!visit(whole, value)) return false;
    }
    return true;
  }

  /** The rows of a range, page by page. */
  *#rows(
    table: RowTable,
    range: NodeRange,
    { reverse = false, keysOnly = false, firstOnly = false }: ScanOptions,
  ): Generator<Readonly<Record<string, SqlValue>>, void, undefined> {
    let { start: low, end: high, inclusiveEnd } = range;
    let lowIncluded = true;
    let pageRows = firstOnly ? 1 : PAGE_ROWS_FIRST;
    for (;;) {
      const where = [
        ...(low === undefined ? [] : [lowIncluded ? "k >= ?" : "k > ?"]),
        ...(high === undefined ? [] : [inclusiveEnd ? "k <= ?" : "k < ?"]),
      ];
      const page = this.#all(
        `SELECT ${keysOnly ? "k" : "k, v"} FROM ${this.#name(table)}` +
          (where.length === 0 ? "" : ` WHERE ${where.join(" AND ")}`) +
          ` ORDER BY k ${reverse ? "DESC" : "ASC"} LIMIT ?`,
        ...[low, high].filter((bound) => bound !== undefined).map(blobOf),
        pageRows,
      );
      yield* page;
      const last = page.at(-1);
      if (last === undefined || page.length < pageRows) return;
      if (reverse) [high, inclusiveEnd] = [bytesOfBlob(last["k"]), false];
      else [low, lowIncluded] = [bytesOfBlob(last["k"]), false];
      if (bytesOfPage(page) < PAGE_BYTES) pageRows = Math.min(2 * pageRows, PAGE_ROWS_MAX);
    }
  }

  #getRow(table: RowTable, key: Bytes): Bytes | undefined {
    const [row] = this.#all(`SELECT v FROM ${this.#name(table)} WHERE k = ?`, blobOf(key));
    return row === undefined ? undefined : this.#valueOf(table, key, row["v"]);
  }

  /** With its further pieces. */
  #valueOf(table: RowTable, key: Bytes, column: SqlValue | undefined): Bytes {
    const first = bytesOfBlob(column);
    if (first.length !== this.#pieceBytes) return first;
    const more = this.#all(
      `SELECT v FROM ${this.#name("more")} WHERE t = ? AND k = ? ORDER BY piece`,
      table,
      blobOf(key),
    );
    return more.length === 0 ? first : concatBytes(first, ...more.map(({ v }) => bytesOfBlob(v)));
  }

  #putRow(table: RowTable, key: Bytes, value: Bytes): void {
    this.#deleteMore(table, key);
    const size = this.#pieceBytes;
    this.#run(
      `INSERT OR REPLACE INTO ${this.#name(table)} VALUES (?, ?)`,
      blobOf(key),
      blobOf(value.length > size ? value.subarray(0, size) : value),
    );
    for (let piece = 1; piece * size < value.length; piece += 1) {
      this.#hasMore = true;
      this.#run(
        `INSERT INTO ${this.#name("more")} VALUES (?, ?, ?, ?)`,
        table,
        blobOf(key),
        piece,
        blobOf(value.subarray(piece * size, (piece + 1) * size)),
      );
    }
  }

  #deleteRow(table: RowTable, key: Bytes): void {
    this.#deleteMore(table, key);
    this.#run(`DELETE FROM ${this.#name(table)} WHERE k = ?`, blobOf(key));
  }

  #deleteMore(table: RowTable, key: Bytes): void {
    this.#hasMore ??= this.#all(`SELECT 1 FROM ${this.#name("more")} LIMIT 1`).length > 0;
    if (!this.#hasMore) return;
    this.#run(`DELETE FROM ${this.#name("more")} WHERE t = ? AND k = ?`, table, blobOf(key));
  }

  #isEmpty(node: Bytes): boolean {
    const range = this.#keys.nodeRange(node, undefined, undefined);
    for (const row of this.#rows("long", range, { keysOnly: true, firstOnly: true })) {
      void row;
      return false;
    }
    return true;
  }

  #all(query: string, ...bindings: SqlValue[]): Readonly<Record<string, SqlValue>>[] {
    return [...this.#sql.exec(query, ...bindings)];
  }

  #run(query: string, ...bindings: SqlValue[]): void {
    consume(this.#sql.exec(query, ...bindings));
  }

  #name(table: RowTable | "more"): string {
    return `g${this.generation}_${table}`;
  }
}

function bytesOfPage(page: readonly Readonly<Record<string, SqlValue>>[]): number {
  let bytes = 0;
  for (const row of page) {
    for (const value of Object.values(row)) bytes += bytesOfBlob(value).length;
  }
  return bytes;
}
