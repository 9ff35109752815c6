/**
 * Keys that a store can't hold in one row, as a layout over rows with shorter ones. A long key is cut
 * into chunks, which form a path through a trie, so that byte order stays exact and nothing is read
 * to write:
 *
 * - A key of up to `chunkBytes` bytes is a row of its table under itself.
 * - Of a longer one the first `chunkBytes` bytes and a zero byte make a pointer row in its table. It
 *   sorts right behind the key that is exactly those bytes, and before every other short key; the
 *   rest of the key goes on in the node that the pointer leads to.
 * - A node is the rows of the table "long" that start with the node's id: the first 16 bytes of the
 *   SHA-256 of the id of the node above (at the root the table's name) and the chunk. Inside, rest
 *   and pointers are as in the table.
 *
 * An empty node is harmless to readers; deletes take pointers away that lead nowhere.
 */
import { EMPTY, concatBytes, prefixEnd, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Table } from "./backend.ts";

export const NODE_ID_BYTES = 16;

const ZERO = Uint8Array.of(0);

/** The value of pointer rows; never read. */
export const POINTER_VALUE = Uint8Array.of(1);

/** The root's id: it stands for the table in the ids of nodes, not in keys. */
export function rootOf(table: Table): Bytes {
  return utf8(table);
}

export interface LongPath {
  /** The pointer row in the table itself. */
  readonly tablePointer: Bytes;
  /** The pointer rows in the table "long", downwards. */
  readonly pointers: readonly Bytes[];
  /** The row with the value in the table "long". */
  readonly row: Bytes;
}

/**
 * The rows of one node that a range of its keys can touch. `inclusiveEnd`: the end is a pointer
 * that may lead inside.
 */
export interface NodeRange {
  readonly start: Bytes | undefined;
  readonly end: Bytes | undefined;
  readonly inclusiveEnd: boolean;
}

export class LongKeys {
  readonly chunkBytes: number;
  readonly #sha256: (a: Bytes, b: Bytes) => Bytes;

  /** `sha256`: of two byte strings, one behind the other. */
  constructor(chunkBytes: number, sha256: (a: Bytes, b: Bytes) => Bytes) {
    this.chunkBytes = chunkBytes;
    this.#sha256 = sha256;
  }

  /** The node that a pointer leads to. */
  nodeBelow(above: Bytes, chunk: Bytes): Bytes {
    return this.#sha256(above, chunk).slice(0, NODE_ID_BYTES);
  }

  longPath(table: Table, key: Bytes): LongPath {
    const { chunkBytes } = this;
    const tablePointer = concatBytes(key.subarray(0, chunkBytes), ZERO);
    let node = this.nodeBelow(rootOf(table), key.subarray(0, chunkBytes));
    const pointers: Bytes[] = [];
    let offset = chunkBytes;
    while (key.length - offset > chunkBytes) {
      const chunk = key.subarray(offset, offset + chunkBytes);
      pointers.push(concatBytes(node, chunk, ZERO));
      node = this.nodeBelow(node, chunk);
      offset += chunkBytes;
    }
    return { tablePointer, pointers, row: concatBytes(node, key.subarray(offset)) };
  }

  /** `node`: absent for the table itself. */
  nodeRange(node: Bytes | undefined, start: Bytes | undefined, end: Bytes | undefined): NodeRange {
    const lead = node ?? EMPTY;
    const low = start === undefined ? undefined : this.#boundIn(lead, start);
    if (end === undefined) {
      return { start: low ?? node, end: node && prefixEnd(node), inclusiveEnd: false };
    }
    const inclusiveEnd = end.length > this.chunkBytes;
    return { start: low ?? node, end: this.#boundIn(lead, end), inclusiveEnd };
  }

  /**
   * What a bound above a pointer means inside the node that it leads to; `undefined`: the node is
   * inside as a whole.
   */
  boundBelow(bound: Bytes | undefined, chunk: Bytes): Bytes | undefined {
    if (bound === undefined || bound.length <= this.chunkBytes) return undefined;
    for (let position = 0; position < this.chunkBytes; position += 1) {
      if (bound[position] !== chunk[position]) return undefined;
    }
    return bound.subarray(this.chunkBytes);
  }

  #boundIn(lead: Bytes, bound: Bytes): Bytes {
    const { chunkBytes } = this;
    if (bound.length > chunkBytes) return concatBytes(lead, bound.subarray(0, chunkBytes), ZERO);
    return lead.length === 0 ? bound : concatBytes(lead, bound);
  }
}
