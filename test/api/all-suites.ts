/** Every suite of the API, in one list, and the targets that are clusters of processes. */
import { EtcdClient } from "../support/etcd-client.ts";
import type { Cluster } from "../support/cluster.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import type { ApiSuite, Target } from "./api-suite.ts";
import { lease } from "./suites/lease.ts";
import { rangeBasics, rangeRevisions, rangeSorting, rangeStream } from "./suites/range.ts";
import { badRequests, clusterWide, headers, members } from "./suites/service.ts";
import { txnCompares, txnEffects, txnRefusals, txnRefusedRange } from "./suites/txn.ts";
import { watchControl, watchEvents } from "./suites/watch.ts";
import { compact, deleteRange, put } from "./suites/write.ts";

/** What any target must do, whatever carries its calls. */
export const SERVICE_SUITES: readonly ApiSuite[] = [
  rangeBasics,
  rangeRevisions,
  rangeSorting,
  rangeStream,
  put,
  deleteRange,
  compact,
  txnCompares,
  txnEffects,
  txnRefusals,
  watchEvents,
  watchControl,
  lease,
  headers,
  members,
  clusterWide,
  txnRefusedRange,
];

/** And what is gRPC's. */
export const ALL_SUITES: readonly ApiSuite[] = [badRequests, ...SERVICE_SUITES];

/**
 * A started cluster as a target. With several members the tests talk to a follower: that is the longer way, and the
 * single member already covers a leader's.
 */
export async function clusterTarget(cluster: Cluster): Promise<Target> {
  const members = cluster.addresses.map((address) => new GrpcChannel(address));
  const isFollower: boolean[] = [];
  for (const member of members) {
    const status = await new EtcdClient(member).status();
    isFollower.push(status.leader !== status.header?.memberId);
  }
  const at = Math.max(0, isFollower.indexOf(true));
  const [channel, address] = [members[at], cluster.addresses[at]];
  if (channel === undefined || address === undefined) throw new Error("a cluster has members");
  return {
    channel,
    members,
    addresses: [address, ...cluster.addresses.filter((other) => other !== address)],
    async stop() {
      for (const member of members) member.close();
      await cluster.stop();
    },
  };
}
