/**
 * The interface of a replicated peer: consensus, state machine and services over a `Host`.
 * `startPeer` in `start-peer.ts` makes one. All callbacks of the host run on one thread; nothing
 * here blocks.
 */
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
  readonly requestBytesMax: number;
  readonly txnOpsMax: number;
  readonly quotaBytes: number;
  readonly compactLogEvery: number;
  readonly catchUpEntries: number;
  readonly progressNotifyMilliseconds: number;
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
  readonly leaderChanges: number;
  /** Proposals that wait now. */
  readonly proposalsPending: number;
  readonly proposalsFailed: number;
}

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
   * Hands leadership over if it leads, answers what waits with "server stopped", and uses the host
   * no more.
   */
  stop(): Promise<void>;
}

export type StartPeer = (host: Host, config: PeerConfig) => Peer;
