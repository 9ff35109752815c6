/**
 * A sorted run of distinct byte strings, searched without touching most of them: the keys of a node of an
 * `OrderedMap`.
 *
 * Keys of a node lie close together, so they begin alike. A run remembers how many bytes all of its keys share, and
 * of each key its head: the next four bytes, as a number. A search compares the shared bytes once and then only
 * numbers that stand side by side in memory; it opens a key only where heads are equal.
 *
 *     shared 12, heads of "0042" "0107" "0955":   /registry/pods/0042   /registry/pods/0107   /registry/pods/0955
 *
 * The shared length may be less than what the keys happen to share (after removals), never more.
 */
import { assert } from "./assert.ts";
import { type Bytes } from "./bytes.ts";

export class KeyRun {
  readonly #keys: Bytes[];
  readonly #heads: number[];
  #shared: number;

  constructor(keys: Bytes[] = [], heads?: number[], shared = 0) {
    this.#keys = keys;
    this.#heads = heads ?? [];
    this.#shared = shared;
    if (heads === undefined) this.#measure();
  }

  get length(): number {
    return this.#keys.length;
  }

  at(position: number): Bytes {
    return this.#keys[position] as Bytes;
  }

  /** The first position whose key is >= `key`; the length if there is none. */
  lowerBound(key: Bytes): number {
    return this.#search(key, 0);
  }

  /** The first position whose key is > `key`; the length if there is none. */
  upperBound(key: Bytes): number {
    return this.#search(key, 1);
  }

  /** True if just this key stands there. */
  isAt(position: number, key: Bytes): boolean {
    const other = this.#keys[position];
    if (other === undefined || other.length !== key.length) return false;
    // From the end: keys that are close differ there.
    for (let offset = key.length - 1; offset >= 0; offset -= 1) {
      if (other[offset] !== key[offset]) return false;
    }
    return true;
  }

  insert(position: number, key: Bytes): void {
    const first = this.#keys[0];
    insertAt(this.#keys, position, key);
    if (first !== undefined && sharedBytes(first, key, this.#shared) === this.#shared) {
      insertAt(this.#heads, position, headOf(key, this.#shared));
    } else this.#measure();
  }

  remove(position: number): void {
    this.#keys.splice(position, 1);
    this.#heads.splice(position, 1);
  }

  /** Cuts off the keys from `position` on and returns them. */
  cut(position: number): KeyRun {
    const rest = new KeyRun(this.#keys.splice(position));
    this.#heads.length = position;
    this.#measure();
    return rest;
  }

  /** Adds keys that all sort behind these. */
  append(...keys: readonly Bytes[]): void {
    this.#keys.push(...keys);
    this.#measure();
  }

  keys(): readonly Bytes[] {
    return this.#keys;
  }

  copy(): KeyRun {
    return new KeyRun(this.#keys.slice(), this.#heads.slice(), this.#shared);
  }

  /** `past` 1: equal keys count as smaller. */
  #search(key: Bytes, past: 0 | 1): number {
    const keys = this.#keys;
    const heads = this.#heads;
    const shared = this.#shared;
    const first = keys[0];
    if (first === undefined) return 0;
    const alike = sharedBytes(first, key, shared);
    if (alike < shared) {
      const before = alike === key.length || (key[alike] as number) < (first[alike] as number);
      return before ? 0 : keys.length;
    }
    const head = headOf(key, shared);
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = heads[middle] as number;
      let smaller = other < head;
      if (other === head) smaller = compareFrom(keys[middle] as Bytes, key, shared) < past;
      if (smaller) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Finds the shared length and the heads anew. */
  #measure(): void {
    const keys = this.#keys;
    const [first, last] = [keys[0], keys.at(-1)];
    if (first === undefined || last === undefined) {
      this.#shared = 0;
      return;
    }
    const shared = sharedBytes(first, last, Infinity);
    this.#shared = shared;
    const heads = this.#heads;
    for (let at = 0; at < keys.length; at += 1) heads[at] = headOf(keys[at] as Bytes, shared);
    assert(heads.length === keys.length, "each key has a head");
  }
}

/** As `splice` does, but without the array of what was removed; for the lengths of nodes. */
export function insertAt<Item>(items: Item[], position: number, item: Item): void {
  assert(position <= items.length, "an item is inserted between others or at the end");
  items.push(item);
  for (let at = items.length - 1; at > position; at -= 1) items[at] = items[at - 1] as Item;
  items[position] = item;
}

/** How many bytes `a` and `b` begin with alike, `most` at most. */
function sharedBytes(a: Bytes, b: Bytes, most: number): number {
  const end = Math.min(a.length, b.length, most);
  let offset = 0;
  while (offset < end && a[offset] === b[offset]) offset += 1;
  return offset;
}

/** Four bytes from `offset` on, as a small integer whose order is theirs; zeros stand for bytes behind the end. */
function headOf(key: Bytes, offset: number): number {
  const { length } = key;
  let head = 0;
  if (offset + 4 <= length) {
    head =
      ((key[offset] as number) << 24) |
      ((key[offset + 1] as number) << 16) |
      ((key[offset + 2] as number) << 8) |
      (key[offset + 3] as number);
  } else {
    for (let at = offset; at < offset + 4; at += 1)
      head = (head << 8) | (at < length ? (key[at] as number) : 0);
  }
  return head ^ 0x8000_0000;
}

/** Negative, zero or positive, as `a` sorts before, with or behind `b`, which begin with `offset` equal bytes. */
function compareFrom(a: Bytes, b: Bytes, offset: number): number {
  const end = Math.min(a.length, b.length);
  for (let at = offset; at < end; at += 1) {
    const difference = (a[at] as number) - (b[at] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
