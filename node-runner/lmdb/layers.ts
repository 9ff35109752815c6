/** Reads of overlays, the newest first, on top of an environment. */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { ScanOptions, Table } from "../../shared/backend/backend.ts";
import type { Environment, HasLonger, ReadTransaction } from "./environment.ts";
import { longerThan } from "./environment.ts";
import { DELETED, mergedScan, OverlayCursor } from "../../shared/backend/overlay.ts";
import type { Overlay } from "../../shared/backend/overlay.ts";

export function layeredGet(
  layers: readonly Overlay[],
  base: Environment,
  table: Table,
  key: Bytes,
  transaction?: ReadTransaction,
): Bytes | undefined {
  for (const layer of layers) {
    const map = layer.maps[table];
    const value = map.size === 0 ? undefined : map.get(key);
    if (value !== undefined) return value === DELETED ? undefined : value;
  }
  return base.get(table, key, transaction);
}

export interface Scan {
  readonly table: Table;
  readonly options: ScanOptions;
  readonly visit: (key: Bytes, value: Bytes) => boolean;
  readonly transaction?: ReadTransaction | undefined;
}

export function layeredScan(layers: readonly Overlay[], base: Environment, scan: Scan): void {
  const { table, options, visit, transaction } = scan;
  const { start, end } = options;
  if (start !== undefined && end !== undefined && isEmptyRange(start, end)) return;
  const overlay = new OverlayCursor(layers, table, options);
  const deleted = !overlay.atEnd && overlay.value === DELETED;
  const firstOnly = options.firstOnly === true && transaction === undefined && !deleted;
  if (firstOnly && start !== undefined && end !== undefined) {
    const row = base.first(table, start, end);
    if (row !== undefined && (overlay.atEnd || overlay.compareTo(row.key) > 0)) {
      visit(row.key, row.value);
    } else if (!overlay.atEnd) visit(overlay.key, overlay.value);
    return;
  }
  if (overlay.atEnd) {
    base.scan(table, options, visit, transaction);
    return;
  }
  mergedScan(overlay, (each) => base.scan(table, options, each, transaction), visit);
}

function isEmptyRange(start: Bytes, end: Bytes): boolean {
  return Buffer.compare(start, end) >= 0;
}

export function layersHaveLonger(layers: readonly Overlay[], base: Environment): HasLonger {
  return (table, prefix) => {
    let found = false;
    const visit = (): boolean => {
      found = true;
      return false;
    };
    layeredScan(layers, base, { table, options: longerThan(prefix), visit });
    return found;
  };
}
