/**
 * A walk over the keys that exist at a revision, in order, in bounded steps: under ranges, counts and hashes. It reads
 * the rows of `key` (see key-layout.ts): of each key the first row that is not newer than the revision decides.
 *
 * A key with many versions must not cost a row each: after `IDLE_ROWS_MAX` rows that say nothing the walk jumps, either
 * to the key's row at the revision or past the key's last row.
 */
import { type Bytes, compareBytes } from "../base/bytes.ts";
import type { BackendReader } from "../backend/backend.ts";
import {
  escapeKey,
  isSameKey,
  isTombstoneRow,
  keyOfRow,
  keyRowsAtMost,
  mainOfKeyRow,
  pastRowsOf,
} from "./key-layout.ts";
import type { StepBudget } from "./store.ts";

/** A jump is a search from the root; it costs about as much as so many steps. */
const IDLE_ROWS_MAX = 8;

export const UNBOUNDED: StepBudget = { rows: Infinity, bytes: Infinity };

export interface KeyWalkOptions {
  readonly key: Bytes;
  /** etcd's convention, but never empty: a single key needs no walk. */
  readonly rangeEnd: Bytes;
  readonly revision: number;
}

export class KeyWalk {
  readonly #reader: BackendReader;
  readonly #end: Bytes | undefined;
  readonly #revision: number;
  #start: Bytes;
  #finished = false;
  /** False: `visit` gets empty values, or any. It may be set within `visit`, and holds from the next key on. */
  wantsValues: boolean;

  constructor(reader: BackendReader, options: KeyWalkOptions, wantsValues: boolean) {
    this.#reader = reader;
    this.#revision = options.revision;
    this.#start = escapeKey(options.key);
    this.#end = isOpenEnd(options.rangeEnd) ? undefined : escapeKey(options.rangeEnd);
    if (this.#end !== undefined && compareBytes(this.#start, this.#end) >= 0) this.#finished = true;
    this.wantsValues = wantsValues;
  }

  /** Called within `visit`: the walk ends here, as if the range did. */
  stop(): void {
    this.#finished = true;
  }

  /** Calls `visit` for rows of keys that exist, until the budget is used up; true when the range is done. */
  advance(budget: StepBudget, visit: (row: Bytes, value: Bytes) => void): boolean {
    let { rows, bytes } = budget;
    let current: Bytes | undefined;
    let answered = false;
    while (!this.#finished) {
      const withValues = this.wantsValues;
      let idle = 0;
      let next: Bytes | undefined;
      let paused = false;
      const options = { start: this.#start, end: this.#end, keysOnly: !withValues };
      this.#reader.scan("key", options, (row, value) => {
        if (current === undefined || !isSameKey(row, current)) {
          if (rows <= 0 || bytes <= 0) {
            paused = true;
            next = row;
            return false;
          }
          current = row;
          answered = false;
          idle = 0;
        }
        rows -= 1;
        if (answered || mainOfKeyRow(row) > this.#revision) {
          idle += 1;
          if (idle < IDLE_ROWS_MAX) return true;
          next = answered ? pastRowsOf(row) : keyRowsAtMost(keyOfRow(row), this.#revision);
          return false;
        }
        answered = true;
        if (isTombstoneRow(row)) return true;
        bytes -= row.length + (withValues ? value.length : 0);
        visit(row, value);
        if (this.#finished) return false;
        if (this.wantsValues === withValues) return true;
        next = pastRowsOf(row);
        return false;
      });
      if (next === undefined) this.#finished = true;
      else this.#start = next;
      if (paused) return false;
    }
    return true;
  }
}

/** A range end of one zero byte: no end. */
export function isOpenEnd(rangeEnd: Bytes): boolean {
  return rangeEnd.length === 1 && rangeEnd[0] === 0;
}
