/**
 * Which start of a replica owns its storage: the last one. A platform may let a superseded start go on for a while;
 * it would answer from rows that the new one compacts away, or write between the new one's. So each start writes its
 * id, and whoever is about to read or write looks whether it stands there still, in the same turn.
 */
import type { Backend, BatchWriter } from "../backend/backend.ts";
import { type Bytes, utf8 } from "../base/bytes.ts";

const INCARNATION_ROW: Bytes = utf8("replica/incarnation");

export class Incarnation {
  readonly #backend: Backend;
  readonly #id: bigint;

  /** Takes the storage over. */
  constructor(backend: Backend, id: bigint) {
    this.#backend = backend;
    this.#id = id;
    backend.apply(backend.visibleIndex, (writer) => this.write(writer));
  }

  write(writer: BatchWriter): void {
    const row = new DataView(new ArrayBuffer(8));
    row.setBigUint64(0, this.#id);
    writer.put("meta", INCARNATION_ROW, new Uint8Array(row.buffer));
  }

  /** Throws when another start has taken the storage over. */
  check(): void {
    const row = this.#backend.get("meta", INCARNATION_ROW);
    const owner =
      row === undefined ? undefined : new DataView(row.buffer, row.byteOffset).getBigUint64(0);
    if (owner !== this.#id) throw new Error("another incarnation of the replica has its storage");
  }
}
