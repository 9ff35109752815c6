/** The backend on a Durable Object's SQLite: the common promises, on Node's SQLite. */
import { backendConformance } from "../../backend/conformance/conformance.ts";
import { SqlBackend } from "../../../../worker/durable/sql-backend.ts";
import type { RowLimits } from "../../../../worker/durable/sql-tables.ts";
import { NodeSql } from "../../../support/node-sql.ts";

/** `limits`: where rows are cut; so low that the promises' own keys and values are cut often. */
function conformanceWith(name: string, limits?: RowLimits): void {
  backendConformance(name, async () => {
    const sql = new NodeSql();
    return {
      backend: new SqlBackend(sql, limits),
      reopen: async (backend) => {
        await backend.close();
        return new SqlBackend(sql, limits);
      },
    };
  });
}

conformanceWith("SQLite");
conformanceWith("SQLite, short rows", { keyChunkBytes: 2000, pieceBytes: 1000 });
