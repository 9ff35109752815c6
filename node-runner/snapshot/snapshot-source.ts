/**
 * A snapshot to restore from, whoever wrote it. `open-snapshot.ts` finds out whose a file is.
 *
 * Of the state only what clients see is taken over: key-values with all their revisions, what was
 * compacted, and leases. Members, terms, alarms and what is known of retried writes belong to the
 * cluster that the snapshot was taken from.
 */
import type { BatchWriter } from "../../shared/backend/backend.ts";

export interface SnapshotStatus {
  /** CRC-32C of all names and rows. */
  readonly hash: number;
  readonly revision: number;
  readonly totalKeys: number;
  readonly totalBytes: number;
  readonly version: string;
}

export type Fill = (writer: BatchWriter) => void;

export interface CopiedState {
  readonly revision: number;
  /** -1: nothing is compacted. */
  readonly compactRevision: number;
  /** What of the snapshot wasn't taken over, or is worth knowing: sentences for the operator. */
  readonly notes: readonly string[];
}

/** All of it throws `SnapshotFileError` where the file is damaged. */
export interface SnapshotSource {
  readonly kind: "quorate" | "etcd";
  /** Reads everything. */
  status(): SnapshotStatus;
  /** The rows in bounded steps; returns what they amount to. */
  copy(): Generator<Fill, CopiedState, undefined>;
}
