/**
 * One LMDB environment: a tree per table, the tree "long" for what long keys add (`long-keys.ts`),
 * and the tree "store" with the format ("format") and the index of the last commit ("index"), both
 * 8 bytes big-endian.
 *
 * Reads see the last commit. Commits run on lmdb-js's own thread; their promise resolves when the
 * commit is flushed: `overlappingSync` is off, so that a commit that readers see is on the disk,
 * and the state after a crash is the last commit whose promise could resolve, or a later one,
 * whole.
 *
 * Measured here (50 000 rows, keys of 40 bytes): a get 1.1 us, a scan of one row 2.1 us, each
 * further row 0.5 us (the same with an explicit transaction costs 4.2 us, as it can't reuse
 * cursors). Queuing a row for commit costs the main thread 0.7-1 us; a synchronous transaction 3.7
 * us a row and the flush.
 */
import { mkdirSync } from "node:fs";
import { open } from "lmdb";
import type { Database, RangeOptions, RootDatabase, RootDatabaseOptions, Transaction } from "lmdb";
import { EMPTY, concatBytes, prefixEnd, readUint64, writeUint64 } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { Slab } from "../../shared/base/slab.ts";
import { BackendError, TABLES } from "../../shared/backend/backend.ts";
import type { BackendSizes, ScanOptions, Table } from "../../shared/backend/backend.ts";
import { checkDatabaseFile } from "./file-check.ts";
import {
  CHUNK_BYTES,
  NODE_ID_BYTES,
  POINTER_VALUE,
  boundBelow,
  longPath,
  nodeBelow,
  nodeRange,
  rootOf,
} from "./long-keys.ts";
import { DELETED } from "../../shared/backend/overlay.ts";
import type { Overlay } from "../../shared/backend/overlay.ts";

/** Counts up when the layout of the database changes so that older programs can't read it. */
export const DATABASE_FORMAT = 1;

const PAGE_BYTES = 4096;
/** Address space only; lmdb-js maps more when the database outgrows it. */
const MAP_BYTES = 4 * 1024 * 1024 * 1024;
const TREES_MAX = 16;
const SMALLEST_KEY = Uint8Array.of(0);
const FORMAT_KEY = Buffer.from("format");
const INDEX_KEY = Buffer.from("index");
const INSTALLED_KEY = Buffer.from("installed");

type Tree = Database<Bytes, Bytes>;
type Visit = (key: Bytes, value: Bytes) => boolean;

/** A stable state of the environment; it keeps pages from reuse until it is released. */
export type ReadTransaction = Transaction;

export interface Commit {
  /** The oldest first. */
  readonly overlays: readonly Overlay[];
  readonly index: number;
  /** Must answer for the state with the overlays on top. */
  readonly hasLonger: HasLonger;
  /** This completes a snapshot. */
  readonly installs: boolean;
}

export interface StoredRow {
  readonly key: Bytes;
  readonly value: Bytes;
}

type Rows = Iterator<StoredRow>;

/** Says whether a key with this prefix, longer than it, is there once a commit is done. */
export type HasLonger = (table: Table, prefix: Bytes) => boolean;

/** Rows that are read together are mostly let go together. */
const slab = new Slab();

/**
 * lmdb-js reuses its buffers: what is handed out is a copy, and a plain `Uint8Array` (slices of a
 * `Buffer` share).
 */
function copyOf(source: Bytes, start: number, end: number): Bytes {
  const length = end - start;
  const copy = slab.take(length);
  if (length > 64) copy.set(new Uint8Array(source.buffer, source.byteOffset + start, length));
  else for (let at = 0; at < length; at += 1) copy[at] = source[start + at] as number;
  return copy;
}

const TREE_OPTIONS: RootDatabaseOptions = {
  encoder: {
    encode: (value: Bytes): Bytes => value,
    decode: (source: Bytes): Bytes => copyOf(source, 0, source.length),
  },
  keyEncoder: {
    writeKey(key: Bytes, target: Bytes, start: number): number {
      target.set(key, start);
      return start + key.length;
    },
    readKey: copyOf,
  },
};

function encodeNumber(value: number): Bytes {
  const bytes = new Uint8Array(8);
  writeUint64(bytes, 0, value);
  return bytes;
}

export class Environment {
  readonly #root: RootDatabase<Bytes, Bytes>;
  readonly #tables: Record<Table, Tree>;
  readonly #finders: Record<Table, FirstFinder>;
  readonly #long: Tree;
  readonly #store: Tree;

  /** Opens or makes the environment in this folder. Throws `BackendError`. */
  static open(directory: string): Environment {
    checkDatabaseFile(`${directory}/data.mdb`);
    try {
      return new Environment(directory);
    } catch (cause) {
      if (cause instanceof BackendError) throw cause;
      throw new BackendError(
        `the database in ${directory} can't be opened: ${(cause as Error).message}; it is damaged or not ours`,
        { cause },
      );
    }
  }

  private constructor(directory: string) {
    this.#root = open<Bytes, Bytes>({
      path: directory,
      noSubdir: false,
      overlappingSync: false,
      // Every write is in an explicit batch; lmdb-js's own would reject a promise that nobody has.
      eventTurnBatching: false,
      pageSize: PAGE_BYTES,
      mapSize: MAP_BYTES,
      maxDbs: TREES_MAX,
      ...TREE_OPTIONS,
    });
    const tree = (name: string): Tree => this.#root.openDB<Bytes, Bytes>(name, TREE_OPTIONS);
    this.#store = tree("store");
    this.#long = tree("long");
    const tables = TABLES.map((table) => [table, tree(table)]);
    this.#tables = Object.fromEntries(tables) as Record<Table, Tree>;
    const finders = TABLES.map((table) => [table, new FirstFinder(this.#tables[table])]);
    this.#finders = Object.fromEntries(finders) as Record<Table, FirstFinder>;
    this.#checkFormat(directory);
    this.#fillFreeList();
  }

  #checkFormat(directory: string): void {
    const format = this.#number(FORMAT_KEY) ?? DATABASE_FORMAT;
    if (format === DATABASE_FORMAT) return;
    void this.#root.close();
    const text = `the database in ${directory} has format ${format}, this version reads ${DATABASE_FORMAT}`;
    throw new BackendError(format > DATABASE_FORMAT ? `${text}: a newer version wrote it` : text);
  }

  /**
   * The process aborts, and does so again at each start, when the first record in lmdb-js's list of
   * free pages doesn't fit into a page: LMDB looks for free pages in the very list that has this
   * record half. A compacted copy begins with an empty list, and a commit that changes some 250 pages
   * makes such a record. So a list that is empty gets a small one first.
   */
  #fillFreeList(): void {
    const { free } = this.#root.getStats() as { readonly free?: { readonly entryCount?: number } };
    if (free?.entryCount === 0) this.#store.putSync(FORMAT_KEY, encodeNumber(DATABASE_FORMAT));
  }

  /** The index of the last commit; 0 for a new environment. */
  get index(): number {
    return this.#number(INDEX_KEY) ?? 0;
  }

  /**
   * The index that the snapshot had which this environment was made from; `undefined`: from none.
   */
  get installedIndex(): number | undefined {
    return this.#number(INSTALLED_KEY);
  }

  #number(name: Bytes): number | undefined {
    const stored = this.#store.get(name);
    return stored === undefined ? undefined : readUint64(stored, 0);
  }

  beginRead(): ReadTransaction {
    this.refresh();
    return this.#root.useReadTransaction();
  }

  /** Reads from now on see the last commit, not what the event loop's turn began with. */
  refresh(): void {
    this.#root.resetReadTxn();
  }

  get(table: Table, key: Bytes, transaction?: ReadTransaction): Bytes | undefined {
    const options = transaction && { transaction };
    try {
      if (key.length <= CHUNK_BYTES) return this.#tables[table].get(key, options);
      return this.#long.get(longPath(table, key).row, options);
    } catch (cause) {
      throw readFault(cause);
    }
  }

  /** The first row of a range; a scan of one row costs half as much again. */
  first(table: Table, start: Bytes, end: Bytes): StoredRow | undefined {
    if (start.length <= CHUNK_BYTES && end.length <= CHUNK_BYTES) {
      const row = this.#finders[table].first(start, end);
      if (row === undefined || row.key.length <= CHUNK_BYTES) return row;
    }
    let found: StoredRow | undefined;
    this.scan(table, { start, end }, (key, value) => {
      found = { key, value };
      return false;
    });
    return found;
  }

  /** Calls `visit` for each row of the range until it answers false; returns the last answer. */
  scan(table: Table, range: ScanOptions, visit: Visit, transaction?: ReadTransaction): boolean {
    const reverse = range.reverse === true;
    const { start, end } = range;
    const rows = rowsOf(this.#tables[table], { start, end, reverse, transaction });
    let wanted = true;
    try {
      for (let next = nextOf(rows); next.done !== true; next = nextOf(rows)) {
        const { key, value } = next.value;
        const pointer = key.length > CHUNK_BYTES;
        wanted = pointer
          ? this.#scanNodes(levelBelow(rootLevel(table, range), key), {
              reverse,
              transaction,
              visit,
            })
          : visit(key, value);
        if (!wanted) break;
      }
    } finally {
      rows.return?.();
    }
    return wanted;
  }

  /**
   * The same for the nodes of long keys, from the one that a pointer of the table's tree leads to.
   */
  #scanNodes(
    first: Level,
    options: { reverse: boolean; transaction: ReadTransaction | undefined; visit: Visit },
  ): boolean {
    const stack: { readonly level: Level; readonly rows: Rows }[] = [];
    const enter = (level: Level): void => {
      stack.push({ level, rows: rowsOf(this.#long, { ...level, ...options }) });
    };
    enter(first);
    try {
      for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
        const next = nextOf(top.rows);
        if (next.done === true) {
          stack.pop();
          continue;
        }
        const { key, value } = next.value;
        const rest = key.subarray(NODE_ID_BYTES);
        if (rest.length > CHUNK_BYTES) enter(levelBelow(top.level, rest));
        else {
          const chunks = stack.map(({ level }) => level.chunk);
          if (!options.visit(concatBytes(...chunks, rest), value)) return false;
        }
      }
      return true;
    } finally {
      for (const { rows } of stack) rows.return?.();
    }
  }

  /** Commits all rows of the overlays and the index in one transaction; resolves once flushed. */
  async commit(commit: Commit): Promise<void> {
    const { overlays, index, hasLonger } = commit;
    const committed = this.#root.batch(() => {
      for (const overlay of overlays) this.#writeAll(overlay, hasLonger);
      void this.#store.put(FORMAT_KEY, encodeNumber(DATABASE_FORMAT));
      void this.#store.put(INDEX_KEY, encodeNumber(index));
      if (commit.installs) void this.#store.put(INSTALLED_KEY, encodeNumber(index));
    });
    try {
      await committed;
    } catch (cause) {
      throw await reasonOf(cause);
    }
    await this.#root.flushed;
  }

  #writeAll(overlay: Overlay, hasLonger: HasLonger): void {
    for (const table of TABLES) {
      overlay.maps[table].scan({}, (key, value) => {
        if (key.length > CHUNK_BYTES) this.#writeLong(table, key, value, hasLonger);
        else if (value === DELETED) void this.#tables[table].remove(key);
        else void this.#tables[table].put(key, value);
        return true;
      });
    }
  }

  #writeLong(table: Table, key: Bytes, value: Bytes, hasLonger: HasLonger): void {
    const { tablePointer, pointers, row } = longPath(table, key);
    if (value !== DELETED) {
      void this.#tables[table].put(tablePointer, POINTER_VALUE);
      for (const pointer of pointers) void this.#long.put(pointer, POINTER_VALUE);
      void this.#long.put(row, value);
      return;
    }
    void this.#long.remove(row);
    // A level is in use if a key goes on behind it; then all above are too.
    let [used, unused] = [0, pointers.length + 1];
    while (used < unused) {
      const middle = (used + unused + 1) >> 1;
      if (hasLonger(table, key.subarray(0, middle * CHUNK_BYTES))) used = middle;
      else unused = middle - 1;
    }
    for (const pointer of pointers.slice(Math.max(0, used - 1))) void this.#long.remove(pointer);
    if (used === 0) void this.#tables[table].remove(tablePointer);
  }

  sizes(): BackendSizes {
    const stats = (tree: Tree): Record<string, unknown> => ({ ...tree.getStats() });
    let pages = 2;
    const trees = [...TABLES.map((table) => this.#tables[table]), this.#long, this.#store];
    for (const tree of trees) pages += pagesOf(stats(tree));
    const root = stats(this.#root);
    pages += pagesOf(root) + pagesOf(root["free"] as Record<string, unknown>);
    const totalBytes = (Number(root["lastPageNumber"]) + 1) * PAGE_BYTES;
    return { totalBytes, inUseBytes: Math.min(totalBytes, pages * PAGE_BYTES) };
  }

  /**
   * Writes a compacted copy of the last commit as a new environment in the folder `directory`, on
   * another thread. Not synced. Throws `BackendError`.
   */
  async copyTo(directory: string): Promise<void> {
    try {
      mkdirSync(directory, { recursive: true });
      await this.#root.backup(directory, true);
    } catch (cause) {
      const text = `the database can't be copied to ${directory}: ${(cause as Error).message}`;
      throw new BackendError(text, { cause });
    }
  }

  async close(): Promise<void> {
    await this.#root.close();
  }
}

/** lmdb-js rejects with an error whose own promise rejects with the reason. */
async function reasonOf(cause: unknown): Promise<unknown> {
  try {
    await (cause as { commitError?: Promise<never> }).commitError;
    return cause;
  } catch (reason) {
    return reason;
  }
}

function pagesOf(stats: Record<string, unknown>): number {
  const names = ["treeBranchPageCount", "treeLeafPageCount", "overflowPages"];
  return names.reduce((pages, name) => pages + Number(stats[name]), 0);
}

/**
 * A node that a scan walks, the chunk whose pointer leads there, and the range as seen from inside.
 */
interface Level {
  readonly node: Bytes;
  readonly chunk: Bytes;
  readonly start: Bytes | undefined;
  readonly end: Bytes | undefined;
}

function rootLevel(table: Table, range: ScanOptions): Level {
  return { node: rootOf(table), chunk: EMPTY, start: range.start, end: range.end };
}

/** `pointer`: the pointer row's key without the node's id. */
function levelBelow(above: Level, pointer: Bytes): Level {
  const chunk = pointer.subarray(0, CHUNK_BYTES);
  const start = boundBelow(above.start, chunk);
  const end = boundBelow(above.end, chunk);
  return { node: nodeBelow(above.node, chunk), chunk, start, end };
}

/** The rows of a table's own tree (no `node`), or of one node, that a range can touch. */
function rowsOf(
  tree: Tree,
  options: {
    node?: Bytes;
    start: Bytes | undefined;
    end: Bytes | undefined;
    reverse: boolean;
    transaction: ReadTransaction | undefined;
  },
): Rows {
  const { reverse, transaction } = options;
  const { start, end, inclusiveEnd } = nodeRange(options.node, options.start, options.end);
  const rows = reverse
    ? { start: end, end: start ?? SMALLEST_KEY, exclusiveStart: !inclusiveEnd, inclusiveEnd: true }
    : { start, end, inclusiveEnd };
  // Absent bounds are given as `undefined`, which lmdb-js tells from not given; its types don't.
  const range = { ...rows, reverse, transaction } as unknown as RangeOptions;
  return tree.getRange(range)[Symbol.iterator]();
}

/**
 * Looks up single rows in a tree. Its range is made once and used with one pair of bounds after the
 * other: lmdb-js reads them anew with each iterator, and making ranges costs it more than walking.
 */
class FirstFinder {
  readonly #range: { start: Bytes; end: Bytes } = { start: EMPTY, end: EMPTY };
  readonly #rows: Iterable<StoredRow>;

  constructor(tree: Tree) {
    this.#rows = tree.getRange(this.#range);
  }

  first(start: Bytes, end: Bytes): StoredRow | undefined {
    this.#range.start = start;
    this.#range.end = end;
    const rows = this.#rows[Symbol.iterator]();
    try {
      const next = nextOf(rows);
      return next.done === true ? undefined : next.value;
    } finally {
      rows.return?.();
    }
  }
}

/** Tells LMDB's faults from what a visitor throws. */
function nextOf(rows: Rows): IteratorResult<StoredRow> {
  try {
    return rows.next();
  } catch (cause) {
    throw readFault(cause);
  }
}

function readFault(cause: unknown): BackendError {
  const text = cause instanceof Error ? cause.message : String(cause);
  return new BackendError(`the database can't be read: ${text}`, { cause });
}

/** The first key behind `prefix` that starts with it, and the end of those that do. */
export function longerThan(prefix: Bytes): ScanOptions {
  return { start: concatBytes(prefix, SMALLEST_KEY), end: prefixEnd(prefix) };
}
