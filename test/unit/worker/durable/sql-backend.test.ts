/** The backend on a Durable Object's SQLite: the common promises, on Node's SQLite. */
import { backendConformance } from "../../backend/conformance/conformance.ts";
import { SqlBackend } from "../../../../worker/durable/sql-backend.ts";
import { NodeSql } from "../../../support/node-sql.ts";

backendConformance("SQLite", async () => {
  const sql = new NodeSql();
  return {
    backend: new SqlBackend(sql),
    reopen: async (backend) => {
      await backend.close();
      return new SqlBackend(sql);
    },
  };
});
