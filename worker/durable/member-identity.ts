/**
 * Who a member in a Durable Object is: told by the cluster once, and kept beside the data.
 *
 *   member        cluster and member id, in decimal; no row: nobody has told yet, or it was removed
 *   former_member ids that it had before: they never come back, as their votes and log are gone
 */
import { assert } from "../../shared/base/assert.ts";
import type { Sql } from "./sql.ts";
import { consume, textOfColumn } from "./sql.ts";

export interface MemberIdentity {
  readonly clusterId: bigint;
  readonly memberId: bigint;
}

/** Tables of the peer; what else is there outlives a member. */
const PEER_TABLES = /^(log|log_more|log_state|backend|g\d+_\w+)$/;

export class IdentityStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    consume(
      sql.exec(
        "CREATE TABLE IF NOT EXISTS member (one INTEGER PRIMARY KEY, cluster TEXT, id TEXT)",
      ),
    );
    consume(sql.exec("CREATE TABLE IF NOT EXISTS former_member (id TEXT PRIMARY KEY)"));
  }

  get current(): MemberIdentity | undefined {
    const [row] = [...this.#sql.exec("SELECT cluster, id FROM member")];
    if (row === undefined) return undefined;
    const { cluster, id } = row;
    return { clusterId: BigInt(textOfColumn(cluster)), memberId: BigInt(textOfColumn(id)) };
  }

  /** Whether this was a member's id here before. */
  isFormer(memberId: bigint): boolean {
    const rows = this.#sql.exec("SELECT id FROM former_member WHERE id = ?", String(memberId));
    return [...rows].length > 0;
  }

  /** Whether some member has left its id here. */
  get hasFormer(): boolean {
    return [...this.#sql.exec("SELECT id FROM former_member LIMIT 1")].length > 0;
  }

  /** Whether some member's data are here, the current one's or a former one's. */
  get hasData(): boolean {
    return this.#peerTables().length > 0;
  }

  /** Becomes this member. There must be no data. */
  adopt({ clusterId, memberId }: MemberIdentity): void {
    assert(this.current === undefined && !this.hasData, "adopted where a member is");
    const insert = "INSERT INTO member VALUES (1, ?, ?)";
    consume(this.#sql.exec(insert, String(clusterId), String(memberId)));
  }

  /** Is no member any more; the data stay until `wipe`. */
  retire(): void {
    const former = "INSERT OR IGNORE INTO former_member SELECT id FROM member";
    consume(this.#sql.exec(former));
    consume(this.#sql.exec("DELETE FROM member"));
  }

  /** Drops a former member's data. Only before a peer has run: what it reads locks its tables. */
  wipe(): void {
    assert(this.current === undefined, "a member's data are not to be dropped");
    for (const name of this.#peerTables()) consume(this.#sql.exec(`DROP TABLE ${name}`));
  }

  #peerTables(): string[] {
    const rows = [...this.#sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'")];
    return rows.map(({ name }) => textOfColumn(name)).filter((name) => PEER_TABLES.test(name));
  }
}
