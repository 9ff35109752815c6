/**
 * Half-open intervals of byte strings, and which of them hold a point: the index of watchers, where a point is a
 * changed key.
 *
 * It is a treap (Seidel and Aragon, "Randomized search trees", 1996), ordered by start and then end, whose nodes also
 * know the greatest end below them (Cormen et al., "Introduction to Algorithms", interval trees). A stab descends
 * only where that end lies behind the point and leaves what starts behind it, so it costs O(log n) and as much for
 * each interval found:
 *
 *                [c, f) max g            stab d:  [c, f) holds it; left, because d < c's max: [a, e) holds it;
 *               /            \                    right: [d, d.) holds it; [f, g) starts behind it
 *        [a, e) max e     [d, d.) max g
 *                                 \
 *                               [f, g)
 *
 * Each interval is there once, with one value; who has many of the same keeps them in that value. Priorities come
 * from a generator with a fixed seed: the shape depends on the history of calls alone.
 */
import { assert } from "./assert.ts";
import { type Bytes, compareBytes } from "./bytes.ts";
import { Prng } from "./prng.ts";

interface Node<Value> {
  readonly start: Bytes;
  /** Undefined: no end. */
  readonly end: Bytes | undefined;
  readonly priority: number;
  value: Value;
  left: Node<Value> | undefined;
  right: Node<Value> | undefined;
  /** The greatest end of this node and all below it. */
  endMax: Bytes | undefined;
}

export class IntervalTree<Value> {
  readonly #prng = new Prng(0x7eee);
  #root: Node<Value> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The value of just this interval. */
  get(start: Bytes, end: Bytes | undefined): Value | undefined {
    let node = this.#root;
    while (node !== undefined) {
      const order = compareIntervals(start, end, node);
      if (order === 0) return node.value;
      node = order < 0 ? node.left : node.right;
    }
    return undefined;
  }

  /** Adds the interval, or replaces its value. It must not be empty. */
  set(start: Bytes, end: Bytes | undefined, value: Value): void {
    assert(end === undefined || compareBytes(start, end) < 0, "an interval holds a point");
    this.#root = this.#insert(this.#root, start, end, value);
  }

  /** Returns the value that was there, or undefined. */
  delete(start: Bytes, end: Bytes | undefined): Value | undefined {
    const value = this.get(start, end);
    if (value === undefined) return undefined;
    this.#root = remove(this.#root as Node<Value>, start, end);
    this.#size -= 1;
    return value;
  }

  /** Calls `visit` with the value of each interval that holds `point`, in order of their starts. */
  stab(point: Bytes, visit: (value: Value) => void): void {
    stab(this.#root, point, visit);
  }

  /** Calls `visit` with every value, in order of the intervals. */
  forEach(visit: (value: Value) => void): void {
    forEach(this.#root, visit);
  }

  #insert(
    node: Node<Value> | undefined,
    start: Bytes,
    end: Bytes | undefined,
    value: Value,
  ): Node<Value> {
    if (node === undefined) {
      this.#size += 1;
      const priority = this.#prng.uint32();
      return { start, end, priority, value, left: undefined, right: undefined, endMax: end };
    }
    const order = compareIntervals(start, end, node);
    if (order === 0) {
      node.value = value;
      return node;
    }
    if (order < 0) {
      node.left = this.#insert(node.left, start, end, value);
      if (node.left.priority > node.priority) return rotateRight(node);
    } else {
      node.right = this.#insert(node.right, start, end, value);
      if (node.right.priority > node.priority) return rotateLeft(node);
    }
    update(node);
    return node;
  }
}

function stab<Value>(
  node: Node<Value> | undefined,
  point: Bytes,
  visit: (value: Value) => void,
): void {
  let at = node;
  while (at !== undefined) {
    if (at.endMax !== undefined && compareBytes(at.endMax, point) <= 0) return;
    stab(at.left, point, visit);
    if (compareBytes(at.start, point) > 0) return;
    if (at.end === undefined || compareBytes(at.end, point) > 0) visit(at.value);
    at = at.right;
  }
}

function forEach<Value>(node: Node<Value> | undefined, visit: (value: Value) => void): void {
  if (node === undefined) return;
  forEach(node.left, visit);
  visit(node.value);
  forEach(node.right, visit);
}

function compareEnds(a: Bytes | undefined, b: Bytes | undefined): number {
  if (a === undefined) return b === undefined ? 0 : 1;
  return b === undefined ? -1 : compareBytes(a, b);
}

function compareIntervals<Value>(start: Bytes, end: Bytes | undefined, node: Node<Value>): number {
  const order = compareBytes(start, node.start);
  return order === 0 ? compareEnds(end, node.end) : order;
}

function update<Value>(node: Node<Value>): void {
  let endMax = node.end;
  if (node.left !== undefined && compareEnds(node.left.endMax, endMax) > 0)
    endMax = node.left.endMax;
  if (node.right !== undefined && compareEnds(node.right.endMax, endMax) > 0) {
    endMax = node.right.endMax;
  }
  node.endMax = endMax;
}

function rotateRight<Value>(node: Node<Value>): Node<Value> {
  const top = node.left as Node<Value>;
  node.left = top.right;
  top.right = node;
  update(node);
  update(top);
  return top;
}

function rotateLeft<Value>(node: Node<Value>): Node<Value> {
  const top = node.right as Node<Value>;
  node.right = top.left;
  top.left = node;
  update(node);
  update(top);
  return top;
}

/** Removes an interval that is there. */
function remove<Value>(
  node: Node<Value>,
  start: Bytes,
  end: Bytes | undefined,
): Node<Value> | undefined {
  const order = compareIntervals(start, end, node);
  if (order === 0) return join(node.left, node.right);
  if (order < 0) node.left = remove(node.left as Node<Value>, start, end);
  else node.right = remove(node.right as Node<Value>, start, end);
  update(node);
  return node;
}

/** One treap of two, all of whose left intervals come before the right ones. */
function join<Value>(
  left: Node<Value> | undefined,
  right: Node<Value> | undefined,
): Node<Value> | undefined {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.priority > right.priority) {
    left.right = join(left.right, right);
    update(left);
    return left;
  }
  right.left = join(left, right.left);
  update(right);
  return right;
}
