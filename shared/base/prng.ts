/**
 * A seeded pseudo-random generator (xoshiro128**, Blackman and Vigna 2018; seeded by splitmix32).
 * The replicated logic and the simulator draw all their chance from one, so that a seed replays a
 * run. Not for secrets.
 */
import { assert } from "./assert.ts";

export class Prng {
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    let mixed = seed >>> 0;
    for (let position = 0; position < 4; position += 1) {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let z = mixed;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      this.#state[position] = (z ^ (z >>> 16)) >>> 0;
    }
    if (this.#state.every((word) => word === 0)) this.#state[0] = 1;
  }

  /** A whole number in [0, 2^32). */
  uint32(): number {
    const s = this.#state;
    const [a, b, c, d] = [s[0] as number, s[1] as number, s[2] as number, s[3] as number];
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    s[2] = c ^ a;
    s[3] = d ^ b;
    s[1] = b ^ s[2];
    s[0] = a ^ s[3];
    s[2] = s[2] ^ (b << 9);
    const last = s[3];
    s[3] = (last << 11) | (last >>> 21);
    return result;
  }

  /** A whole number in [0, bound), for 1 <= bound <= 2^32. */
  below(bound: number): number {
    assert(Number.isInteger(bound) && bound >= 1 && bound <= 0x1_0000_0000, `bound ${bound}`);
    return Math.floor((this.uint32() / 0x1_0000_0000) * bound);
  }

  /** A whole number in [low, high], both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.uint32() < probability * 0x1_0000_0000;
  }

  /** One of the items, which must not be empty. */
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }

  /** A generator of its own, whose draws don't change this one's any further. */
  fork(): Prng {
    return new Prng(this.uint32());
  }
}
