/** The two sides of the comparison: Debian's etcd with its default settings, and Quorate with its own. */
import { fileURLToPath } from "node:url";
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

const EXECUTABLE = fileURLToPath(new URL("../../node-runner/bin/quorate.js", import.meta.url));

/** Members of one side with fresh data, Quorate's by its executable as users start it. */
export async function startMembers(side: Side, members: number): Promise<Cluster> {
  if (side === "etcd") return startEtcd({ members });
  const program = { label: "quorate", command: process.execPath, args: [EXECUTABLE] };
  return startQuorate({ members, program });
}

/** Starts one side with fresh data. */
export async function startSide(side: Side, members: number): Promise<Server> {
  const cluster = await startMembers(side, members);
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
