/**
 * Reads that this follower has asked its leader about. On the way they carry a number of their own,
 * which holds a salt of this start: an answer meant for this node before it restarted, or the second
 * copy of one, finds nothing here and can't pass for the answer to a newer read.
 */
import { assert } from "../base/assert.ts";

/** Numbers below the salt; far more than reads can be under way. */
const COUNTER_SPAN = 2 ** 21;

export class ForwardedReads {
  readonly #pendingMax: number;
  readonly #salt: number;
  readonly #contexts = new Map<number, number>();
  #counter = 0;

  constructor(options: { readonly salt: number; readonly pendingMax: number }) {
    assert(options.salt >= 0 && options.salt < 2 ** 32, "the salt has 32 bits");
    assert(options.pendingMax < COUNTER_SPAN, "numbers outlast the reads under way");
    this.#salt = options.salt;
    this.#pendingMax = options.pendingMax;
  }

  /** The number that names this read on the way; the oldest read gives way when there are many. */
  add(context: number): number {
    if (this.#contexts.size >= this.#pendingMax) {
      for (const oldest of this.#contexts.keys()) {
        this.#contexts.delete(oldest);
        break;
      }
    }
    this.#counter = (this.#counter + 1) % COUNTER_SPAN;
    const number = this.#salt * COUNTER_SPAN + this.#counter;
    this.#contexts.set(number, context);
    return number;
  }

  /** The read that an answer is for, once; `undefined` if it isn't waited for. */
  take(number: number): number | undefined {
    const context = this.#contexts.get(number);
    this.#contexts.delete(number);
    return context;
  }

  reset(): void {
    this.#contexts.clear();
  }
}
