/**
 * Keys that LMDB can't hold: its own end at 1978 bytes (pages of 4096), ours may fill megabytes. The
 * layout is `shared/backend/long-keys.ts`, with the tree "long" for its nodes.
 */
import { createHash } from "node:crypto";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Table } from "../../shared/backend/backend.ts";
import { LongKeys } from "../../shared/backend/long-keys.ts";
import type { LongPath, NodeRange } from "../../shared/backend/long-keys.ts";

export { NODE_ID_BYTES, POINTER_VALUE, rootOf } from "../../shared/backend/long-keys.ts";

/** With a node's id and the zero byte this stays below LMDB's limit. */
export const CHUNK_BYTES = 1900;

const keys = new LongKeys(CHUNK_BYTES, (a, b) =>
  Uint8Array.from(createHash("sha256").update(a).update(b).digest()),
);

export function nodeBelow(above: Bytes, chunk: Bytes): Bytes {
  return keys.nodeBelow(above, chunk);
}

export function longPath(table: Table, key: Bytes): LongPath {
  return keys.longPath(table, key);
}

export function nodeRange(
  node: Bytes | undefined,
  start: Bytes | undefined,
  end: Bytes | undefined,
): NodeRange {
  return keys.nodeRange(node, start, end);
}

export function boundBelow(bound: Bytes | undefined, chunk: Bytes): Bytes | undefined {
  return keys.boundBelow(bound, chunk);
}
