/**
 * A range as etcd defines it (server/etcdserver/txn/range.go): limit, order, filters, keys or count only. The order
 * of things is etcd's and shows in the results:
 * - Without filters and in the natural order the limit goes down to the walk, which takes one key-value more to know
 *   `more`. "none" counts as natural for every target: for a target other than the key those limit + 1 are then
 *   sorted, ascending.
 * - Else everything is fetched, filtered, sorted, and cut at last.
 * - `count` is of all keys of the range, whatever limit and filters say; without a need for values it reads none.
 */
import { assert } from "../base/assert.ts";
import { compareBytes, EMPTY } from "../base/bytes.ts";
import type { BackendReader } from "../backend/backend.ts";
import { decodeKeyValue, findKeyValue } from "./key-layout.ts";
import { KeyWalk, UNBOUNDED } from "./key-walk.ts";
import type { PageCounts } from "./page-counts.ts";
import type { StepBudget } from "./store.ts";
import type { KeyValue, RangeQuery, RangeResult, SortTarget } from "./types.ts";

export class RangeWork {
  readonly #query: RangeQuery;
  readonly #revision: number;
  readonly #pages: PageCounts | undefined;
  /** The count, if it needs no walk. */
  readonly #countKnown: number | undefined;
  readonly #walk: KeyWalk | undefined;
  /** Key-values that are kept; the walk goes on to count behind them. */
  readonly #keepMax: number;
  readonly #kvs: KeyValue[] = [];
  #count = 0;
  #complete = false;

  /** `pages`: absent where the revision isn't complete yet. */
  constructor(reader: BackendReader, query: RangeQuery, revision: number, pages?: PageCounts) {
    this.#query = query;
    this.#revision = revision;
    this.#pages = pages;
    this.#keepMax = keepMax(query);
    this.#countKnown = this.#keepMax === Infinity ? undefined : pages?.find(query, revision);
    if (query.rangeEnd.length === 0) {
      const kv = findKeyValue(reader, query.key, revision);
      if (kv !== undefined) {
        this.#count = 1;
        if (this.#keepMax > 0 && passesFilters(kv, query)) this.#kvs.push(kv);
      }
      this.#complete = true;
    } else {
      const { key, rangeEnd } = query;
      this.#walk = new KeyWalk(reader, { key, rangeEnd, revision }, this.#keepMax > 0);
    }
  }

  advance(budget: StepBudget): boolean {
    if (this.#complete || this.#walk === undefined) return true;
    const walk = this.#walk;
    this.#complete = walk.advance(budget, (row, value) => {
      this.#count += 1;
      if (!walk.wantsValues) {
        if (this.#countKnown !== undefined) walk.stop();
        return;
      }
      const kv = decodeKeyValue(row, value);
      if (passesFilters(kv, this.#query)) this.#kvs.push(kv);
      if (this.#kvs.length < this.#keepMax) return;
      if (this.#countKnown === undefined) walk.wantsValues = false;
      else walk.stop();
    });
    return this.#complete;
  }

  result(): RangeResult {
    assert(this.#complete, "a range is complete before its result is taken");
    const query = this.#query;
    let kvs = this.#kvs;
    const order =
      query.sortOrder === "none" && query.sortTarget !== "key" ? "ascend" : query.sortOrder;
    if (order === "descend" || query.sortTarget !== "key") {
      if (query.sortTarget === "key") kvs.reverse();
      else sortKeyValues(kvs, query.sortTarget, order === "descend");
    }
    const more = query.limit > 0 && kvs.length > query.limit;
    if (more) kvs = kvs.slice(0, query.limit);
    const count = this.#countKnown ?? this.#count;
    assert(count >= kvs.length, "a page is a part of its range");
    if (query.keysOnly) kvs = kvs.map((kv) => withoutValue(kv, query.sortTarget));
    const result = { kvs, count, more };
    const inKeyOrder = query.sortTarget === "key" && order !== "descend";
    if (more && inKeyOrder && this.#keepMax !== Infinity) {
      this.#pages?.note(query, this.#revision, result);
    }
    return result;
  }
}

function keepMax(query: RangeQuery): number {
  if (query.countOnly) return 0;
  const natural =
    query.sortOrder === "none" || (query.sortOrder === "ascend" && query.sortTarget === "key");
  if (!natural || query.limit <= 0 || hasFilters(query)) return Infinity;
  return query.limit + 1;
}

function hasFilters(query: RangeQuery): boolean {
  return (
    query.minModRevision !== 0 ||
    query.maxModRevision !== 0 ||
    query.minCreateRevision !== 0 ||
    query.maxCreateRevision !== 0
  );
}

function passesFilters(kv: KeyValue, query: RangeQuery): boolean {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = query;
  return (
    (maxModRevision === 0 || kv.modRevision <= maxModRevision) &&
    (minModRevision === 0 || kv.modRevision >= minModRevision) &&
    (maxCreateRevision === 0 || kv.createRevision <= maxCreateRevision) &&
    (minCreateRevision === 0 || kv.createRevision >= minCreateRevision)
  );
}

/** In place, by any target. */
export function sortKeyValues(kvs: KeyValue[], target: SortTarget, descending: boolean): void {
  const ascending = comparisonOf(target);
  kvs.sort(descending ? (a, b) => ascending(b, a) : ascending);
}

function comparisonOf(target: SortTarget): (a: KeyValue, b: KeyValue) => number {
  switch (target) {
    case "key":
      return (a, b) => compareBytes(a.key, b.key);
    case "version":
      return (a, b) => a.version - b.version;
    case "create":
      return (a, b) => a.createRevision - b.createRevision;
    case "mod":
      return (a, b) => a.modRevision - b.modRevision;
    case "value":
      return (a, b) => compareBytes(a.value, b.value);
  }
}

/** etcd 3.7 answers keys-only ranges from its index, which knows no lease, unless it had to sort by value. */
export function withoutValue(kv: KeyValue, target: SortTarget): KeyValue {
  return { ...kv, value: EMPTY, lease: target === "value" ? kv.lease : 0n };
}

/** All of it in one step. */
export function runRange(
  reader: BackendReader,
  query: RangeQuery,
  revision: number,
  pages: PageCounts | undefined,
): RangeResult {
  const work = new RangeWork(reader, query, revision, pages);
  assert(work.advance(UNBOUNDED), "an unbounded step completes a range");
  return work.result();
}
