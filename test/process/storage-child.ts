/**
 * A process that writes to a member's storage as fast as it can until it is killed, and prints the
 * highest index that is durable in its log: `node storage-child.ts DIRECTORY`. Entry i puts i under
 * key i mod KEYS. Some entries are deleted again, snapshots are installed, the log is compacted and
 * the database is defragmented again and again on the way.
 */
import { writeSync } from "node:fs";
import { openStorage } from "../../node-runner/data-dir/storage.ts";
import { EMPTY, readUint64, writeUint64 } from "../../shared/base/bytes.ts";
import type { Backend, BatchWriter } from "../../shared/backend/backend.ts";
import type { Bytes } from "../../shared/base/bytes.ts";

export const IDENTITY = { clusterId: 5n, memberId: 6n };
export const KEYS = 500;
export const TERM = 3;

function bytesOf(number: number): Bytes {
  const bytes = new Uint8Array(8);
  writeUint64(bytes, 0, number);
  return bytes;
}

export function entryData(index: number): Bytes {
  const data = new Uint8Array(20 + (index % 700)).fill(index);
  writeUint64(data, 0, index);
  return data;
}

function applyEntry(writer: BatchWriter, index: number): void {
  writer.put("key", bytesOf(index % KEYS), bytesOf(index));
  writer.put("revision", bytesOf(index), entryData(index));
  if (index > KEYS) writer.delete("revision", bytesOf(index - KEYS));
}

/** Throws unless the backend is exactly what the entries up to its index make. */
export function checkContent(backend: Backend): void {
  const applied = backend.visibleIndex;
  const indexes: number[] = [];
  backend.scan("revision", {}, (key, value) => {
    const index = readUint64(key, 0);
    if (Buffer.compare(value, entryData(index)) !== 0) throw new Error(`row ${index} is torn`);
    indexes.push(index);
    return true;
  });
  const first = Math.max(1, applied - KEYS + 1);
  const rows = applied - first + 1;
  if (
    indexes.length !== rows ||
    (rows > 0 && (indexes[0] !== first || indexes.at(-1) !== applied))
  ) {
    throw new Error(
      `applied ${applied}, yet ${indexes.length} rows from ${indexes[0]} to ${indexes.at(-1)}`,
    );
  }
  for (let index = first; index <= applied; index += 1) {
    const value = backend.get("key", bytesOf(index % KEYS)) ?? EMPTY;
    if (value.length !== 8 || readUint64(value, 0) !== index) throw new Error(`key of ${index}`);
  }
}

async function main(dataDir: string): Promise<void> {
  const { log, backend } = await openStorage({
    dataDir,
    identity: IDENTITY,
    walSegmentBytes: 64 * 1024,
    appliedTerm: () => TERM,
    onFault: (fault) => {
      throw fault;
    },
  });
  // What the backend had not committed is applied anew, as raft would have it.
  const last = log.lastIndex;
  for (let index = backend.visibleIndex + 1; index <= last; index += 1) {
    backend.apply(index, (writer) => applyEntry(writer, index));
  }
  let sequence = 0;
  let next = last + 1;
  let installing = false;
  const append = (): void => {
    const count = 1 + (next % 7);
    const entries = Array.from({ length: count }, (_, place) => {
      const index = next + place;
      return { term: TERM, index, kind: "normal" as const, data: entryData(index) };
    });
    sequence += 1;
    next += count;
    const hardState = { term: TERM, vote: "6", commit: next - 1 };
    log.append({ sequence, snapshot: undefined, hardState, entries, mustSync: true });
  };
  const install = async (): Promise<void> => {
    installing = true;
    const index = log.lastIndex + 40;
    const shadow = backend.shadow();
    shadow.apply((writer) => {
      for (let at = Math.max(1, index - 2 * KEYS); at <= index; at += 1) applyEntry(writer, at);
    });
    await shadow.install(index);
    sequence += 1;
    next = index + 1;
    const hardState = { term: TERM, vote: "6", commit: index };
    const snapshot = { index, term: TERM };
    log.append({ sequence, snapshot, hardState, entries: [], mustSync: true });
    installing = false;
  };
  log.onDurable = () => {
    if (installing) return;
    writeSync(1, `${log.durableIndex}\n`);
    for (let index = backend.visibleIndex + 1; index <= log.durableIndex; index += 1) {
      backend.apply(index, (writer) => applyEntry(writer, index));
    }
    const needless = Math.min(backend.durableIndex, log.durableIndex) - 100;
    if (sequence % 20 === 0 && needless > 0) log.compact(needless);
    if (sequence % 50 === 0) backend.flush();
    if (sequence % 400 === 0) void install();
    else append();
  };
  const defragment = async (): Promise<void> => {
    for (;;) {
      await backend.defragment();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  void defragment();
  append();
}

if (import.meta.main) void main(process.argv[2] as string);
