/**
 * The interface of a replicated peer: consensus, state machine and services over a `Host`.
 * `startPeer` in `start-peer.ts` makes one. All callbacks of the host run on one thread; nothing
 * here blocks.
 */
import { LIMITS } from "../base/limits.ts";
import type { Host } from "./host.ts";
import type { Services } from "./services.ts";
import type { RaftStatus } from "../raft/types.ts";

export interface PeerMember {
  readonly id: bigint;
  readonly name: string;
  readonly peerUrls: readonly string[];
}

export interface PeerConfig {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** What it speaks with other members and reads in the log; the newest, unless a test says otherwise. */
  readonly version?: number | undefined;
  readonly name: string;
  readonly clientUrls: readonly string[];
  /**
   * The members of a new cluster, this one included; ignored when the backend already holds a
   * membership. Empty: this peer joins a running cluster, and gets its members with a snapshot.
   */
  readonly bootstrapMembers: readonly PeerMember[];
  /** Where a peer that joins finds the others until then. */
  readonly joinThrough: readonly PeerMember[];
  /**
   * Makes this peer the only member, with the data it has, at the start: for a cluster that has
   * lost its quorum for good. The other members must not run any more.
   */
  readonly forceNewCluster: boolean;
  /** Refuses changes of the members that would endanger the quorum. */
  readonly strictReconfigCheck: boolean;
  /** Learners that a cluster may have when this peer proposes one. */
  readonly learnersMax: number;
  readonly tickMilliseconds: number;
  readonly electionTicks: number;
  /**
   * Serves linearizable reads under a leader's lease where it can, without a round, and keeps the
   * promises that other leaders' leases rest on. All that is promised of reads then depends on the
   * members' clocks: their rates differ by less than `LIMITS.clockDriftMax`, and none stands still
   * while its machine goes on. Absent: no.
   */
  readonly leaseReads?: boolean | undefined;
  readonly requestBytesMax: number;
  readonly txnOpsMax: number;
  readonly quotaBytes: number;
  readonly compactLogEvery: number;
  readonly catchUpEntries: number;
  readonly progressNotifyMilliseconds: number;
  /** Absent: `DEFAULT_UPKEEP`. */
  readonly upkeep?: UpkeepConfig | undefined;
}

/** What a peer counts, for metrics. Those without another remark: since its start. */
export interface PeerCounts {
  readonly puts: number;
  readonly deletes: number;
  readonly ranges: number;
  /** Of more than one operation. */
  readonly transactions: number;
  /** Keys that exist now. */
  readonly keys: number;
  /** -1: nothing was compacted yet. */
  readonly compactRevision: number;
  /** Watchers that are open now, and those of them that lag. */
  readonly watchers: number;
  readonly laggingWatchers: number;
  readonly leaderChanges: number;
  /** Proposals that wait now. */
  readonly proposalsPending: number;
  readonly proposalsFailed: number;
}

export type AutoCompaction =
  | { readonly mode: "off" }
  /** What was current so long ago is compacted. */
  | { readonly mode: "periodic"; readonly milliseconds: number }
  /** All but so many of the newest revisions are. */
  | { readonly mode: "revision"; readonly keep: number };

/** What a peer does unasked to stay small and sound. */
export interface UpkeepConfig {
  readonly autoCompaction: AutoCompaction;
  /** Rows that a step of the removal behind a compaction touches, and the pause after it. */
  readonly compactionRowsPerStep: number;
  readonly compactionPauseMilliseconds: number;
  /** How often the leader compares all members' hashes; 0: never. */
  readonly corruptCheckMilliseconds: number;
  /** How often it looks whether a compaction is to be compared; 0: never. */
  readonly compactHashCheckMilliseconds: number;
}

/** Etcd's defaults. */
export const DEFAULT_UPKEEP: UpkeepConfig = {
  autoCompaction: { mode: "off" },
  compactionRowsPerStep: LIMITS.compactionRowsPerStep,
  compactionPauseMilliseconds: 10,
  corruptCheckMilliseconds: 0,
  compactHashCheckMilliseconds: 0,
};

export interface Peer {
  readonly services: Services;
  raftStatus(): RaftStatus;
  counts(): PeerCounts;
  /**
   * Resolves when this peer knows a leader and has applied up to where it could serve; etcd's
   * "ready to serve".
   */
  ready(): Promise<void>;
  /**
   * Compares this peer's data with that of the members that answer soon; rejects if they differ.
   * Serves nobody by itself: the host asks before it opens its doors.
   */
  checkInitially(): Promise<void>;
  /**
   * Hands leadership over if it leads, answers what waits with "server stopped", and uses the host
   * no more.
   */
  stop(): Promise<void>;
}

export type StartPeer = (host: Host, config: PeerConfig) => Peer;
