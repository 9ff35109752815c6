/**
 * A snapshot of etcd: its database, whose buckets (server/storage/schema) become rows of our tables.
 *
 *     key     revision: main (8) `_` sub (8), and `t` for a deletion  ->  mvccpb.KeyValue; of a deletion the key alone
 *     lease   id (8)  ->  leasepb.Lease { ID = 1, TTL = 2, RemainingTTL = 3 }
 *     meta    "finishedCompactRev", "scheduledCompactRev"  ->  a revision
 *             "storageVersion" (from 3.6 on)
 *
 * Keys attach to their leases by the lease field of their newest value. Numbers are big-endian.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { KeyValueSchema } from "../../shared/api/gen/mvccpb/kv_pb.js";
import { EMPTY, textOf } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { crc32c } from "../../shared/base/crc32c.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { Slab } from "../../shared/base/slab.ts";
import { KEY_BYTES_MAX } from "../../shared/backend/backend.ts";
import { MemoryBackend } from "../../shared/backend/memory-backend.ts";
import { createLessor } from "../../shared/lease/backend-lessor.ts";
import {
  COMPACT_REVISION_ROW,
  encodeValueRow,
  keyRow,
  revisionRow,
  SUB_MAX,
  type ChangeId,
} from "../../shared/mvcc/key-layout.ts";
import { writeOwedCompaction } from "../../shared/mvcc/backend-compaction.ts";
import type { KeyValue } from "../../shared/mvcc/types.ts";
import { BboltError, type BboltFile, type BboltItem } from "./bbolt.ts";
import { eightBytes } from "./restored-rows.ts";
import type { CopiedState, Fill, SnapshotSource, SnapshotStatus } from "./snapshot-source.ts";

const REVISION_BYTES = 17;
const UNDERSCORE = 0x5f;
const LETTER_T = 0x74;
/** Rows hold keys escaped, at most twice as long, and a suffix. */
const IMPORTED_KEY_BYTES_MAX = KEY_BYTES_MAX / 2 - 16;
const COUNT_MAX = BigInt(Number.MAX_SAFE_INTEGER);

interface Change {
  readonly id: ChangeId;
  readonly kv: KeyValue;
}

export class EtcdSnapshot implements SnapshotSource {
  readonly kind = "etcd";
  readonly #database: BboltFile;
  readonly #totalBytes: number;

  constructor(database: BboltFile, totalBytes: number) {
    this.#database = database;
    this.#totalBytes = totalBytes;
  }

  /** As `etcdutl snapshot status` computes it: hash and count over all buckets. */
  status(): SnapshotStatus {
    let [hash, totalKeys, revision] = [0, 0, 0];
    for (const name of this.#database.bucketNames()) {
      hash = crc32c(name, { previous: hash });
      for (const { key, value } of this.#database.items(textOf(name))) {
        hash = crc32c(value, { previous: crc32c(key, { previous: hash }) });
        totalKeys += 1;
        if (textOf(name) === "key") revision = changeIdOf(key).main;
      }
    }
    const version = this.#meta("storageVersion");
    return {
      hash,
      totalKeys,
      revision,
      totalBytes: this.#totalBytes,
      version: version === undefined ? "" : textOf(version),
    };
  }

  *copy(): Generator<Fill, CopiedState, undefined> {
    const leases = this.#leases();
    const lessor = createLessor(new MemoryBackend());
    yield (writer) => {
      for (const [id, ttlSeconds] of leases) lessor.grant({ id, ttlSeconds }, writer, 0);
    };
    let newest = 1;
    const leased = new Map<string, { readonly key: Bytes; readonly lease: bigint }>();
    for (const changes of this.#batches()) {
      for (const { id, kv } of changes) {
        newest = Math.max(newest, id.main);
        const name = Buffer.from(kv.key).toString("latin1");
        if (kv.lease !== 0n) leased.set(name, { key: kv.key, lease: kv.lease });
        else leased.delete(name);
      }
      yield changeRows(changes);
    }
    yield (writer) => {
      for (const { key, lease } of leased.values()) {
        // A key may outlive its lease for a moment when the snapshot falls between the two.
        if (leases.has(lease)) lessor.reattach(key, 0n, lease, writer);
      }
    };
    const finished = this.#compactRevision("finishedCompactRev");
    const compactRevision = Math.max(finished, this.#compactRevision("scheduledCompactRev"));
    if (compactRevision >= 0) {
      yield (writer) => {
        writer.put("meta", COMPACT_REVISION_ROW, eightBytes(compactRevision));
        if (compactRevision === finished) return;
        const main = Math.max(finished, 0);
        writeOwedCompaction(writer, { target: compactRevision, main, sub: 0 });
      };
    }
    const revision = Math.max(newest, compactRevision);
    return { revision, compactRevision, notes: this.#notes() };
  }

  #notes(): string[] {
    const count = (name: string): number => [...this.#database.items(name)].length;
    const [users, roles] = [count("authUsers"), count("authRoles")];
    const notes: string[] = [];
    if (users + roles > 0) {
      notes.push(
        `${users} users and ${roles} roles are not taken over: this version has no authentication`,
      );
    }
    if (count("alarm") > 0) notes.push("alarms of the old cluster are not taken over");
    return notes;
  }

  #meta(name: string): Bytes | undefined {
    for (const { key, value } of this.#database.items("meta")) {
      if (textOf(key) === name) return value;
    }
    return undefined;
  }

  /** -1: there is none. */
  #compactRevision(name: string): number {
    const row = this.#meta(name);
    return row === undefined ? -1 : changeIdOf(row).main;
  }

  /** Times to live in seconds, by id. */
  #leases(): ReadonlyMap<bigint, number> {
    const leases = new Map<bigint, number>();
    for (const { key, value } of this.#database.items("lease")) {
      const ttl = varintField(value, 2);
      if (key.length !== 8 || ttl === undefined || ttl < 1n || ttl > COUNT_MAX) {
        throw new BboltError("a lease is malformed");
      }
      const id = new DataView(key.buffer, key.byteOffset, 8).getBigInt64(0);
      if (id === 0n) throw new BboltError("a lease has no id");
      leases.set(id, Number(ttl));
    }
    return leases;
  }

  *#batches(): Generator<readonly Change[], void, undefined> {
    let [batch, bytes]: [Change[], number] = [[], 0];
    for (const item of this.#database.items("key")) {
      const change = changeOf(item);
      if (change === undefined) continue;
      batch.push(change);
      bytes += item.key.length + item.value.length;
      if (batch.length < LIMITS.stretchRowsMax && bytes < LIMITS.stretchBytesMax) continue;
      yield batch;
      [batch, bytes] = [[], 0];
    }
    yield batch;
  }
}

function changeRows(changes: readonly Change[]): Fill {
  return (writer) => {
    const slab = new Slab();
    for (const { id, kv } of changes) {
      const value = id.tombstone ? EMPTY : encodeValueRow(kv, slab);
      writer.put("key", keyRow(kv.key, id), value);
      writer.put("revision", revisionRow(id), kv.key);
    }
  };
}

function changeIdOf(row: Bytes): ChangeId {
  const marked = row.length === REVISION_BYTES + 1 && row[REVISION_BYTES] === LETTER_T;
  if ((row.length !== REVISION_BYTES && !marked) || row[8] !== UNDERSCORE) {
    throw new BboltError("a revision is malformed");
  }
  const view = new DataView(row.buffer, row.byteOffset, row.length);
  const [main, sub] = [view.getBigUint64(0), view.getBigUint64(9)];
  if (main > COUNT_MAX || sub > BigInt(SUB_MAX)) throw new BboltError(`revision ${main}/${sub}`);
  return { main: Number(main), sub: Number(sub), tombstone: marked };
}

/** Undefined for the mark that an earlier restore with a bumped revision leaves: it has no key. */
function changeOf({ key: row, value }: BboltItem): Change | undefined {
  const id = changeIdOf(row);
  if (value.length === 0) return undefined;
  const kv = keyValueOf(value);
  const { createRevision, modRevision, version } = kv;
  const isWhole =
    id.tombstone || (version >= 1 && createRevision >= 1 && createRevision <= id.main);
  const hasKey = kv.key.length > 0 && kv.key.length <= IMPORTED_KEY_BYTES_MAX;
  if (!hasKey || !isWhole || (!id.tombstone && modRevision !== id.main)) {
    throw new BboltError(`the key-value at revision ${id.main} is malformed`);
  }
  return { id, kv: id.tombstone ? { ...kv, lease: 0n } : kv };
}

function keyValueOf(bytes: Bytes): KeyValue {
  try {
    const kv = fromBinary(KeyValueSchema, bytes);
    const [createRevision, modRevision, version] = [
      kv.createRevision,
      kv.modRevision,
      kv.version,
    ].map((count) => (count >= 0n && count <= COUNT_MAX ? Number(count) : -1)) as [
      number,
      number,
      number,
    ];
    return { key: kv.key, value: kv.value, lease: kv.lease, createRevision, modRevision, version };
  } catch (cause) {
    throw new BboltError(`a key-value is malformed: ${(cause as Error).message}`, { cause });
  }
}

/** A number of a protobuf message that has nothing but numbers; undefined: absent or malformed. */
function varintField(bytes: Bytes, field: number): bigint | undefined {
  let position = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n && position < bytes.length; shift += 7n) {
      const byte = bytes[position] as number;
      position += 1;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asIntN(64, value);
    }
    throw new BboltError("a number is cut off");
  };
  while (position < bytes.length) {
    const tag = varint();
    if ((tag & 7n) !== 0n) return undefined;
    const value = varint();
    if (tag >> 3n === BigInt(field)) return value;
  }
  return undefined;
}
