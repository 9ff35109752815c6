/**
 * The `Backend` of a peer in a Durable Object: a SQLite table of (key, value) for each of the
 * store's tables. What a turn applies is durable before anything leaves the object, so visible and
 * durable are the same.
 *
 * SQLite has no read transactions that outlive a turn here: a pin is the store as it is, under an
 * overlay of what was overwritten since. It costs memory for what is written while it is held, and
 * none otherwise.
 *
 * A generation is one set of tables (`sql-tables.ts`). A received snapshot fills the next one;
 * switching to it is one row.
 */
import { assert, assertCount } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import {
  BackendError,
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
import { consume, numberOfColumn, oneRow, type Sql } from "./sql.ts";
import { ROW_LIMITS, SqlTables, type RowLimits } from "./sql-tables.ts";

export class SqlBackend implements Backend {
  readonly #sql: Sql;
  readonly #limits: RowLimits;
  #tables: SqlTables;
  #visibleIndex: number;
  readonly #pins = new Set<Overlay>();
  #state: "open" | "applying" | "broken" | "closed" = "open";

  /** `limits`: for tests. */
  constructor(sql: Sql, limits: RowLimits = ROW_LIMITS) {
    this.#sql = sql;
    this.#limits = limits;
    consume(
      sql.exec(
        "CREATE TABLE IF NOT EXISTS backend (one INTEGER PRIMARY KEY, generation INTEGER, applied INTEGER)",
      ),
    );
    consume(sql.exec("INSERT OR IGNORE INTO backend VALUES (1, 1, 0)"));
    const row = oneRow(sql.exec("SELECT generation, applied FROM backend"));
    this.#visibleIndex = numberOfColumn(row["applied"]);
    this.#tables = new SqlTables(sql, numberOfColumn(row["generation"]), limits);
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
    const tables = new SqlTables(this.#sql, this.#tables.generation + 1, this.#limits);
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
    for (const other of others) new SqlTables(this.#sql, other, this.#limits).drop();
  }

  #assertUsable(): void {
    if (this.#state === "open" || this.#state === "applying") return;
    throw new BackendError(
      this.#state === "closed" ? "the backend is closed" : "a fill has thrown",
    );
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
