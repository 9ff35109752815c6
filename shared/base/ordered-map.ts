/**
 * An ordered map from byte strings to values: the in-memory tables of backends and their overlays
 * of unflushed writes.
 *
 * It is a B+tree (Comer, "The Ubiquitous B-Tree", 1979): entries stand sorted in leaves of up to
 * `NODE_MAX` keys; a branch holds children and, between each two, a separator s with keys(left) < s
 * <= keys(right). With NODE_MAX = 4:
 *
 *     set a b c d        [a b c d]
 *     set e                 (e)                     a split at the right edge leaves the left node full, so that
 *                    [a b c d] [e]                  ascending keys fill their nodes
 *     set bb             (bb  e)                    a split elsewhere halves the node
 *                  [a b] [bb c d] [e]
 *     delete e           (bb)                       an empty node is dropped, a sparse one joins a neighbour
 *                  [a b] [bb c d]                   if both fit in three quarters of a node
 *
 * `clone` costs O(1): each node has an owner, and a map changes only nodes that it owns, copying
 * others on their way (copy on write). After a clone neither map owns the nodes that exist; so each
 * is a stable view of its own.
 *
 * Measured against fan-outs of 16 to 128 and a plain sorted array (1k to 200k entries, 40-byte
 * keys, random order): an insert or a get takes 0.6 us at 1k, 1 us at 10k and 4 us at 200k (where
 * each comparison misses the cache), a step of a scan 0.03 us. Fan-outs from 32 on are alike; 64
 * splits less than 32 and copies less after a clone than 128. The array's inserts cost 12 us at
 * 100k, and grow.
 *
 * Promises: order is that of `compareBytes`. Keys and values are kept, not copied; callers must not
 * change their bytes. A cursor is valid until the next change of its map; to change while reading,
 * read a clone.
 */
import { assert } from "./assert.ts";
import { type Bytes, compareBytes } from "./bytes.ts";

/** Entries of a leaf, or children of a branch, at most. */
const NODE_MAX = 64;
/** A node below this joins a neighbour if it can. */
const NODE_SPARSE = NODE_MAX / 4;
/**
 * What two joined nodes may hold: below NODE_MAX, so that the next insert doesn't split them again.
 */
const JOINED_MAX = (NODE_MAX * 3) / 4;

/** Who may change a node in place. */
type Owner = object;

/**
 * A leaf (`children` undefined; values[i] belongs to keys[i]) or a branch (keys[i] separates
 * children i and i + 1).
 */
interface Node<Value> {
  readonly owner: Owner;
  readonly keys: Bytes[];
  readonly values: Value[];
  readonly children: Node<Value>[] | undefined;
}

/**
 * A half-open range of keys: from `start` (included; absent: the first) to `end` (excluded; absent:
 * past the last).
 */
export interface OrderedMapRange {
  readonly start?: Bytes | undefined;
  readonly end?: Bytes | undefined;
  /** From the end of the range downwards. */
  readonly reverse?: boolean;
}

export class OrderedMap<Value> {
  #root: Node<Value>;
  #size = 0;
  #owner: Owner = {};
  /** Keys that came and went so far: a scan tells by it that its visitor changed the map. */
  #changes = 0;
  /** What the last `#insert` replaced. */
  #replaced: Value | undefined;

  constructor() {
    this.#root = { owner: this.#owner, keys: [], values: [], children: undefined };
  }

  get size(): number {
    return this.#size;
  }

  get(key: Bytes): Value | undefined {
    let node = this.#root;
    while (node.children !== undefined) {
      node = node.children[childFor(node.keys, key)] as Node<Value>;
    }
    const position = lowerBound(node.keys, key);
    if (position === node.keys.length) return undefined;
    return compareBytes(node.keys[position] as Bytes, key) === 0
      ? node.values[position]
      : undefined;
  }

  /** Returns the value that it replaces, or undefined. */
  set(key: Bytes, value: Value): Value | undefined {
    this.#replaced = undefined;
    this.#root = this.#owned(this.#root);
    const right = this.#insert(this.#root, key, value);
    if (right !== undefined) {
      const root = this.#root;
      const keys = [right.separator];
      this.#root = { owner: this.#owner, keys, values: [], children: [root, right.node] };
    }
    const replaced = this.#replaced;
    this.#replaced = undefined;
    return replaced;
  }

  /** Returns the value that was there, or undefined. */
  delete(key: Bytes): Value | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    this.#root = this.#owned(this.#root);
    this.#remove(this.#root, key);
    this.#size -= 1;
    this.#changes += 1;
    while (this.#root.children?.length === 1) this.#root = this.#root.children[0] as Node<Value>;
    if (this.#root.children?.length === 0) {
      assert(this.#size === 0, "only an empty map has an empty branch");
      this.#root = { owner: this.#owner, keys: [], values: [], children: undefined };
    }
    return value;
  }

  clear(): void {
    this.#owner = {};
    this.#root = { owner: this.#owner, keys: [], values: [], children: undefined };
    this.#size = 0;
    this.#changes += 1;
  }

  /** A map with the same entries, at once; from then on both change apart. */
  clone(): OrderedMap<Value> {
    const copy = new OrderedMap<Value>();
    copy.#root = this.#root;
    copy.#size = this.#size;
    this.#owner = {};
    return copy;
  }

  /** Stands before the first entry of the range; `next` moves on. */
  cursor(range: OrderedMapRange = {}): OrderedMapCursor<Value> {
    return new Cursor(this.#root, range);
  }

  /** Calls `visit` for each entry of the range, in order, until it returns false. */
  scan(range: OrderedMapRange, visit: (key: Bytes, value: Value) => boolean): void {
    const cursor = new Cursor(this.#root, range);
    const changes = this.#changes;
    while (cursor.next()) {
      if (!visit(cursor.key, cursor.value)) return;
      assert(this.#changes === changes, "a map doesn't change while it is scanned");
    }
  }

  #owned(node: Node<Value>): Node<Value> {
    if (node.owner === this.#owner) return node;
    return {
      owner: this.#owner,
      keys: node.keys.slice(),
      values: node.values.slice(),
      children: node.children?.slice(),
    };
  }

  /** Inserts below a node that is owned; returns the right half if the node was split. */
  #insert(
    node: Node<Value>,
    key: Bytes,
    value: Value,
  ): { readonly separator: Bytes; readonly node: Node<Value> } | undefined {
    const { keys, values, children } = node;
    if (children === undefined) {
      const position = lowerBound(keys, key);
      if (position < keys.length && compareBytes(keys[position] as Bytes, key) === 0) {
        this.#replaced = values[position];
        values[position] = value;
        return undefined;
      }
      this.#size += 1;
      this.#changes += 1;
      keys.splice(position, 0, key);
      values.splice(position, 0, value);
      if (keys.length <= NODE_MAX) return undefined;
      const cut = position === keys.length - 1 ? position : keys.length >> 1;
      const rightKeys = keys.splice(cut);
      const rightValues = values.splice(cut);
      return {
        separator: rightKeys[0] as Bytes,
        node: { owner: this.#owner, keys: rightKeys, values: rightValues, children: undefined },
      };
    }
    const position = childFor(keys, key);
    const child = this.#owned(children[position] as Node<Value>);
    children[position] = child;
    const right = this.#insert(child, key, value);
    if (right === undefined) return undefined;
    keys.splice(position, 0, right.separator);
    children.splice(position + 1, 0, right.node);
    if (children.length <= NODE_MAX) return undefined;
    const cut = position === children.length - 2 ? position + 1 : children.length >> 1;
    const rightChildren = children.splice(cut);
    const rightKeys = keys.splice(cut);
    return {
      separator: keys.pop() as Bytes,
      node: { owner: this.#owner, keys: rightKeys, values: [], children: rightChildren },
    };
  }

  /** Removes a key that exists below a node that is owned. */
  #remove(node: Node<Value>, key: Bytes): void {
    const { keys, values, children } = node;
    if (children === undefined) {
      const position = lowerBound(keys, key);
      keys.splice(position, 1);
      values.splice(position, 1);
      return;
    }
    const position = childFor(keys, key);
    const child = this.#owned(children[position] as Node<Value>);
    children[position] = child;
    this.#remove(child, key);
    const size = sizeOf(child);
    if (size === 0) {
      children.splice(position, 1);
      keys.splice(position === 0 ? 0 : position - 1, 1);
    } else if (size < NODE_SPARSE) {
      if (position > 0) this.#join(node, position - 1);
      else if (children.length > 1) this.#join(node, position);
    }
  }

  /** Joins children `left` and `left + 1` of an owned branch if they fit. */
  #join(parent: Node<Value>, left: number): void {
    const children = parent.children as Node<Value>[];
    const right = children[left + 1] as Node<Value>;
    if (sizeOf(children[left] as Node<Value>) + sizeOf(right) > JOINED_MAX) return;
    const joined = this.#owned(children[left] as Node<Value>);
    children[left] = joined;
    if (joined.children !== undefined) {
      joined.keys.push(parent.keys[left] as Bytes);
      joined.children.push(...(right.children as Node<Value>[]));
    }
    joined.keys.push(...right.keys);
    joined.values.push(...right.values);
    children.splice(left + 1, 1);
    parent.keys.splice(left, 1);
  }
}

export interface OrderedMapCursor<Value> {
  /** Moves to the next entry; false when the range is at its end. */
  next(): boolean;
  /** The entry that `next` moved to. */
  readonly key: Bytes;
  readonly value: Value;
}

class Cursor<Value> implements OrderedMapCursor<Value> {
  readonly #reverse: boolean;
  /** The bound at which the walk ends: `end`, or `start` of a reverse walk. */
  readonly #bound: Bytes | undefined;
  /** The branches above the leaf, and the child that was taken in each. */
  readonly #branches: Node<Value>[] = [];
  readonly #taken: number[] = [];
  #leaf: Node<Value>;
  #position: number;
  /** The leaf's entries are walked while `#position` differs from this. */
  #stop = 0;

  constructor(root: Node<Value>, range: OrderedMapRange) {
    this.#reverse = range.reverse === true;
    this.#bound = this.#reverse ? range.start : range.end;
    const from = this.#reverse ? range.end : range.start;
    let node = root;
    while (node.children !== undefined) {
      const edge = this.#reverse ? node.keys.length : 0;
      const position = from === undefined ? edge : childFor(node.keys, from);
      this.#branches.push(node);
      this.#taken.push(position);
      node = node.children[position] as Node<Value>;
    }
    this.#leaf = node;
    if (this.#reverse) {
      this.#position = from === undefined ? node.keys.length : lowerBound(node.keys, from);
    } else {
      this.#position = (from === undefined ? 0 : lowerBound(node.keys, from)) - 1;
    }
    this.#setStop();
  }

  get key(): Bytes {
    return this.#leaf.keys[this.#position] as Bytes;
  }

  get value(): Value {
    return this.#leaf.values[this.#position] as Value;
  }

  next(): boolean {
    const step = this.#reverse ? -1 : 1;
    for (;;) {
      this.#position += step;
      if (this.#reverse ? this.#position > this.#stop : this.#position < this.#stop) return true;
      const edge = this.#reverse ? -1 : this.#leaf.keys.length;
      if (this.#stop !== edge || !this.#nextLeaf(step)) {
        this.#position = this.#stop;
        // A cursor at its end stays there.
        this.#position -= step;
        return false;
      }
    }
  }

  #nextLeaf(step: 1 | -1): boolean {
    let depth = this.#branches.length - 1;
    for (; depth >= 0; depth -= 1) {
      const position = (this.#taken[depth] as number) + step;
      const children = (this.#branches[depth] as Node<Value>).children as Node<Value>[];
      if (position < 0 || position >= children.length) continue;
      this.#taken[depth] = position;
      let node = children[position] as Node<Value>;
      for (depth += 1; node.children !== undefined; depth += 1) {
        const edge = step > 0 ? 0 : node.children.length - 1;
        this.#branches[depth] = node;
        this.#taken[depth] = edge;
        node = node.children[edge] as Node<Value>;
      }
      this.#leaf = node;
      this.#position = step > 0 ? -1 : node.keys.length;
      this.#setStop();
      return true;
    }
    return false;
  }

  #setStop(): void {
    const { keys } = this.#leaf;
    const bound = this.#bound;
    if (this.#reverse) {
      const first = keys[0];
      const inside = bound === undefined || first === undefined || compareBytes(first, bound) >= 0;
      this.#stop = inside ? -1 : lowerBound(keys, bound) - 1;
    } else {
      const last = keys.at(-1);
      const inside = bound === undefined || last === undefined || compareBytes(last, bound) < 0;
      this.#stop = inside ? keys.length : lowerBound(keys, bound);
    }
  }
}

function sizeOf<Value>(node: Node<Value>): number {
  return node.children?.length ?? node.keys.length;
}

/** The first position whose key is >= `key`; the length if there is none. */
function lowerBound(keys: readonly Bytes[], key: Bytes): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareBytes(keys[middle] as Bytes, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The child that may hold `key`: behind the last separator that is <= `key`. */
function childFor(separators: readonly Bytes[], key: Bytes): number {
  let low = 0;
  let high = separators.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareBytes(separators[middle] as Bytes, key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
