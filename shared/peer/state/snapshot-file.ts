/**
 * A snapshot as a file, or as the stream of Maintenance.Snapshot: the chunks of `snapshot-format.ts`, each
 * with its length, and a hash of the whole in the place where etcd's clients expect it.
 *
 *     16 bytes   "quorate snapshot"
 *     records    4-byte length (big-endian, at least 1), chunk
 *     4 bytes    0: no more records
 *     zeros      up to a length that 512 divides, as etcd's clients demand
 *     32 bytes   SHA-256 of everything before
 */
import { equalBytes, utf8 } from "../../base/bytes.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { Hasher, Host } from "../host.ts";
import { SnapshotError } from "./snapshot-format.ts";

const FILE_MAGIC: Bytes = utf8("quorate snapshot");
export const FILE_HASH_BYTES = 32;

const LENGTH_BYTES = 4;
const BLOCK_BYTES = 512;

/** The file's bytes in pieces, one a chunk, the last one the hash alone. */
export async function* fileOf(
  chunks: AsyncIterable<Bytes>,
  host: Pick<Host, "sha256">,
): AsyncGenerator<Bytes, void, undefined> {
  const hasher = host.sha256();
  let length = 0;
  const hashed = (bytes: Bytes): Bytes => {
    hasher.update(bytes);
    length += bytes.length;
    return bytes;
  };
  yield hashed(FILE_MAGIC);
  for await (const chunk of chunks) {
    const record = new Uint8Array(LENGTH_BYTES + chunk.length);
    new DataView(record.buffer).setUint32(0, chunk.length);
    record.set(chunk, LENGTH_BYTES);
    yield hashed(record);
  }
  const behind = length + LENGTH_BYTES;
  yield hashed(
    new Uint8Array(LENGTH_BYTES + ((BLOCK_BYTES - (behind % BLOCK_BYTES)) % BLOCK_BYTES)),
  );
  yield hasher.digest();
}

/** Where a snapshot file is read from: a part of at most `length` bytes, shorter at the end alone. */
export type ReadAt = (position: number, length: number) => Bytes;

/** Whether this is the beginning of such a file. */
export function isSnapshotFile(start: Bytes): boolean {
  return equalBytes(start.subarray(0, FILE_MAGIC.length), FILE_MAGIC);
}

/** The chunks of a file. Throws `SnapshotError` where it isn't one; does not check the hash of the whole. */
export function* chunksOfFile(read: ReadAt): Generator<Bytes, void, undefined> {
  if (!isSnapshotFile(read(0, FILE_MAGIC.length))) {
    throw new SnapshotError("it doesn't begin as a snapshot of quorate");
  }
  let position = FILE_MAGIC.length;
  for (;;) {
    const head = read(position, LENGTH_BYTES);
    if (head.length < LENGTH_BYTES) throw new SnapshotError(`it ends after ${position} bytes`);
    const length = new DataView(head.buffer, head.byteOffset, LENGTH_BYTES).getUint32(0);
    position += LENGTH_BYTES;
    if (length === 0) return;
    if (length > LIMITS.snapshotFileChunkBytesMax) {
      throw new SnapshotError(`at ${position - LENGTH_BYTES} there is a chunk of ${length} bytes`);
    }
    const chunk = read(position, length);
    if (chunk.length < length) throw new SnapshotError(`it is cut off in a chunk at ${position}`);
    yield chunk;
    position += length;
  }
}

/** The hash that a file of `size` bytes must end with: of all its bytes but the last 32. */
export function hashOfFile(
  read: ReadAt,
  size: number,
  hasher: Hasher,
): { readonly stored: Bytes; readonly actual: Bytes } {
  const end = size - FILE_HASH_BYTES;
  for (let position = 0; position < end; position += LIMITS.snapshotChunkBytes) {
    hasher.update(read(position, Math.min(LIMITS.snapshotChunkBytes, end - position)));
  }
  return { stored: read(Math.max(0, end), FILE_HASH_BYTES), actual: hasher.digest() };
}
