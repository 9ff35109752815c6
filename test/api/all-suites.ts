/** Every suite of the API, in one list, and the targets that are clusters of processes. */
import { EtcdClient } from "../support/etcd-client.ts";
import type { Cluster } from "../support/cluster.ts";
import { GatewayChannel } from "../support/gateway-channel.ts";
import { GrpcChannel, type RpcChannel } from "../support/rpc-channel.ts";
import type { ApiSuite, Target } from "./api-suite.ts";
import { lease } from "./suites/lease.ts";
import { maintenance } from "./suites/maintenance.ts";
import { membershipChanges, membershipRefusals } from "./suites/membership.ts";
import { rangeBasics, rangeRevisions, rangeSorting, rangeStream } from "./suites/range.ts";
import { badRequests, clusterWide, headers, health, members } from "./suites/service.ts";
import { txnCompares, txnEffects, txnRefusals, txnRefusedRange } from "./suites/txn.ts";
import { watchControl, watchEvents } from "./suites/watch.ts";
import { compact, deleteRange, put } from "./suites/write.ts";

/** What a target must do whose calls go through etcd's JSON gateway. */
export const GATEWAY_SUITES: readonly ApiSuite[] = [
  rangeBasics,
  rangeRevisions,
  rangeSorting,
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
  membershipRefusals,
  membershipChanges,
  maintenance,
  txnRefusedRange,
];

/** What any target must do, whatever carries its calls. */
export const SERVICE_SUITES: readonly ApiSuite[] = [
  // Neither has a path in the gateway.
  rangeStream,
  health,
  // Before `txnRefusedRange`, after which the members of the older referee differ.
  clusterWide,
  ...GATEWAY_SUITES,
];

/** And what is gRPC's: requests that no other encoding can make. */
export const ALL_SUITES: readonly ApiSuite[] = [badRequests, ...SERVICE_SUITES];

/**
 * A started cluster as a target. With several members the tests talk to a follower: that is the longer way, and the
 * single member already covers a leader's.
 */
export async function clusterTarget(
  cluster: Cluster,
  connect: (address: string) => RpcChannel = (address) => new GrpcChannel(address),
): Promise<Target> {
  const members = cluster.addresses.map(connect);
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

/** A started cluster by its JSON gateways. */
export function gatewayTarget(cluster: Cluster): Promise<Target> {
  return clusterTarget(cluster, (address) => new GatewayChannel(address));
}
