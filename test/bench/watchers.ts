/**
 * Thousands of watchers on one replica object, in local workerd, beside one watch of the peers: what memory they take
 * of the 128 MB that an isolate has, and how long an event takes to the last of them.
 *
 *     npx node test/bench/watchers.ts [--watchers 5000] [--puts 10] [--write]
 *
 * Links straight to the object, whose isolate then holds nothing else (Workers, which hold the readers of events, are
 * other isolates once deployed), with small values and, for a fifth of the watchers, with large ones; and server-sent
 * events by the Worker, which in local workerd shares its isolate with the object. Memory: V8's heap and array buffers
 * by its inspector, behind a collection (what is held) and without one (local workerd has no limit that would
 * make V8 collect), and what the process of workerd allocated (anonymous, /proc). Fails when a watcher missed an event,
 * heard one twice or out of order, when the peers had more than one watch, and when an isolate held more than 128 MB.
 */
import { parseArgs } from "node:util";
import { loadLine, machineLine } from "./report.ts";
import { writeSection } from "./results-file.ts";
import { startMembers } from "./sides.ts";
import { Near } from "./wan-calls.ts";
import { WatchedEdge } from "./watched-edge.ts";
import type { Memory } from "./watched-edge.ts";
import { PREFIX, Watchers } from "./watcher-clients.ts";
import type { Kind } from "./watcher-clients.ts";

const MIB = 1024 * 1024;
const ISOLATE_BYTES_MAX = 128 * MIB;

interface Load {
  readonly kind: Kind;
  readonly watchers: number;
  readonly puts: number;
  readonly bytes: number;
}

interface Measured {
  readonly before: Memory;
  readonly opened: Memory;
  /** The most that was seen while events were under way, behind a collection and without one. */
  readonly held: Memory;
  readonly seen: Memory;
  readonly after: Memory;
  /** From a put until the last watcher had its event, milliseconds, ascending. */
  readonly spans: readonly number[];
}

/** Watchers of the peers, all together. */
async function peersWatchers(addresses: readonly string[]): Promise<number> {
  let watchers = 0;
  for (const address of addresses) {
    const text = await (await fetch(`http://${address}/metrics`)).text();
    watchers += Number(/^etcd_debugging_mvcc_watcher_total (\d+)$/m.exec(text)?.[1]);
  }
  return watchers;
}

const larger = (one: Memory, other: Memory): Memory => ({
  isolateBytes: Math.max(one.isolateBytes, other.isolateBytes),
  processBytes: Math.max(one.processBytes, other.processBytes),
});

async function measure(
  load: Load,
  cluster: { readonly addresses: readonly string[]; readonly near: Near },
): Promise<Measured> {
  const { addresses, near } = cluster;
  const { kind } = load;
  const peers = addresses.map((address) => `http://${address}`);
  const edge = await WatchedEdge.start(peers, kind === "links");
  try {
    const before = await edge.memory(true);
    const watchers = await Watchers.open(edge.url, kind, load.watchers);
    const opened = await edge.memory(true);
    const upstream = await peersWatchers(addresses);
    if (upstream !== 1) throw new Error(`the peers have ${upstream} watches, not one`);
    let [held, seen] = [opened, opened];
    const spans: number[] = [];
    for (let number = 0; number < load.puts; number += 1) {
      const began = performance.now();
      const revision = await near.put(`${PREFIX}${number % 10}`, load.bytes);
      const heard = watchers.hear(revision);
      // In the middle of it.
      const isCollected = number % 2 === 0;
      const looked = edge.memory(isCollected);
      await heard;
      spans.push(performance.now() - began);
      if (isCollected) held = larger(held, await looked);
      seen = larger(seen, larger(await looked, await edge.memory(false)));
    }
    const after = await edge.memory(true);
    watchers.close();
    return { before, opened, held, seen, after, spans: spans.toSorted((a, b) => a - b) };
  } finally {
    await edge.stop();
  }
}

const mib = (bytes: number): string => (bytes / MIB).toFixed(1);

function rowOf({ kind, watchers, bytes }: Load, measured: Measured): string {
  const { before, opened, held, seen, after, spans } = measured;
  const each = (key: keyof Memory): string =>
    ((opened[key] - before[key]) / watchers / 1024).toFixed(1);
  const cells = [
    kind === "links" ? "links to the object" : "events by the Worker, object beside it",
    watchers,
    bytes,
    mib(before.isolateBytes),
    mib(opened.isolateBytes),
    each("isolateBytes"),
    mib(held.isolateBytes),
    mib(seen.isolateBytes),
    mib(after.isolateBytes),
    each("processBytes"),
    mib(seen.processBytes),
    (spans[Math.floor(spans.length / 2)] ?? 0).toFixed(0),
  ];
  return `| ${cells.join(" | ")} |`;
}

const HEADS =
  "watchers, number, bytes of a value, isolate MiB before, open, KiB each, held at most, with garbage, " +
  "afterwards, process KiB each, MiB at most, until the last has heard: ms (median)";

const { values } = parseArgs({
  options: {
    watchers: { type: "string", default: "5000" },
    puts: { type: "string", default: "10" },
    write: { type: "boolean", default: false },
  },
});
const watchers = Number(values.watchers);
const puts = Number(values.puts);
const LOADS: readonly Load[] = [
  { kind: "links", watchers, puts, bytes: 256 },
  { kind: "links", watchers: Math.ceil(watchers / 5), puts, bytes: 64 * 1024 },
  { kind: "events", watchers, puts, bytes: 256 },
];
console.log(`${machineLine()}; ${loadLine()}`);
const cluster = await startMembers("quorate", 1);
const near = new Near(cluster.addresses[0] ?? "");
try {
  const rows: string[] = [];
  const exceeded: string[] = [];
  for (const load of LOADS) {
    const measured = await measure(load, { addresses: cluster.addresses, near });
    const row = rowOf(load, measured);
    console.log(row);
    rows.push(row);
    if (measured.held.isolateBytes > ISOLATE_BYTES_MAX) exceeded.push(row);
  }
  const heads = HEADS.split(", ");
  const text = [
    `${puts} puts a row, one watch of the peers, ${loadLine()}.`,
    "",
    `| ${heads.join(" | ")} |`,
    `| ${heads.map(() => "---").join(" | ")} |`,
    ...rows,
  ].join("\n");
  console.log(`\n${text}`);
  if (exceeded.length > 0) throw new Error(`more than 128 MB is held:\n${exceeded.join("\n")}`);
  if (values.write) writeSection("npx node test/bench/watchers.ts --write", text);
} finally {
  near.close();
  await cluster.stop();
}
