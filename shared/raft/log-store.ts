/**
 * The durable log that a host gives the peer: what `Ready` asks to be written, and what the core
 * reads back. The Node host implements it with the write-ahead log, the Durable Object host with
 * SQLite, the simulator with a crashable disk; one conformance suite
 * (`test/unit/raft/log-store-conformance.ts`) runs on each.
 */
import type { Entry, HardState, LogReader, Membership } from "./types.ts";

/**
 * The writes of one `Ready`, in this order: snapshot (the log starts anew behind it), hard state,
 * entries.
 */
export interface LogWrite {
  readonly sequence: number;
  readonly snapshot: { readonly index: number; readonly term: number } | undefined;
  readonly hardState: HardState | undefined;
  readonly entries: readonly Entry[];
  readonly mustSync: boolean;
}

export interface LogStore extends Omit<LogReader, "snapshot"> {
  /** As restored at start, or last appended. `undefined` for a log that was never written. */
  readonly hardState: HardState | undefined;
  /**
   * Takes the writes: readable at once, durable later. Never throws for I/O: a fault goes to the
   * host, which stops the peer. Writes become durable in order; one flush may cover many (group
   * commit).
   */
  append(write: LogWrite): void;
  /**
   * Called with the highest sequence that is durable, each time it grows; set once, before the
   * first `append`.
   */
  onDurable: (sequence: number) => void;
  /**
   * Entries up to `index` are no longer needed: the caller vouches that their effects are durable
   * elsewhere. A store may keep some of them, as it does those that it holds not durably yet.
   */
  compact(index: number): void;
}

/** A membership with no joint change under way. */
export function simpleMembership(
  voters: readonly string[],
  learners: readonly string[] = [],
): Membership {
  return { voters, learners, votersOutgoing: [], learnersNext: [], autoLeave: false };
}
