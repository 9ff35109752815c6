/**
 * A peer over a Durable Object's storage and stubs, free of the platform's classes: `PeerObject` runs
 * it in workerd, and tests run it on Node, two incarnations of one member included.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import type { Peer, PeerConfig } from "../../shared/peer/peer.ts";
import type { Host } from "../../shared/peer/host.ts";
import { startPeer } from "../../shared/peer/start-peer.ts";
import { createDurableHost, steadyNow } from "./durable-host.ts";
import { Fence } from "./fence.ts";
import type { Sql } from "./sql.ts";
import { StubTransport, type PeerStub } from "./stub-transport.ts";
import type { Voters } from "./voters.ts";

export interface PeerNodeOptions {
  readonly sql: Sql;
  readonly voters: Voters;
  /** The name of this one among them. */
  readonly name: string;
  stubOf(name: string): PeerStub;
  readonly tickMilliseconds: number;
  readonly report: Host["report"];
  /** The object must start anew. */
  readonly onFatal: (error: Error) => void;
}

/** A peer that runs, as its doors see it. */
export interface ServedPeer {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly peer: Peer;
  readonly fence: Fence;
}

export interface PeerNode extends ServedPeer {
  /** What the other members call. */
  readonly receiver: PeerStub;
}

/** Of watches that ask for progress: etcd's default. */
const PROGRESS_NOTIFY_MILLISECONDS = 600_000;

/** Log entries between cuts, and kept behind: fewer than on Node, as all of it is paid for. */
const COMPACT_LOG_EVERY = 2000;
const CATCH_UP_ENTRIES = 1000;

/** What all peers in Durable Objects have in common. */
export const DURABLE_CONFIG = {
  forceNewCluster: false,
  strictReconfigCheck: true,
  learnersMax: LIMITS.learnersMax,
  electionTicks: LIMITS.electionTicks,
  requestBytesMax: LIMITS.requestBytesMax,
  txnOpsMax: LIMITS.txnOpsMax,
  quotaBytes: LIMITS.quotaBytes,
  compactLogEvery: COMPACT_LOG_EVERY,
  catchUpEntries: CATCH_UP_ENTRIES,
  progressNotifyMilliseconds: PROGRESS_NOTIFY_MILLISECONDS,
} as const satisfies Partial<PeerConfig>;

export function startPeerNode(options: PeerNodeOptions): PeerNode {
  const { sql, voters, name } = options;
  const own = voters.members.find((member) => member.name === name);
  if (own === undefined) throw new Error(`${name} is none of the cluster's voters`);
  const names = new Map(voters.members.map((member) => [String(member.id), member.name]));
  const fence = new Fence(sql, options.onFatal);
  const now = steadyNow(() => Date.now());
  const transport = new StubTransport({
    memberId: own.id,
    fence,
    now,
    stubOf: (id) => {
      const to = names.get(id);
      return to === undefined ? undefined : options.stubOf(to);
    },
  });
  const { report, onFatal } = options;
  const host = createDurableHost({ sql, transport, now, report, onFatal });
  const peer = startPeer(host, {
    clusterId: voters.clusterId,
    memberId: own.id,
    name,
    clientUrls: own.peerUrls,
    bootstrapMembers: voters.members,
    joinThrough: [],
    tickMilliseconds: options.tickMilliseconds,
    ...DURABLE_CONFIG,
  });
  return {
    clusterId: voters.clusterId,
    memberId: own.id,
    peer,
    fence,
    receiver: transport.receiver,
  };
}
