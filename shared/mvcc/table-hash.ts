/** A checksum of all rows of all tables, in steps: CRC-32C of each table's name, keys and values. */
import { assert } from "../base/assert.ts";
import { type Bytes, equalBytes, utf8 } from "../base/bytes.ts";
import { crc32c } from "../base/crc32c.ts";
import { TABLES } from "../backend/backend.ts";
import type { PinnedReader } from "../backend/backend.ts";
import type { Cursor, StepBudget } from "./store.ts";

/** The cursor owns the pin. */
export function openTableHash(pin: PinnedReader): Cursor<number> {
  return new TableHash(pin);
}

class TableHash implements Cursor<number> {
  readonly #pin: PinnedReader;
  #place = 0;
  /** The row to go on behind; undefined: the table's name is due. */
  #last: Bytes | undefined;
  #crc = 0;

  constructor(pin: PinnedReader) {
    this.#pin = pin;
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
        this.#crc = crc32c(key, { previous: this.#crc });
        this.#crc = crc32c(value, { previous: this.#crc });
        this.#last = key;
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
