/**
 * SHA-256 (FIPS 180-4) in plain code, for hosts whose platform has none that answers at once. Hosts
 * on Node use the platform's, which is many times faster.
 */
import type { Bytes } from "./bytes.ts";

const BLOCK = 64;

/** The first 32 bits of the fractional parts of a root of each of the first primes. */
function constants(count: number, root: number): Uint32Array {
  const words = new Uint32Array(count);
  for (let found = 0, candidate = 2; found < count; candidate += 1) {
    let prime = true;
    for (let divisor = 2; divisor * divisor <= candidate; divisor += 1) {
      if (candidate % divisor === 0) prime = false;
    }
    if (!prime) continue;
    const power = candidate ** (1 / root);
    words[found] = (power - Math.floor(power)) * 0x1_0000_0000;
    found += 1;
  }
  return words;
}

export class Sha256 {
  readonly #state = constants(8, 2);
  readonly #round = constants(64, 3);
  readonly #words = new Uint32Array(64);
  readonly #block = new Uint8Array(BLOCK);
  #filled = 0;
  #length = 0;

  update(bytes: Bytes): void {
    this.#length += bytes.length;
    let taken = 0;
    while (taken < bytes.length) {
      const count = Math.min(BLOCK - this.#filled, bytes.length - taken);
      this.#block.set(bytes.subarray(taken, taken + count), this.#filled);
      this.#filled += count;
      taken += count;
      if (this.#filled === BLOCK) this.#compress();
    }
  }

  /** The 32 bytes of the hash; nothing may be added afterwards. */
  digest(): Bytes {
    const bits = this.#length * 8;
    this.update(Uint8Array.of(0x80));
    if (this.#filled > BLOCK - 8) this.update(new Uint8Array(BLOCK - this.#filled));
    this.update(new Uint8Array(BLOCK - 8 - this.#filled));
    const length = new DataView(new ArrayBuffer(8));
    length.setUint32(0, Math.floor(bits / 0x1_0000_0000));
    length.setUint32(4, bits >>> 0);
    this.update(new Uint8Array(length.buffer));
    const hash = new DataView(new ArrayBuffer(32));
    for (const [position, word] of this.#state.entries()) hash.setUint32(position * 4, word);
    return new Uint8Array(hash.buffer);
  }

  #compress(): void {
    this.#filled = 0;
    const words = this.#words;
    const view = new DataView(this.#block.buffer);
    const at = (position: number): number => words[position] as number;
    for (let t = 0; t < 16; t += 1) words[t] = view.getUint32(t * 4);
    for (let t = 16; t < 64; t += 1) {
      const [early, late] = [at(t - 15), at(t - 2)];
      const small = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
      const large = rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10);
      words[t] = at(t - 16) + small + at(t - 7) + large;
    }
    let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = this.#state;
    for (let t = 0; t < 64; t += 1) {
      const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const choice = (e & f) ^ (~e & g);
      const first = (h + sum1 + choice + (this.#round[t] as number) + at(t)) | 0;
      const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const majority = (a & b) ^ (a & c) ^ (b & c);
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + sum0 + majority) | 0];
    }
    for (const [position, word] of [a, b, c, d, e, f, g, h].entries()) {
      this.#state[position] = (this.#state[position] as number) + word;
    }
  }
}

function rotate(word: number, by: number): number {
  return (word >>> by) | (word << (32 - by));
}
