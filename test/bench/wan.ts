/**
 * Answers over a distance: every byte between the edge and its peers is under way for 20, 50, 100,
 * 150 ms each way, and the client stands next to the edge, in local workerd: once without and once
 * with a replica of the keys beside it. A plain client of etcd's has the same distance to the members of
 * etcd, and to Quorate's.
 *
 *     npx node test/bench/wan.ts [--delays 0,20,50,100,150] [--samples 100] [--write]
 *
 * Three members a cluster, beside each other, without a distance between them. The distance is
 * a proxy's (`../support/tcp-proxy.ts`): no jitter, no loss, no TLS; a new connection costs a round
 * trip. Calls set out a few milliseconds apart, the ways in in turns, whether or not the ones before are
 * answered; so all ways meet the same other work of the machine. `--write` puts the table into
 * RESULTS.md and the drawing into wan.svg. Fails when an answer was wrong or late.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { startWorkerd } from "../edge/edge.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";
import { loadLine, machineLine } from "./report.ts";
import { writeSection } from "./results-file.ts";
import { sleep } from "./run.ts";
import { startMembers } from "./sides.ts";
import { Near, OPERATIONS, READ_KEY, prepareCalls } from "./wan-calls.ts";
import type { Call, Operation } from "./wan-calls.ts";
import { EtcdDoor, HttpDoor, LinkDoor } from "./wan-doors.ts";
import type { Door } from "./wan-doors.ts";
import { quantile, wanChart, wanTable } from "./wan-report.ts";
import type { WanCell } from "./wan-report.ts";

const MEMBERS = 3;
const PACE_MILLISECONDS = 8;
const WARMUP_CALLS = 10;
const REPLICA_MILLISECONDS_MAX = 60_000;
const CHART = new URL("wan.svg", import.meta.url);

/** What ends with the run, in the reverse order of its start. */
const open: (() => unknown)[] = [];

interface Way {
  readonly door: Door;
  readonly near: Near;
  /** It differs from another way in its reads and watches alone: only these are measured. */
  readonly readsOnly?: boolean;
}

/** Proxies before the members of one side, and a client beside them. */
async function startFar(side: "etcd" | "quorate") {
  const cluster = await startMembers(side, MEMBERS);
  open.push(() => cluster.stop());
  const proxies: TcpProxy[] = [];
  for (const address of cluster.addresses) {
    const proxy = await TcpProxy.start(address);
    open.push(() => proxy.stop());
    proxies.push(proxy);
  }
  const near = new Near(cluster.addresses[0] ?? "");
  open.push(() => near.close());
  return { near, proxies, addresses: proxies.map(({ port }) => `127.0.0.1:${port}`) };
}

/** Milliseconds of each way's calls. */
async function measure(
  ways: readonly Way[],
  operation: Operation,
  { name, samples }: { readonly name: string; readonly samples: number },
): Promise<Map<string, number[]>> {
  const count = WARMUP_CALLS + samples;
  const calls: { name: string; call: Call; times: number[] }[] = [];
  for (const [place, way] of ways.entries()) {
    if (way.readsOnly === true && !/^(get|watch)/.test(operation)) continue;
    const call = await prepareCalls(way, operation, { name: `${name}/${place}`, count });
    if (call !== undefined) calls.push({ name: way.door.name, call, times: [] });
  }
  const each = async (number: number, call: Call, times: number[]): Promise<void> => {
    const began = performance.now();
    await call(number);
    if (number >= WARMUP_CALLS) times.push(performance.now() - began);
  };
  const under: Promise<void>[] = [];
  for (let number = 0; number < count; number += 1) {
    if (number === WARMUP_CALLS) await Promise.all(under.splice(0));
    for (const { call, times } of calls) {
      const asked = each(number, call, times);
      // Told by `Promise.all`; a failure before it isn't an unhandled one.
      asked.catch(() => undefined);
      under.push(asked);
      await sleep(PACE_MILLISECONDS);
    }
  }
  await Promise.all(under);
  return new Map(calls.map(({ name, times }) => [name, times]));
}

/** The Worker's URL; with `replicas` it has replicas of all keys. */
async function startEdge(peers: readonly string[], replicas: "" | "*"): Promise<string> {
  const urls = peers.map((address) => `http://${address}`);
  const edge = await startWorkerd(urls, { QUORATE_REPLICAS: replicas });
  open.push(() => edge.stop());
  return edge.url ?? "";
}

/** Until the replica has its copy and answers. */
async function untilNear({ door, near }: { door: HttpDoor; near: Near }): Promise<void> {
  await near.put(READ_KEY);
  const deadline = performance.now() + REPLICA_MILLISECONDS_MAX;
  while (door.served.replica === 0) {
    if (performance.now() > deadline) throw new Error("no replica answers");
    await door.get(READ_KEY, "linearizable");
    await sleep(50);
  }
}

async function run(
  delays: readonly number[],
  samples: number,
): Promise<{ cells: WanCell[]; served: HttpDoor["served"] }> {
  const [etcd, quorate] = [await startFar("etcd"), await startFar("quorate")];
  const url = await startEdge(quorate.addresses, "");
  const replicated = new HttpDoor("edge with a replica", await startEdge(quorate.addresses, "*"));
  await untilNear({ door: replicated, near: quorate.near });
  const ways: Way[] = [
    { door: new EtcdDoor("etcd client, etcd", etcd.addresses), near: etcd.near },
    { door: new EtcdDoor("etcd client, Quorate", quorate.addresses), near: quorate.near },
    { door: new HttpDoor("edge, HTTP", url), near: quorate.near },
    { door: replicated, near: quorate.near, readsOnly: true },
    { door: new LinkDoor("edge, link", url), near: quorate.near },
  ];
  for (const { door } of ways) open.push(() => door.close());
  const cells: WanCell[] = [];
  for (const delay of delays) {
    for (const proxy of [...etcd.proxies, ...quorate.proxies]) proxy.delayMilliseconds = delay;
    for (const operation of OPERATIONS) {
      const name = `${delay}/${OPERATIONS.indexOf(operation)}`;
      const shown: string[] = [];
      for (const [way, times] of await measure(ways, operation, { name, samples })) {
        const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)];
        cells.push({ delay, operation, way, p50, p99 });
        shown.push(`${way} ${p50.toFixed(0)} / ${p99.toFixed(0)}`);
      }
      console.log(`${delay} ms each way, ${operation}: ${shown.join(", ")}`);
    }
  }
  return { cells, served: replicated.served };
}

const { values } = parseArgs({
  options: {
    delays: { type: "string", default: "0,20,50,100,150" },
    samples: { type: "string", default: "100" },
    write: { type: "boolean", default: false },
  },
});
const delays = values.delays.split(",").map(Number);
const samples = Number(values.samples);
console.log(`${machineLine()}; ${loadLine()}`);
try {
  const { cells, served } = await run(delays, samples);
  const how =
    `${samples} calls a cell, ${MEMBERS} members each, ${loadLine()}. Of ${served.peer + served.replica} reads ` +
    `through the edge with a replica the replica answered ${served.replica}.`;
  const text = `${how}\n\n${wanTable(cells)}`;
  console.log(`\n${text}`);
  if (values.write) {
    writeSection("npx node test/bench/wan.ts --write", text);
    writeFileSync(CHART, wanChart(cells));
  }
} finally {
  for (const close of open.toReversed()) await close();
}
