/**
 * What a new member costs a cluster that serves: one member with many keys (32 bytes, values of 256)
 * takes puts, first alone, then while a learner joins and gets everything by a snapshot. Printed are
 * the leader's longest stretch of work on its event loop (`metered-member.ts`), the p99 of the puts
 * and their ratio, and how long catching up took.
 *
 *     npx node test/bench/catch-up.ts [--keys 1000000] [--seconds 8] [--clients 20] [--seed N]
 *
 * Ends with exit code 1 when a put failed, or a stretch was longer than the 50 ms that are allowed.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startQuorate, type Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { putAll } from "./big-store.ts";
import { runLoad } from "./load.ts";
import { loadLine, machineLine } from "./report.ts";
import type { LoadResult } from "./run.ts";
import { sleep } from "./run.ts";

const STRETCH_MILLISECONDS_MAX = 50;
const WARMUP_MILLISECONDS = 2000;
const SETTLE_MILLISECONDS = 3000;
const CATCH_UP_MILLISECONDS_MAX = 300_000;
const MEMBER = fileURLToPath(new URL("metered-member.ts", import.meta.url));

const { values } = parseArgs({
  options: {
    keys: { type: "string", default: "1000000" },
    seconds: { type: "string", default: "8" },
    clients: { type: "string", default: "20" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
  },
});
const [keys, seconds] = [Number(values.keys), Number(values.seconds)];
const [clients, seed] = [Number(values.clients), Number(values.seed)];

interface Phase {
  readonly load: LoadResult;
  readonly stretchMilliseconds: number;
}

let reports = 0;

/** The longest stretch since the last call, or the start. */
async function takeStretch(member: Member): Promise<number> {
  reports += 1;
  const text = `stretch ${reports}: `;
  member.child.kill("SIGUSR2");
  await member.child.logged(text, 10_000);
  return Number.parseFloat(member.child.log.split(text)[1] ?? "");
}

async function measure(leader: Member, round: number): Promise<Phase> {
  await takeStretch(leader);
  const load = await runLoad({
    addresses: [leader.address],
    clients,
    connections: Math.ceil(clients / 10),
    workload: "put",
    seed: seed + round,
    warmupMilliseconds: WARMUP_MILLISECONDS,
    measureMilliseconds: seconds * 1000,
    onWindow: () => undefined,
  });
  return { load, stretchMilliseconds: await takeStretch(leader) };
}

/** Milliseconds until the learner has everything that was there when it is asked. */
async function caughtUp(leader: Member, learner: Member, since: number): Promise<number> {
  const [source, target] = [leader, learner].map(
    ({ address }) => new EtcdClient(new GrpcChannel(address)),
  ) as [EtcdClient, EtcdClient];
  try {
    const wanted = (await source.status()).raftAppliedIndex;
    for (;;) {
      const status = await target.status().catch(() => undefined);
      if (status !== undefined && status.raftAppliedIndex >= wanted)
        return performance.now() - since;
      if (performance.now() - since > CATCH_UP_MILLISECONDS_MAX) throw new Error("never caught up");
      await sleep(50);
    }
  } finally {
    source.close();
    target.close();
  }
}

function phaseLine(name: string, { load, stretchMilliseconds }: Phase): string {
  const { callsPerSecond, p50Milliseconds: p50, p99Milliseconds: p99 } = load;
  return (
    `${name}: ${Math.round(callsPerSecond)} puts/s, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, ` +
    `longest stretch ${stretchMilliseconds.toFixed(1)} ms of work`
  );
}

console.log(`seed ${seed}; ${machineLine()}`);
const program = { label: "quorate", command: process.execPath, args: [MEMBER] };
const cluster = await startQuorate({ members: 1, program });
try {
  const [leader] = cluster.members as [Member];
  await putAll(leader.address, keys, seed);
  await sleep(SETTLE_MILLISECONDS);
  const alone = await measure(leader, 1);
  console.log(phaseLine(`with ${keys} keys, alone`, alone));
  const learner = await cluster.prepare([leader]);
  const client = new EtcdClient(new GrpcChannel(leader.address));
  await client.memberAdd({ peerURLs: [learner.peerUrl], isLearner: true });
  const began = performance.now();
  await learner.launch();
  const [joining, took] = await Promise.all([measure(leader, 2), caughtUp(leader, learner, began)]);
  client.close();
  console.log(phaseLine("while a learner joins", joining));
  const ratio = joining.load.p99Milliseconds / alone.load.p99Milliseconds;
  console.log(
    `p99 ratio ${ratio.toFixed(2)}; caught up ${(took / 1000).toFixed(1)} s after its start`,
  );
  console.log(loadLine());
  const errors = alone.load.errors + joining.load.errors;
  if (errors > 0) console.log(`${errors} puts failed: ${joining.load.firstError}`);
  const tooLong = joining.stretchMilliseconds > STRETCH_MILLISECONDS_MAX;
  if (errors > 0 || tooLong) process.exitCode = 1;
} finally {
  await cluster.stop();
}
