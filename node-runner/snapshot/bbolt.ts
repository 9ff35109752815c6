/**
 * Reads a database of bbolt (go.etcd.io/bbolt, format 2), the file that etcd keeps and that its
 * snapshots are. Read-only and without trust: a damaged file ends in a `BboltError`, never in a loop,
 * and no page is read twice in one walk. Integers are little-endian, offsets in bytes.
 *
 *     page     0 id (8)  8 flags (2)  10 count (2)  12 overflow (4): pages that go with it  16 content
 *     meta     flags 4, the pages 0 and 1; at 16: magic (4) version (4) page size (4) flags (4)
 *              root bucket: page (8) sequence (8)  free list (8)  pages in use end (8)  transaction (8)
 *              checksum (8): FNV-1a of the 56 bytes before it. The whole one of the later transaction counts
 *     branch   flags 1; elements of 16: offset of the key from the element (4) its length (4) page (8)
 *     leaf     flags 2; elements of 16: flags (4; 1: a bucket) offset of the key (4) lengths of key and value (4 each)
 *     bucket   value of its name: root page (8) sequence (8); root 0: one leaf page follows in place
 */
import { compareBytes, equalBytes, utf8 } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { SnapshotFileError, type ReadableFile } from "./readable-file.ts";

export class BboltError extends SnapshotFileError {}

const MAGIC = 0xed0cdaed;
const VERSION = 2;
const PAGE_HEADER_BYTES = 16;
const ELEMENT_BYTES = 16;
const META_BYTES = 64;
const META_CHECKED_BYTES = 56;
const BUCKET_HEADER_BYTES = 16;
const BRANCH = 1;
const LEAF = 2;
const BUCKET_ELEMENT = 1;
const PAGE_BYTES_MIN = 512;
const PAGE_BYTES_MAX = 65_536;
/** A tree of two elements a page would hold all pages there can be. */
const DEPTH_MAX = 64;
/** A page with its overflow holds one value beside small ones: etcd's are bounded by its request size. */
const LONG_PAGE_BYTES_MAX = 1024 * 1024 * 1024;

interface Meta {
  readonly pageBytes: number;
  readonly root: number;
  /** Pages from here on are not in use. */
  readonly end: number;
  readonly transaction: bigint;
}

interface Page {
  readonly flags: number;
  readonly count: number;
  readonly bytes: Bytes;
  readonly view: DataView;
}

export interface BboltItem {
  readonly key: Bytes;
  readonly value: Bytes;
  readonly isBucket: boolean;
}

/** Whether this is the beginning of such a file, as far as 20 bytes tell. */
export function isBboltFile(start: Bytes): boolean {
  if (start.length < 20) return false;
  return viewOf(start).getUint32(PAGE_HEADER_BYTES, true) === MAGIC;
}

export class BboltFile {
  readonly #file: ReadableFile;
  readonly #meta: Meta;

  /** `size`: of the database, without what may follow it. */
  constructor(file: ReadableFile, size: number) {
    this.#file = file;
    this.#meta = newestMeta(file);
    const { end, pageBytes } = this.#meta;
    if (end * pageBytes > size) {
      throw new BboltError(`it has ${size} bytes, but its pages in use end at ${end * pageBytes}`);
    }
  }

  /** The names of the buckets at the top. */
  *bucketNames(): Generator<Bytes, void, undefined> {
    for (const { key, isBucket } of this.#items(this.#meta.root)) if (isBucket) yield key;
  }

  /** The items of a top bucket in key order; none if it isn't there. */
  *items(name: string): Generator<BboltItem, void, undefined> {
    const wanted = utf8(name);
    for (const { key, value, isBucket } of this.#items(this.#meta.root)) {
      if (!isBucket || !equalBytes(key, wanted)) continue;
      yield* this.#bucketItems(name, value);
      return;
    }
  }

  *#bucketItems(name: string, header: Bytes): Generator<BboltItem, void, undefined> {
    if (header.length < BUCKET_HEADER_BYTES) throw new BboltError(`the bucket ${name} has no root`);
    const root = safeNumber(viewOf(header).getBigUint64(0, true), "a root");
    if (root !== 0) return yield* this.#items(root);
    const page = pageOf(header.slice(BUCKET_HEADER_BYTES), `the bucket ${name}`);
    if (page.flags !== LEAF) throw new BboltError(`the bucket ${name} holds no leaf page`);
    yield* leafItems(page, `the bucket ${name}`);
  }

  /** The items below a page, in order; each page once. */
  *#items(root: number): Generator<BboltItem, void, undefined> {
    const seen = new Set<number>();
    const stack: Iterator<number>[] = [[root][Symbol.iterator]()];
    let last: Bytes | undefined;
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const next = top.next();
      if (next.done === true) {
        stack.pop();
        continue;
      }
      const id = next.value;
      if (seen.has(id)) throw new BboltError(`page ${id} is in its tree twice`);
      seen.add(id);
      const page = this.#page(id);
      if (page.flags === BRANCH) {
        if (stack.length >= DEPTH_MAX) throw new BboltError("its tree is too deep");
        stack.push(children(page, `page ${id}`));
        continue;
      }
      if (page.flags !== LEAF) throw new BboltError(`page ${id} is neither branch nor leaf`);
      for (const item of leafItems(page, `page ${id}`)) {
        if (last !== undefined && compareBytes(last, item.key) >= 0) {
          throw new BboltError(`keys are out of order in page ${id}`);
        }
        last = item.key;
        yield item;
      }
    }
  }

  #page(id: number): Page {
    const { pageBytes, end } = this.#meta;
    if (id < 2 || id >= end) throw new BboltError(`page ${id} is not in use`);
    const head = this.#file.read(id * pageBytes, PAGE_HEADER_BYTES);
    const overflow = viewOf(head).getUint32(12, true);
    const length = (overflow + 1) * pageBytes;
    if (id + overflow >= end || length > LONG_PAGE_BYTES_MAX) {
      throw new BboltError(`page ${id} is damaged: it goes on for ${overflow} pages`);
    }
    const bytes = this.#file.read(id * pageBytes, length);
    const stored = viewOf(bytes).getBigUint64(0, true);
    if (stored !== BigInt(id))
      throw new BboltError(`page ${id} is damaged: it says page ${stored}`);
    return pageOf(bytes, `page ${id}`);
  }
}

function viewOf(bytes: Bytes): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function safeNumber(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new BboltError(`${what} is ${value}`);
  return Number(value);
}

function pageOf(bytes: Bytes, where: string): Page {
  if (bytes.length < PAGE_HEADER_BYTES) throw new BboltError(`${where} is cut off`);
  const view = viewOf(bytes);
  const [flags, count] = [view.getUint16(8, true), view.getUint16(10, true)];
  if (PAGE_HEADER_BYTES + count * ELEMENT_BYTES > bytes.length) {
    throw new BboltError(`${where} is damaged: ${count} elements don't fit`);
  }
  return { flags, count, bytes, view };
}

function* children(page: Page, where: string): Generator<number, void, undefined> {
  if (page.count === 0) throw new BboltError(`${where} is a branch without leaves`);
  for (let place = 0; place < page.count; place += 1) {
    const at = PAGE_HEADER_BYTES + place * ELEMENT_BYTES;
    yield safeNumber(page.view.getBigUint64(at + 8, true), `a page in ${where}`);
  }
}

function* leafItems(page: Page, where: string): Generator<BboltItem, void, undefined> {
  for (let place = 0; place < page.count; place += 1) {
    const at = PAGE_HEADER_BYTES + place * ELEMENT_BYTES;
    const flags = page.view.getUint32(at, true);
    const start = at + page.view.getUint32(at + 4, true);
    const middle = start + page.view.getUint32(at + 8, true);
    const end = middle + page.view.getUint32(at + 12, true);
    if (end > page.bytes.length) throw new BboltError(`an item in ${where} is cut off`);
    const [key, value] = [page.bytes.subarray(start, middle), page.bytes.subarray(middle, end)];
    yield { key, value, isBucket: (flags & BUCKET_ELEMENT) !== 0 };
  }
}

/** The second one stands a page behind the first, whose page size may be damaged: it is looked for. */
function newestMeta(file: ReadableFile): Meta {
  let newest = metaAt(file, 0);
  for (let bytes = PAGE_BYTES_MIN; bytes <= PAGE_BYTES_MAX; bytes *= 2) {
    const meta = metaAt(file, bytes);
    if (meta?.pageBytes !== bytes) continue;
    if (newest === undefined || meta.transaction > newest.transaction) newest = meta;
  }
  if (newest === undefined) throw new BboltError("neither of its two meta pages is whole");
  return newest;
}

function metaAt(file: ReadableFile, position: number): Meta | undefined {
  const bytes = file.read(position + PAGE_HEADER_BYTES, META_BYTES);
  if (bytes.length < META_BYTES) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== VERSION) return undefined;
  if (view.getBigUint64(META_CHECKED_BYTES, true) !== fnv1a(bytes.subarray(0, META_CHECKED_BYTES)))
    return undefined;
  const pageBytes = view.getUint32(8, true);
  if (pageBytes < PAGE_BYTES_MIN || pageBytes > PAGE_BYTES_MAX) return undefined;
  return {
    pageBytes,
    root: safeNumber(view.getBigUint64(16, true), "the root"),
    end: safeNumber(view.getBigUint64(40, true), "the number of pages"),
    transaction: view.getBigUint64(48, true),
  };
}

/** The 64-bit hash of Fowler, Noll and Vo, variant 1a. */
export function fnv1a(bytes: Bytes): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}
