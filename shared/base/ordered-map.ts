/**
 * An ordered map from byte strings to values: the in-memory tables of backends and their overlays of unflushed
 * writes.
 *
 * It is a B+tree (Comer, "The Ubiquitous B-Tree", 1979): entries stand sorted in leaves of up to `NODE_MAX` keys; a
 * branch holds children and, between each two, a separator s with keys(left) < s <= keys(right). With NODE_MAX = 4:
 *
 *     set a b c d        [a b c d]
 *     set e                 (e)                     a split at the right edge leaves the left node full, so that
 *                    [a b c d] [e]                  ascending keys fill their nodes
 *     set bb             (bb  e)                    a split elsewhere halves the node
 *                  [a b] [bb c d] [e]
 *     delete e           (bb)                       an empty node is dropped, a sparse one joins a neighbour
 *                  [a b] [bb c d]                   if both fit in three quarters of a node
 *
 * `clone` costs O(1): each node has an owner, and a map changes only nodes that it owns, copying others on their way
 * (copy on write). After a clone neither map owns the nodes that exist; so each is a stable view of its own.
 *
 * Keys of a node stand in a `KeyRun`, which searches them by numbers. Measured in random order with 40-byte keys: at
 * 1k, 10k and 200k entries an insert takes 0.5, 0.7 and 2 us, a get 0.3, 0.4 and 2 us, a step of a scan 0.03 us.
 * Plain binary search in the nodes takes 2 to 4 times as long; fan-outs of 32 and 64 come close; a sorted array's
 * inserts take 12 us at 100k already.
 *
 * Promises: order is that of `compareBytes`. Keys and values are kept, not copied; callers must not change their
 * bytes. A cursor is valid until the next change of its map; to change while reading, read a clone.
 */
import { assert } from "./assert.ts";
import { type Bytes, compareBytes } from "./bytes.ts";
import { KeyRun, insertAt } from "./key-run.ts";

/** Entries of a leaf, or children of a branch, at most. */
const NODE_MAX = 128;
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
  readonly keys: KeyRun;
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
    this.#root = { owner: this.#owner, keys: new KeyRun(), values: [], children: undefined };
  }

  get size(): number {
    return this.#size;
  }

  get(key: Bytes): Value | undefined {
    let node = this.#root;
    while (node.children !== undefined) {
      node = node.children[node.keys.upperBound(key)] as Node<Value>;
    }
    const position = node.keys.lowerBound(key);
    return node.keys.isAt(position, key) ? node.values[position] : undefined;
  }

  /** Returns the value that it replaces, or undefined. */
  set(key: Bytes, value: Value): Value | undefined {
    this.#replaced = undefined;
    this.#root = this.#owned(this.#root);
    const right = this.#insert(this.#root, key, value);
    if (right !== undefined) {
      const root = this.#root;
      const keys = new KeyRun([right.separator]);
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
      this.#root = { owner: this.#owner, keys: new KeyRun(), values: [], children: undefined };
    }
    return value;
  }

  clear(): void {
    this.#owner = {};
    this.#root = { owner: this.#owner, keys: new KeyRun(), values: [], children: undefined };
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
      keys: node.keys.copy(),
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
      const position = keys.lowerBound(key);
      if (keys.isAt(position, key)) {
        this.#replaced = values[position];
        values[position] = value;
        return undefined;
      }
      this.#size += 1;
      this.#changes += 1;
      keys.insert(position, key);
      insertAt(values, position, value);
      if (keys.length <= NODE_MAX) return undefined;
      const cut = position === keys.length - 1 ? position : keys.length >> 1;
      const right = keys.cut(cut);
      const rightValues = values.splice(cut);
      return {
        separator: right.at(0),
        node: { owner: this.#owner, keys: right, values: rightValues, children: undefined },
      };
    }
    const position = keys.upperBound(key);
    const child = this.#owned(children[position] as Node<Value>);
    children[position] = child;
    const split = this.#insert(child, key, value);
    if (split === undefined) return undefined;
    keys.insert(position, split.separator);
    children.splice(position + 1, 0, split.node);
    if (children.length <= NODE_MAX) return undefined;
    const cut = position === children.length - 2 ? position + 1 : children.length >> 1;
    const rightChildren = children.splice(cut);
    const right = keys.cut(cut);
    const separator = keys.at(cut - 1);
    keys.remove(cut - 1);
    return {
      separator,
      node: { owner: this.#owner, keys: right, values: [], children: rightChildren },
    };
  }

  /** Removes a key that exists below a node that is owned. */
  #remove(node: Node<Value>, key: Bytes): void {
    const { keys, values, children } = node;
    if (children === undefined) {
      const position = keys.lowerBound(key);
      keys.remove(position);
      values.splice(position, 1);
      return;
    }
    const position = keys.upperBound(key);
    const child = this.#owned(children[position] as Node<Value>);
    children[position] = child;
    this.#remove(child, key);
    const size = sizeOf(child);
    if (size === 0) {
      children.splice(position, 1);
      if (keys.length > 0) keys.remove(position === 0 ? 0 : position - 1);
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
      joined.keys.append(parent.keys.at(left));
      joined.children.push(...(right.children as Node<Value>[]));
    }
    joined.keys.append(...right.keys.keys());
    joined.values.push(...right.values);
    children.splice(left + 1, 1);
    parent.keys.remove(left);
  }
}

export interface OrderedMapCursor<Value> {
  /** Moves to the next entry; false when the range is at its end. */
  next(): boolean;
  /** The entry that `next` moved to. */
  readonly key: Bytes;
  readonly value: Value;
}

/**
 * Stands in one leaf and knows the fence at which the next leaf begins: the separator next to its path. Moving on is a
 * new search for the fence, once per leaf.
 */
class Cursor<Value> implements OrderedMapCursor<Value> {
  readonly #root: Node<Value>;
  readonly #reverse: boolean;
  /** The bound at which the walk ends: `end`, or `start` of a reverse walk. */
  readonly #bound: Bytes | undefined;
  #leaf: Node<Value>;
  #position = 0;
  /** The leaf's entries are walked while `#position` differs from this. */
  #stop = 0;
  /** Separates the leaf from the next one in the walk's direction; undefined: it is the last. */
  #fence: Bytes | undefined;

  constructor(root: Node<Value>, range: OrderedMapRange) {
    this.#root = root;
    this.#leaf = root;
    this.#reverse = range.reverse === true;
    this.#bound = this.#reverse ? range.start : range.end;
    if (this.#reverse) this.#enterBefore(range.end);
    else this.#enterAt(range.start);
  }

  get key(): Bytes {
    return this.#leaf.keys.at(this.#position);
  }

  get value(): Value {
    return this.#leaf.values[this.#position] as Value;
  }

  next(): boolean {
    for (;;) {
      if (this.#reverse) {
        if (this.#position - 1 > this.#stop) {
          this.#position -= 1;
          return true;
        }
        if (this.#stop >= 0 || this.#fence === undefined) return false;
        this.#enterBefore(this.#fence);
      } else {
        if (this.#position + 1 < this.#stop) {
          this.#position += 1;
          return true;
        }
        if (this.#stop < this.#leaf.keys.length || this.#fence === undefined) return false;
        this.#enterAt(this.#fence);
      }
    }
  }

  /** Enters the leaf of the first key >= `from`, and stands before that. */
  #enterAt(from: Bytes | undefined): void {
    let node = this.#root;
    this.#fence = undefined;
    while (node.children !== undefined) {
      const child = from === undefined ? 0 : node.keys.upperBound(from);
      if (child < node.keys.length) this.#fence = node.keys.at(child);
      node = node.children[child] as Node<Value>;
    }
    const { keys } = node;
    this.#leaf = node;
    this.#position = (from === undefined ? 0 : keys.lowerBound(from)) - 1;
    const bound = this.#bound;
    const inside =
      bound === undefined || keys.length === 0 || compareBytes(keys.at(keys.length - 1), bound) < 0;
    this.#stop = inside ? keys.length : keys.lowerBound(bound);
  }

  /** Enters the leaf of the last key < `before`, and stands behind that. */
  #enterBefore(before: Bytes | undefined): void {
    let node = this.#root;
    this.#fence = undefined;
    while (node.children !== undefined) {
      const child = before === undefined ? node.keys.length : node.keys.lowerBound(before);
      if (child > 0) this.#fence = node.keys.at(child - 1);
      node = node.children[child] as Node<Value>;
    }
    const { keys } = node;
    this.#leaf = node;
    this.#position = before === undefined ? keys.length : keys.lowerBound(before);
    const bound = this.#bound;
    const inside = bound === undefined || keys.length === 0 || compareBytes(keys.at(0), bound) >= 0;
    this.#stop = inside ? -1 : keys.lowerBound(bound) - 1;
  }
}

function sizeOf<Value>(node: Node<Value>): number {
  return node.children?.length ?? node.keys.length;
}
