/** A snapshot that Quorate wrote (`shared/peer/state/snapshot-file.ts`). */
import { createHash } from "node:crypto";
import { equalBytes, readUint64, textOf, utf8 } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { crc32c } from "../../shared/base/crc32c.ts";
import type { Row, Table } from "../../shared/backend/backend.ts";
import { changeOfRevisionRow, COMPACT_REVISION_ROW } from "../../shared/mvcc/key-layout.ts";
import { ETCD_STORAGE_VERSION } from "../../shared/peer/services.ts";
import { chunksOfFile } from "../../shared/peer/state/snapshot-file.ts";
import { decodeChunk, SnapshotError } from "../../shared/peer/state/snapshot-format.ts";
import { SnapshotFileError, type ReadableFile } from "./readable-file.ts";
import type { CopiedState, Fill, SnapshotSource, SnapshotStatus } from "./snapshot-source.ts";

/** Rows of `meta` that belong to the key-values. */
const MVCC_PREFIX = "mvcc/";
const ALARM_PREFIX = "peer.alarm.";
const TAKEN_TABLES: ReadonlySet<Table> = new Set(["key", "revision", "lease"]);

export class QuorateSnapshot implements SnapshotSource {
  readonly kind = "quorate";
  readonly #file: ReadableFile;

  constructor(file: ReadableFile) {
    this.#file = file;
  }

  status(): SnapshotStatus {
    let [hash, totalKeys] = [0, 0];
    let table: Table | undefined;
    const revisions = new Revisions();
    for (const chunk of this.#rows()) {
      if (chunk.table !== table) hash = crc32c(utf8(chunk.table), { previous: hash });
      table = chunk.table;
      for (const [key, value] of chunk.rows) {
        hash = crc32c(value, { previous: crc32c(key, { previous: hash }) });
      }
      if (table === "revision") totalKeys += chunk.rows.length;
      revisions.see(chunk.table, chunk.rows);
    }
    const { size: totalBytes } = this.#file;
    const { revision } = revisions;
    return { hash, revision, totalKeys, totalBytes, version: ETCD_STORAGE_VERSION };
  }

  *copy(): Generator<Fill, CopiedState, undefined> {
    const revisions = new Revisions();
    const notes: string[] = [];
    let auth = 0;
    for (const { table, rows } of this.#rows()) {
      revisions.see(table, rows);
      if (table === "auth") auth += rows.length;
      if (table === "meta") {
        if (rows.some(([key]) => textOf(key).startsWith(ALARM_PREFIX))) {
          notes.push("alarms of the old cluster are not taken over");
        }
        const own = rows.filter(([key]) => textOf(key).startsWith(MVCC_PREFIX));
        yield (writer) => own.forEach(([key, value]) => writer.put(table, key, value));
      } else if (TAKEN_TABLES.has(table)) {
        yield (writer) => rows.forEach(([key, value]) => writer.put(table, key, value));
      }
    }
    if (auth > 0) notes.push("users and roles are not taken over");
    const { revision, compactRevision } = revisions;
    return { revision, compactRevision, notes };
  }

  /** The chunks of rows, checked: each by itself, their order, and the whole by its last chunk. */
  *#rows(): Generator<{ table: Table; rows: readonly Row[] }, void, undefined> {
    const hasher = createHash("sha256");
    let [hasHeader, complete] = [false, false];
    try {
      for (const bytes of chunksOfFile(this.#file.read)) {
        if (complete) throw new SnapshotError("it goes on behind its end");
        const chunk = decodeChunk(bytes);
        if ((chunk.kind === "header") === hasHeader) {
          throw new SnapshotError("a snapshot has one header, in front");
        }
        hasHeader = true;
        if (chunk.kind === "end") {
          if (!equalBytes(hasher.digest(), chunk.hash)) {
            throw new SnapshotError("its content's hash differs from the one it names");
          }
          complete = true;
          continue;
        }
        hasher.update(bytes);
        if (chunk.kind === "rows") yield chunk;
      }
    } catch (cause) {
      if (!(cause instanceof SnapshotError)) throw cause;
      throw new SnapshotFileError(cause.message, { cause });
    }
    if (!complete) throw new SnapshotFileError("its last chunk is missing");
  }
}

/** The store's revision and compacted revision, from rows as they pass. */
class Revisions {
  #newest = 1;
  compactRevision = -1;

  see(table: Table, rows: readonly Row[]): void {
    if (table === "revision") {
      const last: Bytes | undefined = rows.at(-1)?.[0];
      if (last?.length !== 12) throw new SnapshotFileError("a revision's row is malformed");
      this.#newest = Math.max(this.#newest, changeOfRevisionRow(last).main);
    } else if (table === "meta") {
      const row = rows.find(([key]) => equalBytes(key, COMPACT_REVISION_ROW))?.[1];
      if (row === undefined) return;
      if (row.length !== 8) throw new SnapshotFileError("the compacted revision is malformed");
      this.compactRevision = readUint64(row, 0);
    }
  }

  get revision(): number {
    return Math.max(this.#newest, this.compactRevision);
  }
}
