/**
 * Cuts short byte arrays off larger blocks. A byte array of its own costs an allocation outside of
 * the JS heap, which collecting garbage has to account for; a cut costs a fifth of that.
 *
 * A block is freed once none of its cuts is in use any more: a slab is for arrays that are given up
 * about when those are which were made along with them.
 */
import type { Bytes } from "./bytes.ts";

const BLOCK_BYTES = 64 * 1024;
/** Longer ones get memory of their own, so that little of a block is left over. */
export const CUT_BYTES_MAX = 4 * 1024;

export class Slab {
  #block: Bytes = new Uint8Array(0);
  #used = 0;

  /** An array that the caller fills; nobody else has it. */
  take(length: number): Bytes {
    if (length > CUT_BYTES_MAX) return new Uint8Array(length);
    if (this.#used + length > this.#block.length) {
      this.#block = new Uint8Array(BLOCK_BYTES);
      this.#used = 0;
    }
    const start = this.#used;
    this.#used += length;
    return new Uint8Array(this.#block.buffer, start, length);
  }

  copyOf(source: Bytes): Bytes {
    const copy = this.take(source.length);
    copy.set(source);
    return copy;
  }
}
