/**
 * From what a host has stored to a running raft core: the bootstrap of a new cluster, and the
 * restart of an old one.
 */
import { assert } from "../../base/assert.ts";
import { LIMITS } from "../../base/limits.ts";
import { createRaft } from "../../raft/raft.ts";
import type { HardState, LogReader, RaftNode, SnapshotMark } from "../../raft/types.ts";
import type { Host } from "../host.ts";
import { assertVersion } from "../version-keeper.ts";
import { MemberRemovedError } from "../membership-keeper.ts";
import type { PeerConfig } from "../peer.ts";
import { PEER_VERSION } from "../../wire/peer-codec.ts";
import { forcedLog } from "./force-new-cluster.ts";
import { clusterIdOf } from "../state/member-table.ts";
import type { StateMachine } from "../state/state-machine.ts";

export interface OpenedRaft {
  readonly raft: RaftNode;
  readonly hardState: HardState;
  /** Writes of this start so far: the log's sequence numbers lie this much above raft's. */
  readonly sequenceOffset: number;
}

/** Checks that the store is this cluster's and this member's, or makes it so if it is new. */
export function openMembership(host: Host, config: PeerConfig, state: StateMachine): void {
  const stored = clusterIdOf(host.backend);
  if (stored === undefined) {
    const members = config.bootstrapMembers.map((member) => ({
      ...member,
      clientUrls: [],
      isLearner: false,
      // Etcd's members are nameless until they have started.
      name: "",
    }));
    const version = config.version ?? PEER_VERSION;
    state.members.bootstrap(config.clusterId, members, { backend: host.backend, version });
  } else if (stored !== config.clusterId) {
    throw new Error(
      `the data belong to cluster ${stored.toString(16)}, not to ${config.clusterId.toString(16)}`,
    );
  }
  assertVersion(state, config);
  const { members } = state;
  if (members.isRemoved(config.memberId)) throw new MemberRemovedError();
  // One that joins knows no members until its first snapshot.
  if (members.members.length > 0 && members.member(config.memberId) === undefined) {
    throw new Error(`member ${config.memberId.toString(16)} is not in this cluster`);
  }
}

export function openRaft(
  host: Host,
  config: PeerConfig,
  options: {
    readonly state: StateMachine;
    readonly seed: number;
    snapshot(): SnapshotMark | undefined;
  },
): OpenedRaft {
  const { log } = host;
  const { state } = options;
  const applied = state.appliedIndex;
  const stored = log.hardState ?? { term: 0, vote: undefined, commit: 0 };
  // The state may hold entries of a term that the log never heard of: no vote was cast in it here.
  const term = Math.max(stored.term, state.appliedTerm);
  let hardState: HardState = {
    term,
    vote: term === stored.term ? stored.vote : undefined,
    commit: Math.max(stored.commit, applied),
  };
  let sequenceOffset = 0;
  const logged = log.termOf(applied);
  if (log.lastIndex < applied || (logged !== undefined && logged !== state.appliedTerm)) {
    // The state is ahead of the log: entries were applied, as a quorum held them, before this log was
    // flushed, or a snapshot was installed. All that is applied is committed, so what the log holds in
    // its place is not: it starts anew.
    sequenceOffset = 1;
    log.append({
      sequence: 1,
      snapshot: { index: applied, term: state.appliedTerm },
      hardState,
      entries: [],
      mustSync: true,
    });
  }
  const forced = config.forceNewCluster ? forcedLog(log, config, { state, hardState }) : undefined;
  if (forced !== undefined) {
    sequenceOffset += 1;
    ({ hardState } = forced);
    const { entries } = forced;
    const write = { sequence: sequenceOffset, hardState, entries };
    log.append({ ...write, snapshot: undefined, mustSync: true });
    host.report("warn", "made this member a cluster of its own: the others are removed", {
      others: forced.removed,
    });
  }
  assert(
    log.firstIndex <= applied + 1,
    `the log begins at ${log.firstIndex}, ${applied} is applied`,
  );
  const reader: LogReader = {
    get firstIndex() {
      return log.firstIndex;
    },
    get lastIndex() {
      return log.lastIndex;
    },
    termOf: (index) => log.termOf(index),
    slice: (low, high, bytesMax) => log.slice(low, high, bytesMax),
    snapshot: () => options.snapshot(),
  };
  const raft = createRaft(
    {
      id: String(config.memberId),
      electionTicks: config.electionTicks,
      heartbeatTicks: LIMITS.heartbeatTicks,
      seed: options.seed,
      hardState,
      membership: state.members.membership,
      applied,
      preVote: true,
      checkQuorum: true,
      leaderLease:
        config.leaseReads === true
          ? { tickMilliseconds: config.tickMilliseconds, driftMax: LIMITS.clockDriftMax }
          : undefined,
      appendBytesMax: LIMITS.appendBytesMax,
      appendsInFlightMax: LIMITS.appendsInFlightMax,
      appendBytesInFlightMax: LIMITS.appendBytesInFlightMax,
      uncommittedBytesMax: LIMITS.uncommittedBytesMax,
      committedBytesMax: LIMITS.committedBytesMax,
    },
    reader,
  );
  return { raft, hardState, sequenceOffset };
}
