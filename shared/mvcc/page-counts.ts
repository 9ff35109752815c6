/**
 * How many keys follow the pages that were read. A range with a limit also tells how many keys the whole range has,
 * which means to walk it to its end; a client that reads page after page at one revision would pay for that walk with
 * every page. But what follows a page is known from the page itself: the count less the page. And a revision never
 * changes, so neither do these numbers; they only go, the oldest first.
 */
import { type Bytes, hexOf } from "../base/bytes.ts";
import { LIMITS } from "../base/limits.ts";
import type { RangeQuery, RangeResult } from "./types.ts";

export class PageCounts {
  /** By revision, end and start of the rest of a range. */
  readonly #counts = new Map<string, number>();

  /** The keys of the query's range at the revision, if the page before it was read lately. */
  find(query: RangeQuery, revision: number): number | undefined {
    return this.#counts.size === 0
      ? undefined
      : this.#counts.get(nameOf(query.key, query, revision));
  }

  /** Notes what follows a page that was cut by its limit, in the order of keys. */
  note(query: RangeQuery, revision: number, { kvs, count }: RangeResult): void {
    const last = kvs.at(-1)?.key;
    if (last === undefined || last.length + query.rangeEnd.length > LIMITS.pageKeyBytesMax) return;
    const next = new Uint8Array(last.length + 1);
    next.set(last);
    this.#counts.set(nameOf(next, query, revision), count - kvs.length);
    if (this.#counts.size <= LIMITS.pagesRememberedMax) return;
    for (const oldest of this.#counts.keys()) {
      this.#counts.delete(oldest);
      return;
    }
  }

  clear(): void {
    this.#counts.clear();
  }
}

function nameOf(start: Bytes, query: RangeQuery, revision: number): string {
  return `${revision}/${hexOf(query.rangeEnd)}/${hexOf(start)}`;
}
