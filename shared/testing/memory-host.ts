/**
 * A peer's host in memory: nothing is written anywhere, time and chance are the platform's. What a
 * member holds outlives its peer, so that it can be stopped and started again.
 */
import { MemoryBackend } from "../backend/memory-backend.ts";
import type { Bytes } from "../base/bytes.ts";
import { Sha256 } from "../base/sha256.ts";
import type { Host, LogLevel, PeerTransport } from "../peer/host.ts";
import { MemoryLogStore } from "../raft/memory-log-store.ts";
import { RealClock } from "./real-clock.ts";

/** What stands for a member's disk. */
export interface MemoryDisk {
  readonly log: MemoryLogStore;
  readonly backend: MemoryBackend;
}

/** An empty one, or what another still holds after its peer has ended. */
export function memoryDisk(before?: MemoryDisk): MemoryDisk {
  return {
    log: before?.log.crash() ?? new MemoryLogStore({ flush: "atOnce" }),
    backend: before?.backend ?? new MemoryBackend(),
  };
}

export interface MemoryHostOptions {
  readonly disk: MemoryDisk;
  readonly transport: PeerTransport;
  randomBytes(count: number): Bytes;
  report(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export class MemoryHost implements Host {
  readonly log: MemoryLogStore;
  readonly backend: MemoryBackend;
  readonly transport: PeerTransport;
  readonly #options: MemoryHostOptions;
  readonly #clock = new RealClock();

  constructor(options: MemoryHostOptions) {
    this.log = options.disk.log;
    this.backend = options.disk.backend;
    this.transport = options.transport;
    this.#options = options;
  }

  now(): number {
    return this.#clock.now();
  }

  wallClock(): number {
    return Date.now();
  }

  schedule(milliseconds: number, callback: () => void): () => void {
    return this.#clock.schedule(milliseconds, callback);
  }

  defer(callback: () => void): void {
    this.#clock.defer(callback);
  }

  randomBytes(count: number): Bytes {
    return this.#options.randomBytes(count);
  }

  sha256(): Sha256 {
    return new Sha256();
  }

  report(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void {
    this.#options.report(level, message, fields);
  }

  /** A broken invariant of the peer: the test that meets it should see it, not hang. */
  fatal(error: Error): void {
    this.close();
    throw error;
  }

  /** Calls nothing back any more. */
  close(): void {
    this.#clock.close();
  }
}
