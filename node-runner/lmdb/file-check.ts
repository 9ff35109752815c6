/**
 * A look at a database file before LMDB maps it: LMDB trusts what it maps, and a process that reads
 * behind the end of a truncated file, or follows a wrong root, dies without a word. Two pages stand
 * at the front; each holds, behind a page header of 24 bytes (integers little-endian):
 *
 *     0    4  magic 0xbeefc0de
 *     4    4  format of the file (the lower 16 bits: 2)
 *     24   48 tree of free pages: page size (4 bytes), ... at 40 the number of the root page (8)
 *     72   48 main tree: at 40 the number of the root page
 *     120  8  last page
 *     128  8  transaction; the page with the higher one counts
 *
 * Roots behind the file's end are found; rot inside of pages isn't, LMDB keeps no checksums. (The
 * peers' comparison of hashes is there for that.)
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { BackendError } from "../../shared/backend/backend.ts";

const PAGE_HEADER_BYTES = 24;
const META_BYTES = 136;
const MAGIC = 0xbeefc0de;
const FORMAT = 2;
/** Root of an empty tree. */
const NO_PAGE = 0xffff_ffff_ffff_ffffn;

/**
 * Throws `BackendError` when the file is no database of ours or ends too early. An absent file
 * passes.
 */
export function checkDatabaseFile(path: string): void {
  if (!existsSync(path)) return;
  const descriptor = openSync(path, "r");
  try {
    const { size } = fstatSync(descriptor);
    if (size > 0) checkMetas(path, descriptor, size);
  } finally {
    closeSync(descriptor);
  }
}

function checkMetas(path: string, descriptor: number, size: number): void {
  const damaged = (what: string): BackendError => new BackendError(`${path} is damaged: ${what}`);
  const readMeta = (position: number): DataView => {
    const bytes = new Uint8Array(META_BYTES);
    const count = readSync(descriptor, bytes, { position: position + PAGE_HEADER_BYTES });
    const view = new DataView(bytes.buffer);
    if (count < META_BYTES) throw damaged(`it ends after ${size} bytes`);
    if (view.getUint32(0, true) !== MAGIC) throw damaged(`no database begins at ${position}`);
    if (view.getUint16(4, true) !== FORMAT) throw damaged("its format is unknown");
    return view;
  };
  const first = readMeta(0);
  const pageBytes = first.getUint32(24, true);
  if (pageBytes < 4096 || pageBytes > 65_536) throw damaged(`pages of ${pageBytes} bytes`);
  const second = readMeta(pageBytes);
  const transactionOf = (meta: DataView): bigint => meta.getBigUint64(128, true);
  const newest = transactionOf(second) > transactionOf(first) ? second : first;
  for (const offset of [24 + 40, 72 + 40]) {
    const root = newest.getBigUint64(offset, true);
    if (root === NO_PAGE || (root + 1n) * BigInt(pageBytes) <= BigInt(size)) continue;
    throw damaged(`it ends after ${size} bytes, yet page ${root} is in use`);
  }
}
