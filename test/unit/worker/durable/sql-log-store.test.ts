/** The log of a peer in a Durable Object: the common promises, on Node's SQLite. */
import { SqlLogStore } from "../../../../worker/durable/sql-log-store.ts";
import { NodeSql } from "../../../support/node-sql.ts";
import { logStoreConformance } from "../../raft/log-store-conformance.ts";

logStoreConformance("SQLite", () => {
  const sql = new NodeSql();
  return {
    store: new SqlLogStore(sql),
    // Durable with the turn that wrote it.
    settle: () => {},
    reopen: () => new SqlLogStore(sql),
  };
});
