/**
 * A superseded incarnation of a Durable Object may go on answering from memory: the platform checks
 * that an object is the only one at an event's start and at storage access alone. So whatever leaves
 * a peer - a vote, an acknowledgement, a heartbeat, an answer to a client - leaves a turn that also
 * wrote storage: the output gate holds it back until that write is durable, and the write of an
 * incarnation that was superseded never is.
 */
import { consume, type Sql } from "./sql.ts";

export class Fence {
  readonly #sql: Sql;
  readonly #onFault: (error: Error) => void;
  #isWritten = false;

  /** `onFault`: the storage takes no writes (it is full, say). The object must not go on. */
  constructor(sql: Sql, onFault: (error: Error) => void) {
    this.#sql = sql;
    this.#onFault = onFault;
    consume(sql.exec("CREATE TABLE IF NOT EXISTS fence (one INTEGER PRIMARY KEY, turns INTEGER)"));
    consume(sql.exec("INSERT OR IGNORE INTO fence VALUES (1, 0)"));
  }

  /**
   * To be called in the turn in which something leaves, before it does. One row a turn at most.
   * Throws what SQLite says: then nothing may leave.
   */
  pass(): void {
    if (this.#isWritten) return;
    try {
      consume(this.#sql.exec("UPDATE fence SET turns = turns + 1"));
    } catch (error) {
      this.#onFault(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
    this.#isWritten = true;
    // The end of this turn at the latest: what follows an await may be a turn of its own.
    queueMicrotask(() => {
      this.#isWritten = false;
    });
  }
}
