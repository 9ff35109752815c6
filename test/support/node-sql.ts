/** A Durable Object's SQLite as far as the peer uses it, over Node's own. */
import { DatabaseSync } from "node:sqlite";
import type { Sql, SqlValue } from "../../worker/durable/sql.ts";

export class NodeSql implements Sql {
  readonly #database: DatabaseSync;

  constructor(database = new DatabaseSync(":memory:")) {
    this.#database = database;
  }

  get databaseSize(): number {
    const { pages } = this.#database
      .prepare("SELECT page_count AS pages FROM pragma_page_count")
      .get() as {
      pages: number;
    };
    return pages * 4096;
  }

  *exec(query: string, ...bindings: SqlValue[]): Iterable<Readonly<Record<string, SqlValue>>> {
    const statement = this.#database.prepare(query);
    const bound = bindings.map((each) =>
      each instanceof ArrayBuffer ? new Uint8Array(each) : each,
    );
    for (const row of statement.iterate(...bound)) {
      yield Object.fromEntries(
        Object.entries(row as Record<string, unknown>).map(([name, value]) => [
          name,
          value instanceof Uint8Array ? value.slice().buffer : (value as SqlValue),
        ]),
      );
    }
  }
}
