/**
 * The part of a Durable Object's SQLite that the peer uses. Statements of one turn commit together,
 * and nothing leaves the object before they are durable (its output gate): "write, then send" needs
 * no explicit sync. Big integers can't be bound, and numbers past 2^53 come back wrong.
 */
export type SqlValue = ArrayBuffer | string | number | null;

export interface Sql {
  /** Runs one statement; the rows come as they are iterated. Throws what SQLite says. */
  exec(query: string, ...bindings: SqlValue[]): Iterable<Readonly<Record<string, SqlValue>>>;
  /** Bytes of the database file. */
  readonly databaseSize: number;
}

/** The single row of a query that always has one, read to its end: open cursors lock tables. */
export function oneRow(rows: Iterable<Readonly<Record<string, SqlValue>>>) {
  const [row] = [...rows];
  if (row === undefined) throw new TypeError("the query has no row");
  return row;
}

/** A blob to bind: exactly these bytes, as a buffer of their own if they are a part of one. */
export function blobOf(bytes: Uint8Array): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes;
  if (buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength === buffer.byteLength) {
    return buffer;
  }
  return bytes.slice().buffer;
}

/** The bytes of a blob column. */
export function bytesOfBlob(value: SqlValue | undefined): Uint8Array {
  if (!(value instanceof ArrayBuffer)) throw new TypeError("the column holds no blob");
  return new Uint8Array(value);
}

/** The number in an integer column. */
export function numberOfColumn(value: SqlValue | undefined): number {
  if (typeof value !== "number") throw new TypeError("the column holds no number");
  return value;
}

/** The text in a text column. */
export function textOfColumn(value: SqlValue | undefined): string {
  if (typeof value !== "string") throw new TypeError("the column holds no text");
  return value;
}

/** Runs a statement to its end: some runtimes start it only when its rows are asked for. */
export function consume(rows: Iterable<unknown>): void {
  for (const row of rows) void row;
}
