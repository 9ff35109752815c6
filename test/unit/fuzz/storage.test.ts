/** Fuzzing of what is read from the disk or installed on it: log, snapshots, identity, generations. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { DataDirectoryError, readIdentity } from "../../../node-runner/data-dir/identity.ts";
import { MemoryFiles } from "../../../node-runner/files/memory-files.ts";
import { dumpLog } from "../../../node-runner/wal/dump.ts";
import {
  RECORD_HEADER_BYTES,
  RECORD_MARKER,
  SEGMENT_HEADER_BYTES,
  encodeSegmentHeader,
  recordChecksum,
  segmentName,
} from "../../../node-runner/wal/layout.ts";
import type { Item } from "../../../node-runner/wal/layout.ts";
import { UnknownItemError, readItems, recordAt } from "../../../node-runner/wal/record-reader.ts";
import { RecordWriter } from "../../../node-runner/wal/record-writer.ts";
import { WalDamageError, WalMismatchError, replay } from "../../../node-runner/wal/replay.ts";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import { concatBytes, utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { crc32c } from "../../../shared/base/crc32c.ts";
import {
  SnapshotError,
  decodeChunk,
  encodeEnd,
  encodeHeader,
  encodeRows,
} from "../../../shared/peer/state/snapshot-format.ts";
import type { SnapshotChunk } from "../../../shared/peer/state/snapshot-format.ts";
import { buildGoldenLog, filesOf } from "../node-runner/wal/golden-log.ts";
import { IDENTITY } from "../node-runner/wal/wal-fixture.ts";
import { fuzz, inputsLike, many } from "./harness.ts";

const SALT = 7;

/** Items under a header whose checksum is right: only then are they looked at. */
function sealed(items: Bytes): Bytes {
  const bytes = concatBytes(new Uint8Array(RECORD_HEADER_BYTES), items);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, RECORD_MARKER, true);
  view.setUint32(4, items.length, true);
  view.setBigUint64(16, 1n, true);
  if (items.length > 0) view.setUint32(8, recordChecksum(bytes, 0, bytes.length, SALT), true);
  return bytes;
}

function itemsOf(items: Bytes): Item[] {
  const bytes = sealed(items);
  const record = recordAt(bytes, 0, SALT);
  if (record === undefined) throw new UnknownItemError("no record");
  const found: Item[] = [];
  readItems(bytes, record, (item) => found.push(item));
  return found;
}

function encodeItems(items: readonly Item[]): Bytes {
  const writer = new RecordWriter();
  for (const item of items) {
    if (item.kind === "segment") writer.segment(item.start);
    else if (item.kind === "hardState") writer.hardState(item.hardState);
    else if (item.kind === "entry") writer.entry(item.entry);
    else writer.position(item.kind, item.position);
  }
  const { itemBytes } = writer;
  const { bytes } = writer.seal({ salt: SALT, previous: 0, ordinal: 1 });
  return bytes.slice(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + itemBytes);
}

const position = { index: 2 ** 40, term: 3 };
const items: readonly Item[] = [
  { kind: "segment", start: { identity: IDENTITY, sequence: 2, base: position } },
  { kind: "hardState", hardState: { term: 9, vote: "18446744073709551615", commit: 128 } },
  { kind: "entry", entry: { index: 300, term: 2, kind: "normal", data: utf8("data") } },
  { kind: "entry", entry: { index: 301, term: 2, kind: "membership", data: utf8("") } },
  { kind: "restart", position },
  { kind: "compacted", position },
];

fuzz<Item[]>({
  name: "items of the log",
  seeds: [...items.map((item) => encodeItems([item])), encodeItems(items)],
  decode: itemsOf,
  encode: encodeItems,
  refuses: (error) => error instanceof UnknownItemError,
  // A vote of 21 digits, and one that is no number.
  found: [`020915${"31".repeat(21)}01`, "0209014101"],
});

function folderWith(segments: readonly Bytes[]): MemoryFiles {
  const files = new MemoryFiles(() => {});
  for (const [place, bytes] of segments.entries()) {
    files.open(`wal/${segmentName(place + 1, place + 1)}`, { create: true }).write(0, bytes);
  }
  return files;
}

/** Reading either ends well, or with one of the two documented errors; the dump never fails. */
function readFolder(segments: readonly Bytes[]): void {
  const files = folderWith(segments);
  for (const finding of dumpLog(files, "wal")) expect(finding.path).toMatch(/^wal\//);
  try {
    replay({ files, directory: "wal", identity: IDENTITY }, () => {});
  } catch (error) {
    if (!(error instanceof WalDamageError || error instanceof WalMismatchError)) throw error;
  }
}

test("segments of the log: mutated, doubled, of other logs", async () => {
  const [first, second] = filesOf(buildGoldenLog()).map(({ bytes }) => bytes) as [Bytes, Bytes];
  const used = first.subarray(0, 380);
  const header = encodeSegmentHeader(SALT);
  const record = sealed(encodeItems(items));
  const seeds = [first, second.subarray(0, 300), used, concatBytes(header, record, record)];
  const runs = await many(fc.array(inputsLike(seeds), { minLength: 1, maxLength: 3 }), readFolder);
  expect(runs).toBeGreaterThan(20);
  expect(header.length).toBe(SEGMENT_HEADER_BYTES);
});

/** A chunk's body under the right checksum. */
function chunkOf(body: Bytes): Bytes {
  const chunk = concatBytes(body, new Uint8Array(4));
  new DataView(chunk.buffer).setUint32(body.length, crc32c(body));
  return chunk;
}

function snapshotSeeds(): Bytes[] {
  const backend = new MemoryBackend();
  backend.apply(1, (writer) => {
    for (let row = 0; row < 5; row += 1) writer.put("key", utf8(`key ${row}`), utf8(`${row}`));
    writer.put("member", utf8("m"), utf8(""));
  });
  const membership = {
    voters: ["1", "2"],
    learners: ["3"],
    votersOutgoing: [],
    learnersNext: [],
    autoLeave: false,
  };
  const mark = { index: 500, term: 3, membership };
  const header = encodeHeader({ clusterId: 2n ** 64n - 1n, leaderTerm: 4, mark });
  return [header, ...encodeRows(backend.pin()), encodeEnd(new Uint8Array(32).fill(9))];
}

fuzz<SnapshotChunk>({
  name: "chunks of a snapshot",
  seeds: snapshotSeeds().map((chunk) => chunk.subarray(0, -4)),
  decode: (body) => decodeChunk(chunkOf(body)),
  refuses: (error) => error instanceof SnapshotError,
  // A header that goes on behind its lists.
  found: [`0101${"00".repeat(32)}00000000`],
});

test("headers of snapshots decode to what encodes to the same bytes, or not at all", async () => {
  const [header] = snapshotSeeds() as [Bytes];
  await many(inputsLike([header.subarray(0, -4)]), (body) => {
    let chunk: SnapshotChunk;
    try {
      chunk = decodeChunk(chunkOf(body));
    } catch {
      return;
    }
    if (chunk.kind === "header") {
      expect(decodeChunk(encodeHeader(chunk.header))).toEqual(chunk);
      expect(encodeHeader(chunk.header).length).toBeLessThanOrEqual(body.length + 4);
      expect(encodeHeader(chunk.header).length).toBeGreaterThanOrEqual(body.length - 8);
    }
  });
});

fuzz({
  name: "the identity of a data directory",
  seeds: [utf8('{ "format": 1, "cluster": "c1", "member": "fff1" }\n')],
  decode: (bytes) => {
    const files = new MemoryFiles(() => {});
    files.open("data/member/identity.json", { create: true }).write(0, bytes);
    return readIdentity(files, "data");
  },
  refuses: (error) => error instanceof DataDirectoryError,
  // null
  found: ["6e756c6c"],
});
