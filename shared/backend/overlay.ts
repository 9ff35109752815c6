/**
 * Rows that lie over a store's own, by table and in order: the value of each key, or that it is
 * deleted. LMDB has its uncommitted writes in overlays, SQLite what a pinned view saw before it was
 * overwritten. A clone costs O(1) (`OrderedMap`).
 */
import { assert } from "../base/assert.ts";
import { compareBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { OrderedMap } from "../base/ordered-map.ts";
import type { OrderedMapCursor } from "../base/ordered-map.ts";
import { KEY_BYTES_MAX, TABLES } from "./backend.ts";
import type { BatchWriter, ScanOptions, Table } from "./backend.ts";

/** Stands for "deleted"; told by identity, as a value may be empty too. */
export const DELETED: Bytes = new Uint8Array(0);

/** What an entry costs beside its bytes, roughly. */
const ENTRY_BYTES = 100;

type Maps = Record<Table, OrderedMap<Bytes>>;

export class Overlay implements BatchWriter {
  readonly maps: Maps;
  /** Rows written, and their bytes; later writes to a key count again. */
  rows = 0;
  bytes = 0;

  constructor(source?: Overlay) {
    const maps = TABLES.map((table) => [
      table,
      source === undefined ? new OrderedMap<Bytes>() : source.maps[table].clone(),
    ]);
    this.maps = Object.fromEntries(maps) as Maps;
  }

  put(table: Table, key: Bytes, value: Bytes): void {
    assert(key.length > 0 && key.length <= KEY_BYTES_MAX, `a key of ${key.length} bytes`);
    this.maps[table].set(key, value);
    this.rows += 1;
    this.bytes += key.length + value.length + ENTRY_BYTES;
  }

  delete(table: Table, key: Bytes): void {
    assert(key.length > 0 && key.length <= KEY_BYTES_MAX, `a key of ${key.length} bytes`);
    this.maps[table].set(key, DELETED);
    this.rows += 1;
    this.bytes += key.length + ENTRY_BYTES;
  }
}

/**
 * Walks the rows of several overlays, the newest first in the list, as one: of a key in several,
 * the newest counts.
 */
export class OverlayCursor {
  readonly #cursors: OrderedMapCursor<Bytes>[] = [];
  readonly #direction: 1 | -1;
  #current: OrderedMapCursor<Bytes> | undefined;

  constructor(overlays: readonly Overlay[], table: Table, options: ScanOptions) {
    this.#direction = options.reverse === true ? -1 : 1;
    for (const overlay of overlays) {
      const map = overlay.maps[table];
      if (map.size === 0) continue;
      const cursor = map.cursor(options);
      if (cursor.next()) this.#cursors.push(cursor);
    }
    this.#choose();
  }

  get atEnd(): boolean {
    return this.#current === undefined;
  }

  get key(): Bytes {
    return (this.#current as OrderedMapCursor<Bytes>).key;
  }

  /** `DELETED` for a deleted row. */
  get value(): Bytes {
    return (this.#current as OrderedMapCursor<Bytes>).value;
  }

  /**
   * Below 0, 0 or above 0, as the row comes before `key`, is it, or comes behind it, in the walk's
   * direction.
   */
  compareTo(key: Bytes): number {
    return compareBytes(this.key, key) * this.#direction;
  }

  next(): void {
    const key = this.key;
    for (let place = this.#cursors.length - 1; place >= 0; place -= 1) {
      const cursor = this.#cursors[place] as OrderedMapCursor<Bytes>;
      if (cursor !== this.#current && compareBytes(cursor.key, key) !== 0) continue;
      if (!cursor.next()) this.#cursors.splice(place, 1);
    }
    this.#choose();
  }

  #choose(): void {
    let best = this.#cursors[0];
    for (let place = 1; place < this.#cursors.length; place += 1) {
      const cursor = this.#cursors[place] as OrderedMapCursor<Bytes>;
      const found = best as OrderedMapCursor<Bytes>;
      if (compareBytes(cursor.key, found.key) * this.#direction < 0) best = cursor;
    }
    this.#current = best;
  }
}

export type Visit = (key: Bytes, value: Bytes) => boolean;

/**
 * Visits the rows of an overlay and those of a store beneath as one, until `visit` answers false.
 * `scanBase` walks the same range of the store in the same direction; it answers false when its
 * visitor ended it.
 */
export function mergedScan(
  overlay: OverlayCursor,
  scanBase: (visit: Visit) => boolean,
  visit: Visit,
): void {
  const wanted = scanBase((key, value) => {
    while (!overlay.atEnd) {
      const order = overlay.compareTo(key);
      if (order > 0) break;
      const [newerKey, newer] = [overlay.key, overlay.value];
      overlay.next();
      if (newer !== DELETED && !visit(newerKey, newer)) return false;
      if (order === 0) return true;
    }
    return visit(key, value);
  });
  if (!wanted) return;
  while (!overlay.atEnd) {
    const { key, value } = overlay;
    overlay.next();
    if (value !== DELETED && !visit(key, value)) return;
  }
}
