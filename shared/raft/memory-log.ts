/**
 * The entries since the last compaction, in memory: the readable part of every log store (the
 * write-ahead log, the Durable Object's store, the simulator). It promises the bounds and answers
 * of `LogReader`, and nothing about durability.
 */
import { assert } from "../base/assert.ts";
import type { Entry } from "./types.ts";

/** Where a log begins: the last index that is not in it, and that entry's term. */
export interface LogBase {
  readonly index: number;
  readonly term: number;
}

export class MemoryLog {
  /** The last compacted entry: `#entries[0]`, if any, has the index after it. */
  #base: LogBase;
  #entries: Entry[] = [];

  constructor(base: LogBase = { index: 0, term: 0 }) {
    this.#base = base;
  }

  get firstIndex(): number {
    return this.#base.index + 1;
  }

  get lastIndex(): number {
    return this.#base.index + this.#entries.length;
  }

  /** The term of an entry or of the base; `undefined` outside. */
  termOf(index: number): number | undefined {
    if (index === this.#base.index) return this.#base.term;
    return this.#entries[index - this.#base.index - 1]?.term;
  }

  /**
   * The entries of [low, high), cut so that their data hold at most `bytesMax` bytes, but never
   * empty unless low = high.
   */
  slice(low: number, high: number, bytesMax: number): readonly Entry[] {
    assert(this.firstIndex <= low && low <= high, `slice [${low}, ${high})`);
    assert(high <= this.lastIndex + 1, `slice up to ${high} of a log up to ${this.lastIndex}`);
    const from = low - this.firstIndex;
    return this.#entries.slice(
      from,
      cutToBytes(this.#entries, from, high - this.firstIndex, bytesMax),
    );
  }

  /** Adds entries; whatever the log holds from the first one's index on is dropped. */
  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    const from = first.index - this.firstIndex;
    assert(from >= 0, `append at ${first.index} before the first index ${this.firstIndex}`);
    assert(from <= this.#entries.length, `append at ${first.index} behind ${this.lastIndex}`);
    if (from < this.#entries.length) this.#entries.length = from;
    for (const entry of entries) {
      assert(entry.index === this.lastIndex + 1, `entry ${entry.index} after ${this.lastIndex}`);
      this.#entries.push(entry);
    }
  }

  /** Drops the entries up to `index`, whose term stays known; no effect if they are gone. */
  compact(index: number): void {
    if (index <= this.#base.index) return;
    const term = this.termOf(index);
    assert(term !== undefined, `compact(${index}) of a log up to ${this.lastIndex}`);
    this.#entries.splice(0, index - this.#base.index);
    this.#base = { index, term };
  }

  /** Starts anew behind a snapshot. */
  reset(base: LogBase): void {
    this.#base = base;
    this.#entries = [];
  }
}

/**
 * The greatest `end` of [from, to) so that `entries[from, end)` hold at most `bytesMax` bytes of
 * data; one entry at least, unless there is none.
 */
export function cutToBytes(
  entries: readonly Entry[],
  from: number,
  to: number,
  bytesMax: number,
): number {
  let bytes = 0;
  for (let position = from; position < to; position += 1) {
    bytes += (entries[position] as Entry).data.length;
    if (bytes > bytesMax && position > from) return position;
  }
  return to;
}

/** Bytes of data in these entries. */
export function bytesOf(entries: readonly { readonly data: Uint8Array }[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += entry.data.length;
  return bytes;
}
