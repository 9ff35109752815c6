/**
 * Every named bound of the project, with its reason. Values that etcd also has carry etcd's
 * default. Configuration may override those that `PeerConfig` or a host's flags name; the rest are
 * constants. The assertions at the end relate them.
 */
import { assert } from "./assert.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

export const LIMITS = {
  /** A request's protobuf bytes, whatever the door (etcd: --max-request-bytes). */
  requestBytesMax: 1.5 * MIB,
  /** What a door reads above `requestBytesMax` before it refuses (etcd: grpcOverheadBytes). */
  requestOverheadBytes: 512 * KIB,
  /**
   * Operations of one list of a transaction; nested ones share the parent's rest (etcd:
   * --max-txn-ops).
   */
  txnOpsMax: 128,
  /**
   * Nesting of transactions: the decoder's recursion is bounded before the operations are counted.
   */
  txnDepthMax: 32,

  /** Raft's tick, and ticks between heartbeats and before an election (etcd: 100 ms, 1, 10). */
  tickMilliseconds: 100,
  heartbeatTicks: 1,
  electionTicks: 10,
  /**
   * Bytes of entries in one append message: a follower's fsync covers one (etcd-io/raft:
   * MaxSizePerMsg).
   */
  appendBytesMax: 1 * MIB,
  /** Append messages under way to one follower (etcd-io/raft: MaxInflightMsgs). */
  appendsInFlightMax: 512,
  /** Bytes of entries under way to one follower, whatever their number. */
  appendBytesInFlightMax: 16 * MIB,
  /**
   * Proposed bytes that are not yet committed; beyond it proposals are dropped (raft:
   * MaxUncommittedEntriesSize).
   */
  uncommittedBytesMax: 64 * MIB,
  /** Committed bytes that are handed to apply in one Ready. */
  committedBytesMax: 4 * MIB,
  /**
   * Committed but unapplied entries, past which new proposals get "too many requests" (etcd:
   * maxGapBetweenApplyAndCommitIndex).
   */
  applyGapMax: 5000,

  /**
   * Entries that stay in the log behind the applied index for slow followers (etcd:
   * --snapshot-catchup-entries).
   */
  catchUpEntries: 5000,
  /** Entries between two compactions of the log (etcd: --snapshot-count). */
  compactLogEvery: 10_000,

  /**
   * Rows and bytes that one synchronous stretch may read or write before it yields to the event
   * loop.
   */
  /** Bytes of a segment of the write-ahead log; compaction removes whole ones (etcd: SegmentSizeBytes, 64 MB). */
  walSegmentBytes: 64 * MIB,

  /** Rows and bytes that one synchronous stretch may read or write before it yields to the event loop. */
  stretchRowsMax: 10_000,
  stretchBytesMax: 4 * MIB,

  /** Backend size at which NOSPACE is raised (etcd: --quota-backend-bytes, 0 means 2 GiB). */
  quotaBytes: 2048 * MIB,

  /** Lease bounds (etcd: lease.MaxLeaseTTL; minLeaseTTL follows the election timeout). */
  leaseTtlSecondsMax: 9_000_000_000,
  /**
   * Lease ids in one revoke entry: one entry stays far below `appendBytesMax` and its deletes are
   * one stretch.
   */
  leaseRevokesPerEntryMax: 500,

  /**
   * Revisions of history in one watch response, and watchers that one catch-up pass serves (etcd:
   * 1000, 512).
   */
  watchRevisionsPerResponseMax: 1000,
  watchersPerPassMax: 512,
  /**
   * Bytes of undelivered responses of one watch stream; past it its watchers turn into lagging
   * ones.
   */
  watchStreamBytesMax: 4 * MIB,

  /** A CBOR frame of a link or a peer connection, and how deeply it may nest. */
  frameBytesMax: 4 * MIB,
  frameDepthMax: 64,
  /** Calls under way on one link connection. */
  linkCallsMax: 4096,

  /** Bytes of one chunk of a snapshot stream. */
  snapshotChunkBytes: 256 * KIB,
} as const;

assert(LIMITS.electionTicks > LIMITS.heartbeatTicks, "an election outlasts a heartbeat");
assert(
  LIMITS.frameBytesMax >=
    LIMITS.requestBytesMax + LIMITS.requestOverheadBytes + LIMITS.appendBytesMax,
  "a frame holds the largest request, and an append whose last entry is the largest request",
);
assert(LIMITS.uncommittedBytesMax > LIMITS.appendBytesInFlightMax, "the window can fill");
