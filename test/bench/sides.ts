/** The two sides of the comparison: Debian's etcd with its default settings, and Quorate with its own. */
import { startEtcd, startQuorate, type Cluster } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

export const SIDES = ["etcd", "quorate"] as const;
export type Side = (typeof SIDES)[number];

export interface Server {
  /** The leader's address first. */
  readonly addresses: readonly string[];
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

async function leaderFirst(cluster: Cluster): Promise<string[]> {
  const leaders: string[] = [];
  for (const address of cluster.addresses) {
    const client = new EtcdClient(new GrpcChannel(address));
    const { leader, header } = await client.status();
    client.close();
    if (leader === header?.memberId) leaders.push(address);
  }
  return [...leaders, ...cluster.addresses.filter((address) => !leaders.includes(address))];
}

/** Starts one side with fresh data. */
export async function startSide(side: Side, members: number): Promise<Server> {
  const start = side === "etcd" ? startEtcd : startQuorate;
  const cluster = await start({ members });
  return {
    addresses: await leaderFirst(cluster),
    pids: cluster.members.map((member) => member.child.pid),
    stop: () => cluster.stop(),
  };
}

/** The sum of the members' raft indexes: grows by what was written to the log. */
export async function logEntries(server: Server): Promise<number> {
  let entries = 0;
  for (const address of server.addresses) {
    const client = new EtcdClient(new GrpcChannel(address));
    entries += Number((await client.status()).raftIndex);
    client.close();
  }
  return entries;
}
