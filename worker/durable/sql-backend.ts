/**
 * The `Backend` of a peer in a Durable Object: a SQLite table of (key, value) for each of the
 * store's tables. What a turn applies is durable before anything leaves the object, so visible and
 * durable are the same.
 *
 * SQLite has no read transactions that outlive a turn here: a pin is the store as it is, under an
 * overlay of what was overwritten since. It costs memory for what is written while it is held, and
 * none otherwise.
 *
 * A generation is one set of tables. A received snapshot fills the next one; switching to it is one
 * row. A row holds at most 2 MB, key and value together: the peer refuses larger requests
 * (`DURABLE_REQUEST_BYTES_MAX`).
 */
import { assert, assertCount } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import {
  BackendError,
  KEY_BYTES_MAX,
  TABLES,
  type Backend,
  type BackendSizes,
  type BatchWriter,
  type PinnedReader,
  type ScanOptions,
  type ShadowBackend,
  type Table,
} from "../../shared/backend/backend.ts";
import { DELETED, mergedScan, Overlay, OverlayCursor } from "../../shared/backend/overlay.ts";
import type { Visit } from "../../shared/backend/overlay.ts";
import { blobOf, bytesOfBlob, consume, numberOfColumn, oneRow, type Sql } from "./sql.ts";

/**
 * What a request may hold, in bytes of protobuf. Layouts may double a key (escapes) and repeat it
 * in the value; the longest row stays within SQLite's 2 MB.
 */
export const DURABLE_REQUEST_BYTES_MAX = 512 * 1024;

export class SqlBackend implements Backend {
  readonly #sql: Sql;
  #tables: SqlTables;
  #visibleIndex: number;
  readonly #pins = new Set<Overlay>();
  #state: "open" | "applying" | "broken" | "closed" = "open";

  constructor(sql: Sql) {
    this.#sql = sql;
    consume(
      sql.exec(
        "CREATE TABLE IF NOT EXISTS backend (one INTEGER PRIMARY KEY, generation INTEGER, applied INTEGER)",
      ),
    );
    consume(sql.exec("INSERT OR IGNORE INTO backend VALUES (1, 1, 0)"));
    const row = oneRow(sql.exec("SELECT generation, applied FROM backend"));
    this.#visibleIndex = numberOfColumn(row["applied"]);
    this.#tables = new SqlTables(sql, numberOfColumn(row["generation"]));
    this.#tables.create();
    this.#dropOthers();
  }

  get visibleIndex(): number {
    return this.#visibleIndex;
  }

  get durableIndex(): number {
    return this.#visibleIndex;
  }

  get congested(): boolean {
    return false;
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    this.#assertUsable();
    return this.#tables.get(table, key);
  }

  scan(table: Table, options: ScanOptions, visit: Visit): void {
    this.#assertUsable();
    this.#tables.scan(table, options, visit);
  }

  apply(index: number, fill: (writer: BatchWriter) => void): void {
    this.#assertUsable();
    assert(this.#state === "open", "no apply inside an apply");
    assertCount(index, "index");
    assert(index >= this.#visibleIndex, `index ${index} falls behind ${this.#visibleIndex}`);
    this.#state = "applying";
    try {
      fill({
        put: (table, key, value) => {
          this.#keepForPins(table, key);
          this.#tables.put(table, key, value);
        },
        delete: (table, key) => {
          this.#keepForPins(table, key);
          this.#tables.delete(table, key);
        },
      });
      consume(this.#sql.exec("UPDATE backend SET applied = ?", index));
    } catch (cause) {
      // What was written in this turn must not become durable: the object starts anew.
      this.#state = "broken";
      throw cause;
    }
    this.#state = "open";
    this.#visibleIndex = index;
  }

  flush(): void {
    this.#assertUsable();
  }

  pin(): PinnedReader {
    this.#assertUsable();
    const before = new Overlay();
    this.#pins.add(before);
    return new SqlPin(this.#visibleIndex, before, {
      tables: this.#tables,
      release: () => this.#pins.delete(before),
    });
  }

  shadow(): ShadowBackend {
    this.#assertUsable();
    const tables = new SqlTables(this.#sql, this.#tables.generation + 1);
    tables.drop();
    tables.create();
    let open = true;
    return {
      congested: false,
      apply(fill) {
        assert(open, "the shadow is gone");
        fill(tables);
      },
      install: async (index, switched) => {
        assert(open, "the shadow is gone");
        this.#assertUsable();
        open = false;
        assertCount(index, "index");
        const { generation } = tables;
        consume(
          this.#sql.exec("UPDATE backend SET generation = ?, applied = ?", generation, index),
        );
        const before = this.#tables;
        this.#tables = tables;
        this.#visibleIndex = index;
        // Pins read the old tables, which nobody writes any more; then they go at the next start.
        if (this.#pins.size === 0) before.drop();
        this.#pins.clear();
        switched?.();
      },
      async discard() {
        if (open) tables.drop();
        open = false;
      },
    };
  }

  /** The platform gives its pages back by itself. */
  async defragment(): Promise<void> {
    this.#assertUsable();
  }

  sizes(): BackendSizes {
    this.#assertUsable();
    const totalBytes = this.#sql.databaseSize;
    return { totalBytes, inUseBytes: totalBytes };
  }

  async close(): Promise<void> {
    this.#state = "closed";
  }

  /** Each open pin keeps what it saw, the first time that a row is overwritten under it. */
  #keepForPins(table: Table, key: Bytes): void {
    if (this.#pins.size === 0) return;
    let before: Bytes | undefined;
    let isRead = false;
    for (const overlay of this.#pins) {
      if (overlay.maps[table].get(key) !== undefined) continue;
      if (!isRead) {
        before = this.#tables.get(table, key);
        isRead = true;
      }
      if (before === undefined) overlay.delete(table, key);
      else overlay.put(table, key, before);
    }
  }

  #dropOthers(): void {
    const { generation } = this.#tables;
    const names = [...this.#sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'")];
    const others = new Set<number>();
    for (const { name } of names) {
      const match = typeof name === "string" ? /^g(\d+)_/.exec(name) : null;
      if (match !== null && Number(match[1]) !== generation) others.add(Number(match[1]));
    }
    for (const other of others) new SqlTables(this.#sql, other).drop();
  }

  #assertUsable(): void {
    if (this.#state === "open" || this.#state === "applying") return;
    throw new BackendError(
      this.#state === "closed" ? "the backend is closed" : "a fill has thrown",
    );
  }
}

/** The tables of one generation. */
class SqlTables implements BatchWriter {
  readonly #sql: Sql;
  readonly generation: number;

  constructor(sql: Sql, generation: number) {
    this.#sql = sql;
    this.generation = generation;
  }

  create(): void {
    for (const table of TABLES) {
      consume(
        this.#sql.exec(
          `CREATE TABLE IF NOT EXISTS ${this.#name(table)} (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID`,
        ),
      );
    }
  }

  drop(): void {
    for (const table of TABLES) {
      consume(this.#sql.exec(`DROP TABLE IF EXISTS ${this.#name(table)}`));
    }
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    const rows = this.#sql.exec(`SELECT v FROM ${this.#name(table)} WHERE k = ?`, blobOf(key));
    for (const row of rows) return bytesOfBlob(row["v"]);
    return undefined;
  }

  /** False when the visitor ended the walk. */
  scan(table: Table, options: ScanOptions, visit: Visit): boolean {
    const { start, end, reverse, keysOnly } = options;
    const bounds = [
      ...(start === undefined ? [] : ["k >= ?"]),
      ...(end === undefined ? [] : ["k < ?"]),
    ];
    const where = bounds.length === 0 ? "" : ` WHERE ${bounds.join(" AND ")}`;
    const columns = keysOnly === true ? "k" : "k, v";
    const order = reverse === true ? "DESC" : "ASC";
    const limit = options.firstOnly === true ? " LIMIT 1" : "";
    const rows = this.#sql.exec(
      `SELECT ${columns} FROM ${this.#name(table)}${where} ORDER BY k ${order}${limit}`,
      ...[start, end].filter((bound) => bound !== undefined).map(blobOf),
    );
    for (const row of rows) {
      const value = keysOnly === true ? DELETED : bytesOfBlob(row["v"]);
      if (!visit(bytesOfBlob(row["k"]), value)) return false;
    }
    return true;
  }

  put(table: Table, key: Bytes, value: Bytes): void {
    assert(key.length > 0 && key.length <= KEY_BYTES_MAX, `a key of ${key.length} bytes`);
    consume(
      this.#sql.exec(
        `INSERT OR REPLACE INTO ${this.#name(table)} VALUES (?, ?)`,
        blobOf(key),
        blobOf(value),
      ),
    );
  }

  delete(table: Table, key: Bytes): void {
    consume(this.#sql.exec(`DELETE FROM ${this.#name(table)} WHERE k = ?`, blobOf(key)));
  }

  #name(table: Table): string {
    return `g${this.generation}_${table}`;
  }
}

class SqlPin implements PinnedReader {
  readonly index: number;
  readonly #before: Overlay;
  readonly #base: { readonly tables: SqlTables; release(): void };
  #released = false;

  constructor(index: number, before: Overlay, base: { tables: SqlTables; release(): void }) {
    this.index = index;
    this.#before = before;
    this.#base = base;
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    assert(!this.#released, "a released pin is not read");
    const before = this.#before.maps[table].get(key);
    if (before !== undefined) return before === DELETED ? undefined : before;
    return this.#base.tables.get(table, key);
  }

  scan(table: Table, options: ScanOptions, visit: Visit): void {
    assert(!this.#released, "a released pin is not read");
    const overlay = new OverlayCursor([this.#before], table, options);
    // The first row of the base may be one that the overlay hides.
    const whole = { ...options, firstOnly: false };
    mergedScan(overlay, (each) => this.#base.tables.scan(table, whole, each), visit);
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#base.release();
  }
}
