/**
 * A binary min-heap of items with a number each (Williams, "Heapsort", 1964): what comes due first. The numbers stand
 * in an array of their own, so that sifting compares without touching the items. No removal from the middle: who
 * needs that marks the item and drops it when it comes up, or rebuilds.
 */
import { assert } from "./assert.ts";

export class Heap<Item> {
  #priorities: number[] = [];
  #items: Item[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** The least priority; Infinity when empty. */
  get first(): number {
    return this.#priorities[0] ?? Infinity;
  }

  /** The item with the least priority, or undefined. */
  peek(): Item | undefined {
    return this.#items[0];
  }

  push(priority: number, item: Item): void {
    let at = this.#items.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((this.#priorities[parent] as number) <= priority) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#priorities[at] = priority;
    this.#items[at] = item;
  }

  /** Removes the item with the least priority. */
  pop(): Item | undefined {
    const top = this.#items[0];
    const priority = this.#priorities.pop();
    const item = this.#items.pop();
    if (this.#items.length > 0) this.#sink(priority as number, item as Item);
    return top;
  }

  /** Gives the item with the least priority a new one, in one pass. */
  replaceFirst(priority: number): void {
    assert(this.#items.length > 0, "an empty heap has no first item");
    this.#sink(priority, this.#items[0] as Item);
  }

  /** Drops the items that `keep` refuses; O(n). */
  retain(keep: (item: Item) => boolean): void {
    const priorities = this.#priorities;
    const items = this.#items;
    this.clear();
    for (const [at, item] of items.entries()) {
      if (keep(item)) this.push(priorities[at] as number, item);
    }
  }

  clear(): void {
    this.#priorities = [];
    this.#items = [];
  }

  /** Sinks an item from the top to its place. */
  #sink(priority: number, item: Item): void {
    const priorities = this.#priorities;
    const { length } = priorities;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= length) break;
      const right = child + 1;
      if (right < length && (priorities[right] as number) < (priorities[child] as number)) {
        child = right;
      }
      if ((priorities[child] as number) >= priority) break;
      this.#move(child, at);
      at = child;
    }
    priorities[at] = priority;
    this.#items[at] = item;
  }

  #move(from: number, to: number): void {
    this.#priorities[to] = this.#priorities[from] as number;
    this.#items[to] = this.#items[from] as Item;
  }
}
