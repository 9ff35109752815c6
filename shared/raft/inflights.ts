/**
 * The append messages that are under way to one follower: a window bounded by count and by bytes
 * (thesis section 10.2.1, pipelining). A first-in-first-out queue of (last index, bytes).
 */
import { assert } from "../base/assert.ts";

/** Freed places at the queue's head that are kept before it is cut. */
const SLACK = 64;

export class Inflights {
  readonly #countMax: number;
  readonly #bytesMax: number;
  #lastIndexes: number[] = [];
  #bytes: number[] = [];
  /** Position of the oldest message that is still under way. */
  #head = 0;
  #bytesTotal = 0;

  constructor(limits: { readonly countMax: number; readonly bytesMax: number }) {
    assert(limits.countMax > 0 && limits.bytesMax > 0, "an empty window");
    this.#countMax = limits.countMax;
    this.#bytesMax = limits.bytesMax;
  }

  get count(): number {
    return this.#lastIndexes.length - this.#head;
  }

  get full(): boolean {
    return this.count >= this.#countMax || this.#bytesTotal >= this.#bytesMax;
  }

  add(lastIndex: number, bytes: number): void {
    assert(!this.full, "the window is full");
    assert(this.count === 0 || lastIndex > (this.#lastIndexes.at(-1) ?? 0), "window order");
    this.#lastIndexes.push(lastIndex);
    this.#bytes.push(bytes);
    this.#bytesTotal += bytes;
  }

  /** Frees the messages whose entries are all at or below `index`. */
  freeTo(index: number): void {
    while (this.#head < this.#lastIndexes.length) {
      if ((this.#lastIndexes[this.#head] as number) > index) break;
      this.#bytesTotal -= this.#bytes[this.#head] as number;
      this.#head += 1;
    }
    if (this.#head < SLACK && this.#head < this.#lastIndexes.length) return;
    this.#lastIndexes.splice(0, this.#head);
    this.#bytes.splice(0, this.#head);
    this.#head = 0;
  }

  clear(): void {
    this.#lastIndexes = [];
    this.#bytes = [];
    this.#head = 0;
    this.#bytesTotal = 0;
  }
}
