/**
 * The memory that makes a retried write apply once: for each client the sequence, outcome and log
 * index of its newest write. A client has one write under way at a time; who wants more under way
 * uses several client ids.
 *
 * The table is bounded, so rows are forgotten, those of the lowest log index first, and `floor`
 * is the highest index of a forgotten row. A write carries the index floor at which it was first
 * sent. If it was applied before, its row's index is above that floor; so a write without a row
 * and with a floor at or above the table's was never applied and may be. Below, nobody can tell:
 * it is refused with `writeForgotten` (outcome unknown) and never applied.
 *
 *   worked example, room for two rows:
 *   index 5  client a, sequence 1, floor 4   no row, 4 >= 0: applied;   rows a@5
 *   index 6  client a, sequence 1, floor 4   a's row has sequence 1:    its outcome again
 *   index 7  client b, sequence 1, floor 6   applied;                   rows a@5 b@7
 *   index 8  client c, sequence 1, floor 6   applied, a@5 is forgotten; rows b@7 c@8, floor 5
 *   index 9  client a, sequence 1, floor 4   no row, 4 < 5:             refused
 *
 * What is forgotten depends on nothing but the entries and the bounds in `LIMITS`: every member
 * must have the same ones, so changing them needs a cluster version.
 *
 * dedup   client id -> byte layout version 1, numbers sequence and log index, outcome (to the end)
 * meta    "peer.writes" -> 8-byte floor
 */
import { assert } from "../../base/assert.ts";
import { ByteReader } from "../../base/byte-reader.ts";
import { ByteWriter } from "../../base/byte-writer.ts";
import type { Bytes } from "../../base/bytes.ts";
import { hexOf, readUint64, utf8 } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import type { BackendReader, BatchWriter } from "../../backend/backend.ts";
import type { WriteIdentity } from "../../wire/command.ts";

const LAYOUT_VERSION = 1;
const FLOOR_KEY = utf8("peer.writes");

export interface WriteTableBounds {
  readonly rowsMax: number;
  /** Of client ids and rows together. */
  readonly bytesMax: number;
}

interface Row {
  readonly client: Bytes;
  readonly sequence: number;
  readonly index: number;
  readonly outcome: Bytes;
}

/** What is known of a write: never applied, applied with this outcome, or no longer known. */
export type WriteMemory =
  | { readonly kind: "new" }
  | { readonly kind: "known"; readonly outcome: Bytes }
  | { readonly kind: "forgotten" };

const writer = new ByteWriter();

export class WriteTable {
  readonly #bounds: WriteTableBounds;
  /** By client id in hex, from the lowest log index to the highest. */
  #rows = new Map<string, Row>();
  #bytes = 0;
  #floor = 0;

  constructor(
    backend: BackendReader,
    bounds: WriteTableBounds = { rowsMax: LIMITS.dedupRowsMax, bytesMax: LIMITS.dedupBytesMax },
  ) {
    this.#bounds = bounds;
    this.load(backend);
  }

  /** Reads everything anew. */
  load(backend: BackendReader): void {
    const rows: Row[] = [];
    backend.scan("dedup", {}, (client, value) => {
      rows.push(decodeRow(client, value));
      return true;
    });
    rows.sort((a, b) => a.index - b.index);
    this.#rows = new Map(rows.map((row) => [hexOf(row.client), row]));
    this.#bytes = rows.reduce((sum, row) => sum + sizeOf(row), 0);
    const floor = backend.get("meta", FLOOR_KEY);
    this.#floor = floor === undefined ? 0 : readUint64(floor, 0);
  }

  /** The highest log index of a forgotten row; 0: none was. */
  get floor(): number {
    return this.#floor;
  }

  get rowCount(): number {
    return this.#rows.size;
  }

  get byteCount(): number {
    return this.#bytes;
  }

  recall(identity: WriteIdentity): WriteMemory {
    const row = this.#rows.get(hexOf(identity.client));
    if (row === undefined) return { kind: identity.floor < this.#floor ? "forgotten" : "new" };
    if (identity.sequence > row.sequence) return { kind: "new" };
    if (identity.sequence === row.sequence) return { kind: "known", outcome: row.outcome };
    // Its client has gone on to a later write: a straggler, for which nobody waits.
    return { kind: "forgotten" };
  }

  /** Keeps the outcome of a write that was new; inside `Backend.apply`. */
  remember(
    identity: WriteIdentity,
    applied: { readonly index: number; readonly outcome: Bytes },
    to: BatchWriter,
  ): void {
    const { client, sequence } = identity;
    const name = hexOf(client);
    this.#drop(name);
    // A copy: the client's id is a view of the entry's bytes.
    const row: Row = { client: client.slice(), sequence, ...applied };
    this.#rows.set(name, row);
    this.#bytes += sizeOf(row);
    to.put("dedup", row.client, encodeRow(row));
    this.#evict(to);
  }

  #evict(to: BatchWriter): void {
    const before = this.#floor;
    for (const [name, row] of this.#rows) {
      if (this.#rows.size <= this.#bounds.rowsMax && this.#bytes <= this.#bounds.bytesMax) break;
      assert(row.index > this.#floor, "rows are forgotten in the order of the log");
      this.#floor = row.index;
      this.#drop(name);
      to.delete("dedup", row.client);
    }
    if (this.#floor === before) return;
    writer.fixedCount(this.#floor);
    to.put("meta", FLOOR_KEY, writer.finish());
  }

  #drop(name: string): void {
    const row = this.#rows.get(name);
    if (row === undefined) return;
    this.#rows.delete(name);
    this.#bytes -= sizeOf(row);
  }
}

/** As the bounds count it: two numbers and a version beside client and outcome. */
function sizeOf(row: Row): number {
  return row.client.length + row.outcome.length + 20;
}

function encodeRow(row: Row): Bytes {
  writer.byte(LAYOUT_VERSION);
  writer.varint(row.sequence);
  writer.varint(row.index);
  writer.raw(row.outcome);
  return writer.finish();
}

function decodeRow(client: Bytes, value: Bytes): Row {
  const reader = new ByteReader(value);
  assert(reader.byte() === LAYOUT_VERSION, "a row of the write table is of a newer version");
  const sequence = reader.varint();
  const index = reader.varint();
  const outcome = value.slice(reader.offset);
  return { client: client.slice(), sequence, index, outcome };
}
