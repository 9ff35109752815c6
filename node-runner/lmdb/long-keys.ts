/**
 * Keys that LMDB can't hold. LMDB's own keys end at 1978 bytes (pages of 4096); ours may fill
 * megabytes. A long key is cut into chunks, which form a path through a trie, so that byte order
 * stays exact and nothing is read to write:
 *
 * - A key of up to CHUNK_BYTES bytes is a row of its table's tree under itself.
 * - Of a longer one the first CHUNK_BYTES bytes and a zero byte make a pointer row in its table's
 *   tree. It sorts right behind the key that is exactly those bytes, and before every other short
 *   key; the rest of the key goes on in the node that the pointer leads to.
 * - A node is the rows of the tree "long" that start with the node's id: the first 16 bytes of the
 *   SHA-256 of the id of the node above (at the root the table's name) and the chunk. Inside, rest
 *   and pointers are as in the table's tree.
 *
 * An empty node is harmless to readers; deletes take pointers away that lead nowhere.
 */
import { createHash } from "node:crypto";
import { EMPTY, concatBytes, prefixEnd, utf8 } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Table } from "../../shared/backend/backend.ts";

/** With a node's id and the zero byte this stays below LMDB's limit. */
export const CHUNK_BYTES = 1900;
export const NODE_ID_BYTES = 16;

const ZERO = Uint8Array.of(0);

/** The value of pointer rows; never read. */
export const POINTER_VALUE = Uint8Array.of(1);

/** The node that a pointer leads to. */
export function nodeBelow(above: Bytes, chunk: Bytes): Bytes {
  const digest = createHash("sha256").update(above).update(chunk).digest();
  return Uint8Array.from(digest.subarray(0, NODE_ID_BYTES));
}

/** The root's id: it stands for the table in the ids of nodes, not in keys. */
export function rootOf(table: Table): Bytes {
  return utf8(table);
}

export interface LongPath {
  /** The pointer row in the table's own tree. */
  readonly tablePointer: Bytes;
  /** The pointer rows in the tree "long", downwards. */
  readonly pointers: readonly Bytes[];
  /** The row with the value in the tree "long". */
  readonly row: Bytes;
}

export function longPath(table: Table, key: Bytes): LongPath {
  const tablePointer = concatBytes(key.subarray(0, CHUNK_BYTES), ZERO);
  let node = nodeBelow(rootOf(table), key.subarray(0, CHUNK_BYTES));
  const pointers: Bytes[] = [];
  let offset = CHUNK_BYTES;
  while (key.length - offset > CHUNK_BYTES) {
    const chunk = key.subarray(offset, offset + CHUNK_BYTES);
    pointers.push(concatBytes(node, chunk, ZERO));
    node = nodeBelow(node, chunk);
    offset += CHUNK_BYTES;
  }
  return { tablePointer, pointers, row: concatBytes(node, key.subarray(offset)) };
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

export function nodeRange(
  node: Bytes | undefined,
  start: Bytes | undefined,
  end: Bytes | undefined,
): NodeRange {
  const lead = node ?? EMPTY;
  const low = start === undefined ? undefined : boundIn(lead, start);
  if (end === undefined) {
    return { start: low ?? node, end: node && prefixEnd(node), inclusiveEnd: false };
  }
  const inclusiveEnd = end.length > CHUNK_BYTES;
  return { start: low ?? node, end: boundIn(lead, end), inclusiveEnd };
}

function boundIn(lead: Bytes, bound: Bytes): Bytes {
  if (bound.length > CHUNK_BYTES) return concatBytes(lead, bound.subarray(0, CHUNK_BYTES), ZERO);
  return lead.length === 0 ? bound : concatBytes(lead, bound);
}

/**
 * What a bound above a pointer means inside the node that it leads to; `undefined`: the node is
 * inside as a whole.
 */
export function boundBelow(bound: Bytes | undefined, chunk: Bytes): Bytes | undefined {
  if (bound === undefined || bound.length <= CHUNK_BYTES) return undefined;
  for (let position = 0; position < CHUNK_BYTES; position += 1) {
    if (bound[position] !== chunk[position]) return undefined;
  }
  return bound.subarray(CHUNK_BYTES);
}
