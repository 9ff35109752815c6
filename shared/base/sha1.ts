/**
 * SHA-1 (FIPS 180-4), for one purpose: etcd derives the ids of members from it, and so do we. It
 * protects nothing. Short inputs only: the whole is padded in memory.
 */
import type { Bytes } from "./bytes.ts";

const BLOCK_BYTES = 64;

/** The 20 bytes of the digest. */
export function sha1(input: Bytes): Bytes {
  const blocks = Math.ceil((input.length + 9) / BLOCK_BYTES);
  const padded = new Uint8Array(blocks * BLOCK_BYTES);
  padded.set(input);
  padded[input.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, BigInt(input.length) * 8n);
  const state: State = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  for (let offset = 0; offset < padded.length; offset += BLOCK_BYTES) {
    mix(state, scheduleOf(view, offset));
  }
  const digest = new DataView(new ArrayBuffer(20));
  for (const [position, word] of state.entries()) digest.setUint32(4 * position, word);
  return new Uint8Array(digest.buffer);
}

type State = [number, number, number, number, number];

/** The 80 words of a block. */
function scheduleOf(view: DataView, offset: number): Uint32Array {
  const words = new Uint32Array(80);
  const word = (round: number): number => words[round] as number;
  for (let round = 0; round < 16; round += 1) words[round] = view.getUint32(offset + 4 * round);
  for (let round = 16; round < 80; round += 1) {
    words[round] = rotate(
      word(round - 3) ^ word(round - 8) ^ word(round - 14) ^ word(round - 16),
      1,
    );
  }
  return words;
}

function mix(state: State, words: Uint32Array): void {
  let [a, b, c, d, e] = state;
  for (const [round, word] of words.entries()) {
    const [chosen, constant] = functionOf(round, [b, c, d]);
    const next = (rotate(a, 5) + chosen + e + constant + word) >>> 0;
    e = d;
    d = c;
    c = rotate(b, 30);
    b = a;
    a = next;
  }
  for (const [position, word] of [a, b, c, d, e].entries()) {
    state[position] = ((state[position] as number) + word) >>> 0;
  }
}

function functionOf(round: number, [b, c, d]: [number, number, number]): [number, number] {
  if (round < 20) return [((b & c) | (~b & d)) >>> 0, 0x5a827999];
  if (round < 40) return [(b ^ c ^ d) >>> 0, 0x6ed9eba1];
  if (round < 60) return [((b & c) | (b & d) | (c & d)) >>> 0, 0x8f1bbcdc];
  return [(b ^ c ^ d) >>> 0, 0xca62c1d6];
}

function rotate(word: number, bits: number): number {
  return ((word << bits) | (word >>> (32 - bits))) >>> 0;
}
