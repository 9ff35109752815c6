/**
 * HPACK's Huffman code (RFC 7541 section 5.2 and appendix B). The code is canonical, so the
 * lengths of its 257 codes (256 octets and EOS) are the whole table: codes follow by counting
 * upwards in order of (length, symbol).
 *
 * Decoding walks a state machine four bits at a time. A state is an inner node of the code's tree;
 * no code is shorter than five bits, so four bits end at most one symbol.
 */
import { assert } from "../../shared/base/assert.ts";

// oxfmt-ignore
const CODE_LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
  28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
  6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23,
  23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
  22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
  22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26,
  27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const SYMBOLS = 257;
const EOS = 256;

/** Codes, right-aligned, by symbol. */
const CODES = canonicalCodes();

/*
 * A transition: bits 0-7 the next state, 8-15 the symbol, then these flags. `ACCEPTS`: the input
 * may end in the next state, as what remains is fewer than eight one bits, the padding that
 * section 5.2 demands.
 */
const EMITS = 1 << 16;
const ACCEPTS = 1 << 17;
const FAILS = 1 << 18;
const TRANSITIONS = buildTransitions();

function canonicalCodes(): readonly number[] {
  assert(CODE_LENGTHS.length === SYMBOLS, "a length for each octet and EOS");
  const codes = Array.from({ length: SYMBOLS }, () => 0);
  const order = [...codes.keys()].sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  let code = 0;
  let length = 0;
  for (const symbol of order) {
    code <<= lengthOf(symbol) - length;
    length = lengthOf(symbol);
    codes[symbol] = code;
    code += 1;
  }
  assert(codes[EOS] === 0x3fff_ffff, "EOS is thirty one bits");
  return codes;
}

function lengthOf(symbol: number): number {
  return CODE_LENGTHS[symbol] as number;
}

/**
 * The tree's inner nodes, each with its two children: another node, or `-1 - symbol` for a leaf.
 */
function buildTree(): [number, number][] {
  const nodes: [number, number][] = [[0, 0]];
  for (let symbol = 0; symbol < SYMBOLS; symbol += 1) {
    let at = 0;
    for (let bit = lengthOf(symbol) - 1; bit >= 0; bit -= 1) {
      const node = nodes[at] as [number, number];
      const side = (((CODES[symbol] as number) >>> bit) & 1) as 0 | 1;
      if (bit === 0) {
        node[side] = -1 - symbol;
      } else {
        if (node[side] === 0) node[side] = nodes.push([0, 0]) - 1;
        at = node[side];
      }
    }
  }
  assert(nodes.length === SYMBOLS - 1, "a full binary tree, so that a state fits in eight bits");
  return nodes;
}

function buildTransitions(): Int32Array {
  const nodes = buildTree();
  const accepting = new Set<number>();
  for (let at = 0, depth = 0; depth < 8; depth += 1) {
    accepting.add(at);
    at = (nodes[at] as [number, number])[1];
  }
  const transitions = new Int32Array(nodes.length * 16);
  for (let state = 0; state < nodes.length; state += 1) {
    for (let nibble = 0; nibble < 16; nibble += 1) {
      let at = state;
      let flags = 0;
      for (let bit = 3; bit >= 0; bit -= 1) {
        const next = (nodes[at] as [number, number])[((nibble >>> bit) & 1) as 0 | 1];
        if (next >= 0) {
          at = next;
        } else {
          const symbol = -1 - next;
          flags |= symbol === EOS ? FAILS : EMITS | (symbol << 8);
          at = 0;
        }
      }
      transitions[state * 16 + nibble] = at | flags | (accepting.has(at) ? ACCEPTS : 0);
    }
  }
  return transitions;
}

/** Decoded octets never outnumber this: the shortest code has five bits. */
export function huffmanDecodedBytesMax(encodedBytes: number): number {
  return Math.ceil((encodedBytes * 8) / 5);
}

/**
 * Decodes `source[start, end)` into `target` and returns the number of octets, or -1 when the
 * input holds EOS, ends within a code, or its padding is not all ones or longer than seven bits.
 * `target` must hold `huffmanDecodedBytesMax`.
 */
export function huffmanDecode(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
): number {
  let state = 0;
  let length = 0;
  let entry = ACCEPTS;
  for (let position = start; position < end; position += 1) {
    const octet = source[position] as number;
    entry = TRANSITIONS[state * 16 + (octet >>> 4)] as number;
    if ((entry & (EMITS | FAILS)) !== 0) {
      if ((entry & FAILS) !== 0) return -1;
      target[length++] = entry >>> 8;
    }
    entry = TRANSITIONS[(entry & 0xff) * 16 + (octet & 15)] as number;
    if ((entry & (EMITS | FAILS)) !== 0) {
      if ((entry & FAILS) !== 0) return -1;
      target[length++] = entry >>> 8;
    }
    state = entry & 0xff;
  }
  return (entry & ACCEPTS) === 0 ? -1 : length;
}

/** The octets that `huffmanEncode` writes for this text of Latin-1 characters. */
export function huffmanEncodedBytes(text: string): number {
  let bits = 0;
  for (let at = 0; at < text.length; at += 1) bits += lengthOf(text.charCodeAt(at) & 0xff);
  return (bits + 7) >>> 3;
}

/** Writes the code of Latin-1 `text` at `offset` and returns the offset behind it. */
export function huffmanEncode(text: string, target: Uint8Array, offset: number): number {
  let bits = 0;
  let count = 0;
  let at = offset;
  for (let position = 0; position < text.length; position += 1) {
    const symbol = text.charCodeAt(position) & 0xff;
    let code = CODES[symbol] as number;
    let length = lengthOf(symbol);
    // At most seven bits wait, so a code of thirty goes in two parts: a shift by more than 31 bits
    // would lose some.
    if (length > 16) {
      bits = (bits << (length - 16)) | (code >>> 16);
      count += length - 16;
      while (count >= 8) {
        count -= 8;
        target[at++] = bits >>> count;
      }
      code &= 0xffff;
      length = 16;
    }
    bits = (bits << length) | code;
    count += length;
    while (count >= 8) {
      count -= 8;
      target[at++] = bits >>> count;
    }
    bits &= (1 << count) - 1;
  }
  if (count > 0) target[at++] = (bits << (8 - count)) | (0xff >>> count);
  return at;
}
