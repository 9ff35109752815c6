/** The store that a conformance test works on, and how its rows are written down. */
import type {
  Backend,
  BackendReader,
  ScanOptions,
  Table,
} from "../../../../shared/backend/backend.ts";
import { hexOf, utf8 } from "../../../../shared/base/bytes.ts";
import type { Bytes } from "../../../../shared/base/bytes.ts";

export interface OpenedBackend {
  readonly backend: Backend;
  readonly reopen?: (backend: Backend) => Promise<Backend>;
  /** Called after the test, when the backend is closed: removes files. */
  readonly remove?: () => Promise<void>;
}

/** One store a test; `end` closes it. */
export class StoreUnderTest {
  readonly #open: () => Promise<OpenedBackend>;
  #opened: OpenedBackend | undefined;
  #current: Backend | undefined;

  constructor(open: () => Promise<OpenedBackend>) {
    this.#open = open;
  }

  /** A new, empty store. */
  async start(): Promise<Backend> {
    this.#opened = await this.#open();
    this.#current = this.#opened.backend;
    return this.#current;
  }

  /** Whether the store that was started can be closed and opened again. */
  get outlivesProcess(): boolean {
    return this.#opened?.reopen !== undefined;
  }

  async restart(): Promise<Backend> {
    const reopen = this.#opened?.reopen;
    if (reopen === undefined || this.#current === undefined) throw new Error("no reopen");
    this.#current = await reopen(this.#current);
    return this.#current;
  }

  /** The test has closed the store itself. */
  abandon(): void {
    this.#current = undefined;
  }

  async end(): Promise<void> {
    await this.#current?.close();
    await this.#opened?.remove?.();
    this.#current = undefined;
    this.#opened = undefined;
  }
}

/** Rows as text, `key=value` in hexadecimal: readable in a failure. */
export function rowsOf(reader: BackendReader, table: Table, options: ScanOptions = {}): string[] {
  const rows: string[] = [];
  reader.scan(table, options, (key, value) => {
    rows.push(`${hexOf(key)}=${hexOf(value)}`);
    return true;
  });
  return rows;
}

/** As `rowsOf`, of the first row of the range. */
export function firstRowOf(reader: BackendReader, table: Table, range: ScanOptions): string[] {
  const rows: string[] = [];
  reader.scan(table, { ...range, firstOnly: true }, (key, value) => {
    rows.push(`${hexOf(key)}=${hexOf(value)}`);
    return false;
  });
  return rows;
}

export function textsOf(reader: BackendReader, table: Table, options: ScanOptions = {}): string[] {
  const keys: string[] = [];
  reader.scan(table, options, (key) => {
    keys.push(String.fromCharCode(...key));
    return true;
  });
  return keys;
}

export function putAll(backend: Backend, table: Table, keys: readonly string[]): void {
  backend.apply(backend.visibleIndex, (writer) => {
    for (const key of keys) writer.put(table, utf8(key), utf8(`value of ${key}`));
  });
}

/** A key of `length` bytes that differs from its neighbours only in its last bytes. */
export function longKey(length: number, last: number): Bytes {
  const key = new Uint8Array(length).fill(0x61);
  key[length - 1] = last & 0xff;
  key[length - 2] = last >> 8;
  return key;
}
