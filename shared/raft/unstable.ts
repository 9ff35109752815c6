/**
 * The end of the log that is not yet known to be durable: entries that the host still has to take,
 * entries that it is writing, and a received snapshot on its way to be installed. Everything below
 * `offset` is durable and read from the host's log.
 *
 *   host's log          | written, not yet durable | not yet handed out
 *   ... durable         | offset ...               | unhanded ... lastIndex
 *
 * Invariant: offset <= unhanded <= offset + entries.
 */
import { assert } from "../base/assert.ts";
import { cutToBytes } from "./memory-log.ts";
import type { Entry, SnapshotMark } from "./types.ts";

const NO_ENTRIES: readonly Entry[] = [];

export class Unstable {
  /** The index of the first entry here; the one after the last durable entry when there is none. */
  #offset: number;
  #entries: Entry[] = [];
  /** The first index that has not been handed out. */
  #unhanded: number;
  #snapshot: SnapshotMark | undefined;
  #snapshotHanded = false;

  constructor(offset: number) {
    this.#offset = offset;
    this.#unhanded = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  /** A snapshot that is not yet installed. */
  get snapshot(): SnapshotMark | undefined {
    return this.#snapshot;
  }

  get hasWork(): boolean {
    if (this.#snapshot !== undefined && !this.#snapshotHanded) return true;
    return this.#unhanded < this.#offset + this.#entries.length;
  }

  /** `undefined` below the offset, except for a pending snapshot's own index. */
  termOf(index: number): number | undefined {
    if (index === this.#snapshot?.index) return this.#snapshot.term;
    return this.#entries[index - this.#offset]?.term;
  }

  /** The entries of [low, high), cut to `bytesMax` bytes; one at least unless `mayBeEmpty`. */
  slice(
    low: number,
    high: number,
    limit: { readonly bytesMax: number; readonly mayBeEmpty: boolean },
  ): readonly Entry[] {
    const from = low - this.#offset;
    assert(from >= 0 && low <= high, `unstable [${low}, ${high})`);
    assert(high - this.#offset <= this.#entries.length, `unstable up to ${high}`);
    const to = cutToBytes(this.#entries, from, high - this.#offset, limit.bytesMax);
    const first = this.#entries[from];
    if (limit.mayBeEmpty && first !== undefined && first.data.length > limit.bytesMax) {
      return NO_ENTRIES;
    }
    return this.#entries.slice(from, to);
  }

  /** Adds entries. Those from the first one's index on are dropped, here and in the host's log. */
  append(entries: readonly Entry[], from: number): void {
    const start = (entries[from] as Entry).index;
    if (start < this.#offset) {
      // The host's log holds a conflicting end; it will be overwritten by this one.
      assert(this.#snapshot === undefined, "an overwrite below a pending snapshot");
      this.#offset = start;
      this.#entries = [];
    } else {
      assert(start <= this.#offset + this.#entries.length, `a gap before ${start}`);
      this.#entries.length = start - this.#offset;
    }
    if (this.#unhanded > start) this.#unhanded = start;
    for (let position = from; position < entries.length; position += 1) {
      const entry = entries[position] as Entry;
      assert(entry.index === start + position - from, `entry ${entry.index} out of order`);
      this.#entries.push(entry);
    }
  }

  /** The log starts anew behind a snapshot. */
  restore(snapshot: SnapshotMark): void {
    this.#offset = snapshot.index + 1;
    this.#unhanded = this.#offset;
    this.#entries = [];
    this.#snapshot = snapshot;
    this.#snapshotHanded = false;
  }

  /** The entries that the host has not seen yet, once. */
  takeEntries(): readonly Entry[] {
    const end = this.#offset + this.#entries.length;
    if (this.#unhanded === end) return NO_ENTRIES;
    const entries = this.#entries.slice(this.#unhanded - this.#offset);
    this.#unhanded = end;
    return entries;
  }

  /** The snapshot that the host has not seen yet, once. */
  takeSnapshot(): SnapshotMark | undefined {
    if (this.#snapshotHanded) return undefined;
    this.#snapshotHanded = this.#snapshot !== undefined;
    return this.#snapshot;
  }

  /** Entries up to `index` are durable. */
  durableTo(index: number): void {
    if (index < this.#offset) return;
    assert(index < this.#unhanded, `durable ${index}, but handed out up to ${this.#unhanded - 1}`);
    const count = index + 1 - this.#offset;
    this.#entries = count === this.#entries.length ? [] : this.#entries.slice(count);
    this.#offset = index + 1;
  }

  /** The snapshot of this index is installed, unless a newer one took its place. */
  installed(index: number): void {
    if (this.#snapshot?.index === index && this.#snapshotHanded) this.#snapshot = undefined;
  }
}
