/**
 * The `Host` of a long-lived Node process: monotonic clock, timers and chance from Node; log,
 * backend and links as handed in.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Backend } from "../shared/backend/backend.ts";
import type { Hasher, Host, LogLevel, PeerTransport } from "../shared/peer/host.ts";
import type { LogStore } from "../shared/raft/log-store.ts";
import type { Logger } from "./logger.ts";

export interface NodeHostParts {
  readonly log: LogStore;
  readonly backend: Backend;
  readonly transport: PeerTransport;
  readonly logger: Logger;
  /** The peer can't go on: the process ends. */
  readonly onFatal: (error: Error) => void;
}

export function createNodeHost(parts: NodeHostParts): Host {
  return {
    log: parts.log,
    backend: parts.backend,
    transport: parts.transport,
    now: () => performance.now(),
    wallClock: () => Date.now(),
    schedule(milliseconds, callback) {
      const timer = setTimeout(callback, milliseconds);
      return () => clearTimeout(timer);
    },
    // The check phase follows the poll phase: everything that the sockets had to offer has been
    // taken in by then.
    defer: (callback) => void setImmediate(callback),
    randomBytes: (count) => randomBytes(count),
    sha256: createSha256,
    report: (level: LogLevel, message, fields) => parts.logger.report(level, message, fields),
    fatal: parts.onFatal,
  };
}

function createSha256(): Hasher {
  const hash = createHash("sha256");
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => hash.digest(),
  };
}
