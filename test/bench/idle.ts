/**
 * What connected but idle clients cost: N connections, each with a LeaseKeepAlive stream that renewed its lease once.
 * Anonymous memory per connection (after less before, divided by N), then CPU, log entries and storage bytes of the
 * members while nothing happens.
 */
import { GrpcConnection, type Call } from "./grpc-connection.ts";
import { keepAliveRequest } from "./messages.ts";
import { usageOfAll } from "./process-usage.ts";
import { sleep } from "./run.ts";
import { logEntries, startSide, type Side } from "./sides.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

export interface IdleResult {
  readonly connections: number;
  readonly bytesPerConnection: number;
  /** Per member, of one core. */
  readonly cpuPercent: number;
  readonly logEntries: number;
  readonly storageBytes: number;
  readonly seconds: number;
}

export interface IdleOptions {
  readonly members: number;
  readonly connections: number;
  readonly seconds: number;
}

const SETTLE_MILLISECONDS = 3000;
const LEASE_TTL_SECONDS = 3600n;

/** Opens a connection with one keepalive stream, and waits for its first answer. */
async function openKeepAlive(address: string, id: bigint): Promise<GrpcConnection> {
  const connection = await GrpcConnection.open(address);
  await new Promise<void>((resolve, reject) => {
    const call: Call = {
      path: "/etcdserverpb.Lease/LeaseKeepAlive",
      message: keepAliveRequest(id),
      unary: false,
      onMessage: () => resolve(),
      onEnd: (status, text) => reject(new Error(`keepalive ended: ${status} ${text}`)),
    };
    connection.start(call);
    connection.flush();
  });
  return connection;
}

export async function measureIdle(side: Side, options: IdleOptions): Promise<IdleResult> {
  const server = await startSide(side, options.members);
  const opened: GrpcConnection[] = [];
  const client = new EtcdClient(new GrpcChannel(server.addresses[0] as string));
  try {
    const leases: bigint[] = [];
    for (let index = 0; index < options.connections; index += 1) {
      leases.push((await client.leaseGrant({ TTL: LEASE_TTL_SECONDS })).ID);
    }
    await sleep(SETTLE_MILLISECONDS);
    const before = usageOfAll(server.pids);
    for (const [index, id] of leases.entries()) {
      const address = server.addresses[index % server.addresses.length] as string;
      opened.push(await openKeepAlive(address, id));
    }
    await sleep(SETTLE_MILLISECONDS);
    const [connected, entries] = [usageOfAll(server.pids), await logEntries(server)];
    await sleep(options.seconds * 1000);
    const after = usageOfAll(server.pids);
    const cpuSeconds = after.cpuSeconds - connected.cpuSeconds;
    return {
      connections: options.connections,
      bytesPerConnection: (connected.anonymousBytes - before.anonymousBytes) / options.connections,
      cpuPercent: (100 * cpuSeconds) / options.seconds / options.members,
      logEntries: (await logEntries(server)) - entries,
      storageBytes: after.storageBytes - connected.storageBytes,
      seconds: options.seconds,
    };
  } finally {
    for (const connection of opened) connection.close();
    client.close();
    await server.stop();
  }
}
