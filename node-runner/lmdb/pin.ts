/** A stable view: clones of the overlays, and an LMDB read transaction from the same moment. */
import { assert } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { PinnedReader, ScanOptions, Table } from "../../shared/backend/backend.ts";
import type { ReadTransaction } from "./environment.ts";
import { layeredGet, layeredScan } from "./layers.ts";
import type { Lease } from "./lease.ts";
import type { Overlay } from "../../shared/backend/overlay.ts";

export class LmdbPin implements PinnedReader {
  readonly index: number;
  readonly #layers: readonly Overlay[];
  readonly #base: Lease;
  readonly #transaction: ReadTransaction;
  #released = false;

  constructor(index: number, layers: readonly Overlay[], base: Lease) {
    base.hold();
    this.index = index;
    this.#layers = layers;
    this.#base = base;
    this.#transaction = base.environment.beginRead();
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    assert(!this.#released, "a released pin is not read");
    const { environment } = this.#base;
    return layeredGet(this.#layers, environment, table, key, this.#transaction);
  }

  scan(table: Table, options: ScanOptions, visit: (key: Bytes, value: Bytes) => boolean): void {
    assert(!this.#released, "a released pin is not read");
    const transaction = this.#transaction;
    layeredScan(this.#layers, this.#base.environment, { table, options, visit, transaction });
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#transaction.done();
    void this.#base.release();
  }
}
