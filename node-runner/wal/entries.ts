/**
 * The entries of the log since its last compaction, in memory. (Stands in until
 * shared/raft/memory-log.ts is there.)
 */
import { assert } from "../../shared/base/assert.ts";
import type { Entry } from "../../shared/raft/types.ts";

export class Entries {
  #entries: Entry[] = [];
  #base = { index: 0, term: 0 };

  get firstIndex(): number {
    return this.#base.index + 1;
  }

  get lastIndex(): number {
    return this.#base.index + this.#entries.length;
  }

  termOf(index: number): number | undefined {
    if (index === this.#base.index) return this.#base.term;
    return this.#entries[index - this.firstIndex]?.term;
  }

  slice(low: number, high: number, bytesMax: number): readonly Entry[] {
    assert(this.firstIndex <= low && low <= high && high <= this.lastIndex + 1, "slice bounds");
    let bytes = 0;
    let end = low;
    while (end < high) {
      bytes += (this.#entries[end - this.firstIndex] as Entry).data.length;
      if (end > low && bytes > bytesMax) break;
      end += 1;
    }
    return this.#entries.slice(low - this.firstIndex, end - this.firstIndex);
  }

  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    assert(first.index >= this.firstIndex && first.index <= this.lastIndex + 1, "no gap");
    this.#entries.length = first.index - this.firstIndex;
    for (const entry of entries) this.#entries.push(entry);
  }

  restart(index: number, term: number): void {
    this.#entries = [];
    this.#base = { index, term };
  }

  compact(index: number): void {
    if (index <= this.#base.index) return;
    assert(index <= this.lastIndex, "compacts what it holds");
    const term = this.termOf(index) as number;
    this.#entries = this.#entries.slice(index - this.#base.index);
    this.#base = { index, term };
  }
}
