/**
 * The longest stretches for which a member serves nobody: operations that are atomic and as large as a client can make
 * them. While each runs, a probe in a thread of its own reads one key, serializably, again and again: its slowest
 * answer is the stretch. The CPU time is the leader's whole process's (its collector and LMDB's writer have threads of
 * their own): on a busy machine it bounds the stretch better than the clock does. The term shows whether the leader was
 * deposed.
 *
 *     node test/bench/stretches.ts [--members 3] [--keys 1000000] [--lease-keys 100000]
 */
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  Compare_CompareResult as CompareResult,
  Compare_CompareTarget as CompareTarget,
  DeleteRangeRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { utf8 } from "../../shared/base/bytes.ts";
import { startQuorate, type Member } from "../support/cluster.ts";
import { usageOfAll } from "./process-usage.ts";
import { EtcdClient, type TxnInit } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

const PATIENCE_MILLISECONDS = 300_000;
const PUTS_PER_TXN = 1000;
const TXNS_AT_ONCE = 8;
const VALUE = utf8("v".repeat(16));
const ALL = { key: utf8("k"), rangeEnd: utf8("l") };

/** In the thread: reads until told to answer with the slowest read since it was told last. */
async function probe(address: string): Promise<void> {
  const client = new EtcdClient(new GrpcChannel(address));
  let slowest = 0;
  let started = performance.now();
  parentPort?.on("message", () => {
    parentPort?.postMessage(Math.max(slowest, performance.now() - started));
    slowest = 0;
  });
  for (;;) {
    started = performance.now();
    const request = { key: utf8("probe"), serializable: true };
    await client
      .range(request, { timeoutMilliseconds: PATIENCE_MILLISECONDS })
      .catch(() => undefined);
    slowest = Math.max(slowest, performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function fill(client: EtcdClient, prefix: string, count: number, lease = 0n): Promise<void> {
  let next = 0;
  const write = async (): Promise<void> => {
    while (next < count) {
      const from = next;
      next = Math.min(count, next + PUTS_PER_TXN);
      const success = Array.from({ length: next - from }, (_, at) => {
        const key = utf8(prefix + String(from + at).padStart(9, "0"));
        return { request: { case: "requestPut" as const, value: { key, value: VALUE, lease } } };
      });
      await client.txn({ success });
    }
  };
  await Promise.all(Array.from({ length: TXNS_AT_ONCE }, write));
}

async function measureAll(options: {
  members: number;
  keys: number;
  leaseKeys: number;
}): Promise<void> {
  const flags = ["--max-txn-ops=1000"];
  const cluster = await startQuorate({ members: options.members, flags });
  const statuses = await Promise.all(
    cluster.addresses.map((address) => new EtcdClient(new GrpcChannel(address)).status()),
  );
  const leads = statuses.findIndex(({ leader, header }) => leader === header?.memberId);
  const address = cluster.addresses[leads] as string;
  const pid = (cluster.members[leads] as Member).child.pid;
  const channel = new GrpcChannel(address);
  const client = new EtcdClient(channel);
  const thread = new Worker(new URL(import.meta.url), { workerData: { probe: address } });
  const slowest = (): Promise<number> =>
    new Promise((resolve) => {
      thread.once("message", resolve);
      thread.postMessage("slowest");
    });
  const measure = async (what: string, run: () => Promise<unknown>): Promise<void> => {
    const term = (await client.status()).raftTerm;
    await slowest();
    const cpu = usageOfAll([pid]).cpuSeconds;
    const started = performance.now();
    await run();
    const milliseconds = performance.now() - started;
    await new Promise((resolve) => setTimeout(resolve, 500));
    const stretchMilliseconds = await slowest();
    const cpuMilliseconds = (usageOfAll([pid]).cpuSeconds - cpu) * 1000;
    const leaderChanged = (await client.status()).raftTerm !== term;
    console.log(
      `${what}: ${milliseconds.toFixed(0)} ms, ` +
        `longest stretch ${stretchMilliseconds.toFixed(0)} ms, ` +
        `CPU ${cpuMilliseconds.toFixed(0)} ms${leaderChanged ? ", leader changed" : ""}`,
    );
  };
  const raw = (path: string, message: Uint8Array): Promise<Uint8Array> =>
    channel.unaryBytes(path, message, { timeoutMilliseconds: PATIENCE_MILLISECONDS });
  const txn = (request: TxnInit): Promise<Uint8Array> =>
    raw("/etcdserverpb.KV/Txn", toBinary(TxnRequestSchema, create(TxnRequestSchema, request)));
  const range = { request: { case: "requestRange" as const, value: ALL } };
  const count = { request: { case: "requestRange" as const, value: { ...ALL, countOnly: true } } };
  const put = { request: { case: "requestPut" as const, value: { key: utf8("p") } } };
  try {
    const { keys, leaseKeys } = options;
    await measure(`fill ${keys} keys, ${PUTS_PER_TXN} a transaction`, () =>
      fill(client, "k", keys),
    );
    const all = toBinary(RangeRequestSchema, create(RangeRequestSchema, ALL));
    await measure("range of all of them", () => raw("/etcdserverpb.KV/Range", all));
    await measure("transaction that reads all of them", () => txn({ success: [range] }));
    await measure("transaction that reads all of them and puts", () =>
      txn({ success: [range, put] }),
    );
    await measure("transaction that counts them and puts", () => txn({ success: [count, put] }));
    const compare = {
      ...ALL,
      target: CompareTarget.VERSION,
      result: CompareResult.GREATER,
      targetUnion: { case: "version" as const, value: 0n },
    };
    await measure("transaction that compares all of them and puts", () =>
      txn({ compare: [compare], success: [put] }),
    );
    const lease = (await client.leaseGrant({ TTL: 3600n })).ID;
    await fill(client, "z", leaseKeys, lease);
    await measure(`revoke of a lease with ${leaseKeys} keys`, () => client.leaseRevoke(lease));
    const watch = client.watch();
    await watch.created(ALL);
    const before = (await client.status()).header?.revision ?? 0n;
    await measure("delete of all of them in one range, with a watcher", async () => {
      const request = create(DeleteRangeRequestSchema, ALL);
      await raw("/etcdserverpb.KV/DeleteRange", toBinary(DeleteRangeRequestSchema, request));
      await watch.next(PATIENCE_MILLISECONDS);
    });
    watch.cancel();
    await measure("watch of that revision from history", async () => {
      const late = client.watch();
      await late.created({ ...ALL, startRevision: before + 1n });
      await late.next(PATIENCE_MILLISECONDS);
      late.cancel();
    });
  } finally {
    await thread.terminate();
    client.close();
    await cluster.stop();
  }
}

if (isMainThread) {
  const { values } = parseArgs({
    options: {
      members: { type: "string", default: "1" },
      keys: { type: "string", default: "1000000" },
      "lease-keys": { type: "string", default: "100000" },
    },
  });
  console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}`);
  await measureAll({
    members: Number(values.members),
    keys: Number(values.keys),
    leaseKeys: Number(values["lease-keys"]),
  });
  process.exit(0);
} else {
  await probe((workerData as { probe: string }).probe);
}
