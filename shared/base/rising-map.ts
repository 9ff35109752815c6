/**
 * A map from rising numbers (stream ids, sequences) to what is under way under them: entries come in the order of
 * their keys and go soon, in nearly that order. Hot tables are of this kind and not a `Map` for the garbage
 * collector's sake. A `Map` of V8 that sees as many removals as insertions moves to a new table every few of them;
 * the old table keeps its entries and points to its successor. Once one such table has outlived two collections of
 * the young generation, it drags all later ones into the old generation, and with them every request that was ever
 * under way when a table was left: 1.5 KB a put that each collection had to copy, until the next full one.
 *
 * Here keys and values stand in two arrays. A removed value leaves an empty place; when most places are empty, the
 * others close up. Insertion and removal take constant time on average, a search that of a binary search.
 *
 *     set 1 3 5 7    [1a 3b 5c 7d]
 *     delete 1 3     [1- 3- 5c 7d]
 *     delete 7       [5c]
 */
import { assert } from "./assert.ts";

/** Fewer places than this aren't worth closing up. */
const PLACES_KEPT = 16;

export class RisingMap<Value extends object> {
  readonly #keys: number[] = [];
  readonly #values: (Value | undefined)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: number): Value | undefined {
    return this.#values[this.#placeOf(key)];
  }

  has(key: number): boolean {
    return this.get(key) !== undefined;
  }

  /** Adds an entry; its key is above all that were there since the map was last empty. */
  add(key: number, value: Value): void {
    const last = this.#keys[this.#keys.length - 1];
    assert(last === undefined || key > last, `key ${key} behind ${last}`);
    this.#keys.push(key);
    this.#values.push(value);
    this.#size += 1;
  }

  /** No effect if the key isn't there. */
  delete(key: number): void {
    const place = this.#placeOf(key);
    if (this.#values[place] === undefined) return;
    this.#values[place] = undefined;
    this.#size -= 1;
    if (this.#size < this.#keys.length / 2 && this.#keys.length > PLACES_KEPT) this.#closeUp();
  }

  clear(): void {
    this.#values.fill(undefined);
    this.#size = 0;
    this.#closeUp();
  }

  /** By rising keys. The map may change under the walk: what is removed before its turn isn't visited. */
  *values(): Generator<Value> {
    for (let place = 0; place < this.#keys.length;) {
      const key = this.#keys[place] as number;
      const value = this.#values[place];
      if (value !== undefined) yield value;
      // Places may have closed up meanwhile.
      place = this.#keys[place] === key ? place + 1 : this.#lowerBound(key + 1);
    }
  }

  /** Where the key stands; past the end if it doesn't. */
  #placeOf(key: number): number {
    const place = this.#lowerBound(key);
    return this.#keys[place] === key ? place : this.#keys.length;
  }

  /** The first place whose key is at least this one. */
  #lowerBound(key: number): number {
    const keys = this.#keys;
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((keys[middle] as number) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #closeUp(): void {
    let kept = 0;
    for (let place = 0; place < this.#keys.length; place += 1) {
      const value = this.#values[place];
      if (value === undefined) continue;
      this.#keys[kept] = this.#keys[place] as number;
      this.#values[kept] = value;
      kept += 1;
    }
    this.#keys.length = kept;
    this.#values.length = kept;
  }
}
