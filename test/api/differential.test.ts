/**
 * The same random requests to Debian's etcd and to a peer, one after the other: every answer, refusals with their
 * status and text included, must be equal but for who gave it; and so must the history that a watch shows and the
 * hash of it all. For longer runs: `SEED=5 COUNT=20000 npx vitest run --project api differential`.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { RpcError } from "../../shared/api/errors.ts";
import { Maintenance } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { startEtcd, startQuorate, type Cluster } from "../support/cluster.ts";
import { describeWithTools } from "../support/tools.ts";
import { RandomRequests } from "./random-requests.ts";

const COUNT = Number(process.env["COUNT"] ?? 1500);
const SEED = Number(process.env["SEED"] ?? 1);
/** They name the answering member and its election, and what protobuf-es adds. */
const OWN_FIELDS = new Set(["clusterId", "memberId", "raftTerm", "$typeName", "$unknown"]);

/** An answer without what must differ, in a form that is compared and printed well. */
function comparable(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("latin1");
  if (Array.isArray(value)) return value.map(comparable);
  if (value === null || typeof value !== "object") return value;
  const fields = Object.entries(value).filter(([name]) => !OWN_FIELDS.has(name));
  return Object.fromEntries(fields.map(([name, field]) => [name, comparable(field)]));
}

async function told(answer: Promise<unknown>): Promise<unknown> {
  try {
    return comparable(await answer);
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return { refused: error.message, status: error.status };
  }
}

/** All that a watch shows from this revision on, up to the newest. */
async function historyFrom(client: EtcdClient, first: bigint): Promise<unknown[]> {
  const { header } = await client.range({ key: Uint8Array.of(0) });
  const newest = header?.revision ?? 0n;
  const watch = client.watch();
  const from = { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0), prevKv: true };
  await watch.created({ ...from, startRevision: first });
  const events: unknown[] = [];
  for (let last = first; last < newest;) {
    const response = await watch.next();
    if (response.canceled) throw new Error(`the watch ended: ${response.cancelReason}`);
    events.push(...response.events.map(comparable));
    last = response.events.at(-1)?.kv?.modRevision ?? last;
  }
  watch.cancel();
  return events;
}

describeWithTools(["etcd"], "random requests, to etcd and to a peer", () => {
  const clusters: Cluster[] = [];
  const channels: GrpcChannel[] = [];
  const clients: EtcdClient[] = [];

  beforeAll(async () => {
    clusters.push(await startEtcd(), await startQuorate());
    for (const { addresses } of clusters) channels.push(new GrpcChannel(String(addresses[0])));
    clients.push(...channels.map((channel) => new EtcdClient(channel)));
  });

  afterAll(async () => {
    for (const channel of channels) channel.close();
    await Promise.all(clusters.map((cluster) => cluster.stop()));
  });

  const patience = { timeout: 60_000 + COUNT * 100 };

  test("have the same answers, the same history and the same hash", patience, async () => {
    const requests = new RandomRequests(SEED);
    let refused = 0;
    let compacted = 0;
    for (let count = 0; count < COUNT; count += 1) {
      const { name, request, call } = requests.next();
      const [wanted, answer] = await Promise.all(clients.map((client) => told(call(client))));
      expect(answer, `${count}: ${name} ${JSON.stringify(comparable(request))}`).toEqual(wanted);
      const { header, refused: reason } = wanted as {
        header?: { revision: number };
        refused?: string;
      };
      if (reason !== undefined) refused += 1;
      else if (name === "compact")
        compacted = (comparable(request) as { revision: number }).revision;
      requests.revision = header?.revision ?? requests.revision;
    }
    // Both kinds came, or the comparison says little.
    expect(refused).toBeGreaterThan(COUNT / 20);
    expect(refused).toBeLessThan(COUNT / 2);
    expect(compacted).toBeGreaterThan(0);
    const [history, own] = await Promise.all(
      clients.map((client) => historyFrom(client, BigInt(compacted + 1))),
    );
    expect(own).toEqual(history);
    const hashes = await Promise.all(
      clients.map((client) => client.channel.unary(Maintenance.method.hashKV, {})),
    );
    expect(hashes[1]?.hash).toBe(hashes[0]?.hash);
  });
});
