/**
 * The `Host` of a peer in a Durable Object: storage in its SQLite, time by its clock, which stands
 * still within a turn and may step. A step back is ignored; lease-based reads, which would need more
 * than that, are never on here.
 */
import { createHash } from "node:crypto";
import type { Host, PeerTransport } from "../../shared/peer/host.ts";
import { SqlBackend } from "./sql-backend.ts";
import { SqlLogStore } from "./sql-log-store.ts";
import type { Sql } from "./sql.ts";

export interface DurableHostOptions {
  readonly sql: Sql;
  readonly transport: PeerTransport;
  readonly now: () => number;
  readonly report: Host["report"];
  readonly onFatal: (error: Error) => void;
}

export function createDurableHost(options: DurableHostOptions): Host {
  return {
    log: new SqlLogStore(options.sql),
    backend: new SqlBackend(options.sql),
    transport: options.transport,
    now: options.now,
    wallClock: () => Date.now(),
    schedule(milliseconds, callback) {
      const timer = setTimeout(callback, milliseconds);
      return () => clearTimeout(timer);
    },
    // A new event: what has arrived by now comes before it.
    defer: (callback) => void setTimeout(callback, 0),
    randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
    sha256() {
      const hash = createHash("sha256");
      return {
        update: (bytes) => void hash.update(bytes),
        digest: () => new Uint8Array(hash.digest()),
      };
    },
    report: options.report,
    fatal: options.onFatal,
  };
}

/** Milliseconds that never step back. */
export function steadyNow(clock: () => number): () => number {
  let last = 0;
  return () => {
    last = Math.max(last, clock());
    return last;
  };
}
