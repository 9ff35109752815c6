/** A checksum of the rows of all tables, in steps: CRC-32C of each table's name, keys and values. */
import { assert } from "../base/assert.ts";
import { type Bytes, equalBytes, utf8 } from "../base/bytes.ts";
import { crc32c } from "../base/crc32c.ts";
import { TABLES } from "../backend/backend.ts";
import type { PinnedReader, Table } from "../backend/backend.ts";
import type { Cursor, StepBudget } from "./store.ts";

/** A row that doesn't count. */
export interface LeftOut {
  readonly table: Table;
  readonly key: Bytes;
}

/** The cursor owns the pin. */
export function openTableHash(pin: PinnedReader, leftOut: LeftOut): Cursor<number> {
  return new TableHash(pin, leftOut);
}

class TableHash implements Cursor<number> {
  readonly #pin: PinnedReader;
  readonly #leftOut: LeftOut;
  #place = 0;
  /** The row to go on behind; undefined: the table's name is due. */
  #last: Bytes | undefined;
  #crc = 0;

  constructor(pin: PinnedReader, leftOut: LeftOut) {
    this.#pin = pin;
    this.#leftOut = leftOut;
  }

  advance(budget: StepBudget): boolean {
    let { rows, bytes } = budget;
    while (this.#place < TABLES.length) {
      const table = TABLES[this.#place] as (typeof TABLES)[number];
      const last = this.#last;
      if (rows <= 0 || bytes <= 0) return false;
      if (last === undefined) this.#crc = crc32c(utf8(table), { previous: this.#crc });
      let paused = false;
      this.#pin.scan(table, { start: last }, (key, value) => {
        if (last !== undefined && equalBytes(key, last)) return true;
        if (rows <= 0 || bytes <= 0) {
          paused = true;
          return false;
        }
        rows -= 1;
        bytes -= key.length + value.length;
        this.#last = key;
        if (table === this.#leftOut.table && equalBytes(key, this.#leftOut.key)) return true;
        this.#crc = crc32c(key, { previous: this.#crc });
        this.#crc = crc32c(value, { previous: this.#crc });
        return true;
      });
      if (paused) return false;
      this.#place += 1;
      this.#last = undefined;
    }
    return true;
  }

  result(): number {
    assert(this.#place === TABLES.length, "a hash is complete before its result is taken");
    return this.#crc;
  }

  close(): void {
    this.#pin.release();
  }
}
