/**
 * The bytes of a snapshot: the whole state of a peer, free of any host's storage format, so that Node and Durable
 * Object hosts read each other's. Chunks travel one by one; each is checked by itself, and the last one vouches for
 * all.
 *
 * chunk    kind byte, payload, CRC-32C of kind and payload (4 bytes, big-endian)
 * header   kind 1: number version (1), 8-byte cluster id, 8-byte index, 8-byte term, 8-byte term of the leader that
 *          sends it (0: none), then voters and learners, lists of texts. While a joint change is under way version 2:
 *          the list of its old voters behind them. The first chunk, once
 * rows     kind 2: byte table (place in `TABLES`), then (bytes key, bytes value) up to the end. Tables in order, keys
 *          in order; a table may take many chunks
 * end      kind 3: SHA-256 of all chunks before, as they were sent. The last chunk, once
 * resume   kind 4: term of the leader, index, chunks (8 bytes each): a stream that goes on behind so many chunks of a
 *          broken one begins with it. Not hashed
 */
import { assert } from "../../base/assert.ts";
import { ByteReader, MalformedError } from "../../base/byte-reader.ts";
import { ByteWriter } from "../../base/byte-writer.ts";
import type { Bytes } from "../../base/bytes.ts";
import { compareBytes } from "../../base/bytes.ts";
import { crc32c } from "../../base/crc32c.ts";
import { LIMITS } from "../../base/limits.ts";
import type { PinnedReader, Row, Table } from "../../backend/backend.ts";
import { TABLES } from "../../backend/backend.ts";
import type { SnapshotMark } from "../../raft/types.ts";

const VERSION = 1;
/** With the old voters: the cluster speaks version 2 then (`wire/peer-codec.ts`). */
const JOINT_VERSION = 2;
const HEADER = 1;
const ROWS = 2;
const END = 3;
const RESUME = 4;
const CRC_BYTES = 4;

export interface SnapshotHeader {
  readonly clusterId: bigint;
  readonly leaderTerm: number;
  readonly mark: SnapshotMark;
}

export type SnapshotChunk =
  | { readonly kind: "header"; readonly header: SnapshotHeader }
  | { readonly kind: "rows"; readonly table: Table; readonly rows: readonly Row[] }
  | { readonly kind: "end"; readonly hash: Bytes }
  | ({ readonly kind: "resume" } & ResumePoint);

/** Behind how many chunks of which snapshot a stream goes on. */
export interface ResumePoint {
  readonly term: number;
  readonly index: number;
  readonly chunks: number;
}

/** The stream is damaged, cut, or of a newer version. */
export class SnapshotError extends Error {
  override readonly name = "SnapshotError";
}

/** Streams and their failures don't meet: each chunk is written by a writer of its own stream. */
function finishChunk(writer: ByteWriter): Bytes {
  const body = writer.finish();
  const chunk = new Uint8Array(body.length + CRC_BYTES);
  chunk.set(body);
  new DataView(chunk.buffer).setUint32(body.length, crc32c(body));
  return chunk;
}

export function encodeHeader({ clusterId, leaderTerm, mark }: SnapshotHeader): Bytes {
  const writer = new ByteWriter();
  const { voters, learners, votersOutgoing, learnersNext } = mark.membership;
  assert(learnersNext.length === 0, "no change makes a voter a learner");
  const joint = votersOutgoing.length > 0;
  writer.byte(HEADER);
  writer.varint(joint ? JOINT_VERSION : VERSION);
  writer.fixed64(clusterId);
  writer.fixedCount(mark.index);
  writer.fixedCount(mark.term);
  writer.fixedCount(leaderTerm);
  for (const ids of joint ? [voters, learners, votersOutgoing] : [voters, learners]) {
    writer.varint(ids.length);
    for (const id of ids) writer.text(id);
  }
  return finishChunk(writer);
}

export function encodeEnd(hash: Bytes): Bytes {
  const writer = new ByteWriter();
  writer.byte(END);
  writer.raw(hash);
  return finishChunk(writer);
}

export function encodeResume({ term, index, chunks }: ResumePoint): Bytes {
  const writer = new ByteWriter();
  writer.byte(RESUME);
  for (const count of [term, index, chunks]) writer.fixedCount(count);
  return finishChunk(writer);
}

/** The rows of all tables, in chunks of about `snapshotChunkBytes`; each chunk is one bounded read of the view. */
export function* encodeRows(view: PinnedReader): Generator<Bytes, void, undefined> {
  const writer = new ByteWriter();
  for (const [place, table] of TABLES.entries()) {
    let start: Bytes | undefined;
    for (;;) {
      let last: Bytes | undefined;
      let complete = true;
      writer.byte(ROWS);
      writer.byte(place);
      view.scan(table, { start }, (key, value) => {
        if (writer.length >= LIMITS.snapshotChunkBytes) {
          complete = false;
          return false;
        }
        writer.bytes(key);
        writer.bytes(value);
        last = key;
        return true;
      });
      const chunk = finishChunk(writer);
      if (last !== undefined) yield chunk;
      if (complete || last === undefined) break;
      start = successor(last);
    }
  }
}

/** The first key after `key`. */
function successor(key: Bytes): Bytes {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}

export function decodeChunk(chunk: Bytes): SnapshotChunk {
  const end = chunk.length - CRC_BYTES;
  if (end < 1) throw new SnapshotError("a chunk of a snapshot is too short");
  const { buffer, byteOffset } = chunk;
  const stored = new DataView(buffer, byteOffset, chunk.length).getUint32(end);
  if (crc32c(chunk, { end }) !== stored) {
    throw new SnapshotError("a chunk of a snapshot is damaged: its checksum differs");
  }
  try {
    return readChunk(new ByteReader(chunk, 0, end), end);
  } catch (cause) {
    if (!(cause instanceof MalformedError)) throw cause;
    throw new SnapshotError(`a chunk of a snapshot is malformed: ${cause.message}`, { cause });
  }
}

function readChunk(reader: ByteReader, end: number): SnapshotChunk {
  const kind = reader.byte();
  switch (kind) {
    case HEADER:
      return { kind: "header", header: readHeader(reader) };
    case ROWS:
      return readRows(reader);
    case END:
      return { kind: "end", hash: reader.raw(end - 1) };
    case RESUME:
      return { kind: "resume", ...readResume(reader) };
    default:
      throw new SnapshotError(`a chunk of a snapshot has unknown kind ${kind}`);
  }
}

function readResume(reader: ByteReader): ResumePoint {
  const point = {
    term: reader.fixedCount(),
    index: reader.fixedCount(),
    chunks: reader.fixedCount(),
  };
  if (!reader.atEnd) throw new SnapshotError("a resume point goes on behind its end");
  return point;
}

function readHeader(reader: ByteReader): SnapshotHeader {
  const version = reader.varint();
  if (version !== VERSION && version !== JOINT_VERSION)
    throw new SnapshotError(`a snapshot of format ${version}`);
  const clusterId = reader.uint64();
  const index = reader.fixedCount();
  const term = reader.fixedCount();
  const leaderTerm = reader.fixedCount();
  const ids = (): string[] => {
    const count = reader.varint();
    const list: string[] = [];
    while (list.length < count) list.push(reader.text());
    return list;
  };
  const [voters, learners] = [ids(), ids()];
  const votersOutgoing = version === JOINT_VERSION ? ids() : [];
  const autoLeave = votersOutgoing.length > 0;
  const membership = { voters, learners, votersOutgoing, learnersNext: [], autoLeave };
  if (!reader.atEnd) throw new SnapshotError("a snapshot's header goes on behind its end");
  return { clusterId, leaderTerm, mark: { index, term, membership } };
}

function readRows(reader: ByteReader): SnapshotChunk {
  const table = TABLES[reader.byte()];
  if (table === undefined) throw new SnapshotError("a snapshot has an unknown table");
  const rows: Row[] = [];
  while (!reader.atEnd) {
    const key = reader.bytes();
    const previous = rows[rows.length - 1];
    if (previous !== undefined && compareBytes(previous[0], key) >= 0) {
      throw new SnapshotError("rows of a snapshot are out of order");
    }
    // Copies: a backend keeps what it is given, and the chunk would stay with the smallest row.
    rows.push([key.slice(), reader.bytes().slice()]);
  }
  return { kind: "rows", table, rows };
}
