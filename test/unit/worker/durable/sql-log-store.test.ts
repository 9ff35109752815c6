/** The log of a peer in a Durable Object: the common promises, on Node's SQLite. */
import { SqlLogStore } from "../../../../worker/durable/sql-log-store.ts";
import { NodeSql } from "../../../support/node-sql.ts";
import { logStoreConformance } from "../../raft/log-store-conformance.ts";

/** `pieceBytes`: where rows are cut; so low that the promises' own entries are cut. */
function conformanceWith(name: string, pieceBytes?: number): void {
  logStoreConformance(name, () => {
    const sql = new NodeSql();
    return {
      store: new SqlLogStore(sql, pieceBytes),
      // Durable with the turn that wrote it.
      settle: () => {},
      reopen: () => new SqlLogStore(sql, pieceBytes),
    };
  });
}

conformanceWith("SQLite");
conformanceWith("SQLite, short rows", 16);
