/**
 * `npm run bench`: Quorate against Debian's etcd on this machine, in one interleaved run. `--help` tells the options;
 * test/README.md tells what the figures mean. Ends with exit code 1 when a call failed or a check found a lost write.
 */
import { parseArgs } from "node:util";
import { measureBigStore } from "./big-store.ts";
import { compareCell, type Cell, type CellResult, type CompareOptions } from "./compare.ts";
import { FLOORS, measureFloor } from "./floor.ts";
import { measureIdle } from "./idle.ts";
import { WORKLOADS, type Workload } from "./load.ts";
import {
  bigStoreTable,
  compareTable,
  floorTable,
  idleTable,
  loadLine,
  machineLine,
  runLine,
  type BigStoreRow,
  type FloorRow,
  type IdleRow,
} from "./report.ts";
import { writeSection } from "./results-file.ts";
import { SIDES, type Side } from "./sides.ts";

const HELP = `npm run bench -- [options]
  --members 1,3         cluster sizes
  --clients 1,100,1000  clients, each with one call under way; unless given, txn runs with 100, keepalive and
                        watch with 1000
  --workload LIST       all unless given, of
                        put, range (linearizable), serializable, txn (compare-and-set of an own key), keepalive
                        (of a lease on a stream), watch (clients watch one key; a call is one event delivered)
                        idle (memory and CPU of connections), floor (h2load's view, one member),
                        bigstore (a million keys: memory, size, restart; one member)
  --sides etcd,quorate  which sides run
  --connections N       connections for all clients; 10 clients share one unless given
  --to members|leader   connections go to all members in turns (default) or to the leader only
  --rounds 2            rounds per cell; each runs both sides on fresh data
  --seconds 3           measured seconds of a run, after two to warm up
  --idle-connections N  connections of the idle measurement (1000)
  --keys N              of bigstore (1000000)
  --seed N              of keys and values; printed
  --quick               one round of one second, hardly warmed up, 100 clients unless --clients is given
  --write               puts the tables into test/bench/RESULTS.md, in place of the last ones
`;

const IDLE_SECONDS = 10;
/** A lone client's few hundred calls a second leave V8 this long with code that isn't compiled yet. */
const WARMUP_MILLISECONDS = 2000;
const ALL_CLIENTS = [1, 100, 1000];
/** Where one number of clients tells enough. */
const USUAL_CLIENTS: Partial<Record<Workload, number[]>> = {
  txn: [100],
  keepalive: [1000],
  watch: [1000],
};
const OTHERS = ["idle", "floor", "bigstore"] as const;
const BIG_STORE_KEYS = 1_000_000;

function list<Item extends string>(text: string, allowed: readonly Item[], flag: string): Item[] {
  return text.split(",").map((name) => {
    const item = allowed.find((each) => each === name);
    if (item === undefined) throw new Error(`--${flag}: ${name} is none of ${allowed.join(", ")}`);
    return item;
  });
}

function numbers(text: string, flag: string): number[] {
  return text.split(",").map((part) => {
    const value = Number(part);
    if (!(value > 0)) throw new Error(`--${flag}: ${part} is no number above 0`);
    return value;
  });
}

function readOptions() {
  const string = { type: "string" } as const;
  const boolean = { type: "boolean" } as const;
  const { values } = parseArgs({
    options: {
      members: string,
      clients: string,
      workload: string,
      sides: string,
      connections: string,
      to: string,
      rounds: string,
      seconds: string,
      "idle-connections": string,
      keys: string,
      seed: string,
      quick: boolean,
      write: boolean,
      help: boolean,
    },
  });
  const one = (text: string, flag: string) => numbers(text, flag)[0] as number;
  const quick = values.quick ?? false;
  const seconds = one(values.seconds ?? (quick ? "1" : "3"), "seconds");
  const known = [...WORKLOADS, ...OTHERS] as const;
  const workloads = list(values.workload ?? known.join(","), known, "workload");
  const clients = values.clients ?? (quick ? "100" : undefined);
  return {
    help: values.help ?? false,
    write: values.write ?? false,
    members: numbers(values.members ?? "1,3", "members"),
    clients: clients === undefined ? undefined : numbers(clients, "clients"),
    workloads: WORKLOADS.filter((name) => workloads.includes(name)),
    others: OTHERS.filter((name) => workloads.includes(name)),
    seconds,
    keys: one(values.keys ?? String(BIG_STORE_KEYS), "keys"),
    idleConnections: one(values["idle-connections"] ?? "1000", "idle-connections"),
    compare: {
      sides: list(values.sides ?? SIDES.join(","), SIDES, "sides"),
      rounds: one(values.rounds ?? (quick ? "1" : "2"), "rounds"),
      seed: one(values.seed ?? String((Date.now() % 1_000_000) + 1), "seed"),
      connections:
        values.connections === undefined ? undefined : one(values.connections, "connections"),
      to: list(values.to ?? "members", ["members", "leader"] as const, "to")[0] ?? "members",
      warmupMilliseconds: quick ? (seconds * 1000) / 3 : WARMUP_MILLISECONDS,
      measureMilliseconds: seconds * 1000,
    } satisfies CompareOptions,
  };
}

type Options = ReturnType<typeof readOptions>;

async function compareAll(options: Options): Promise<CellResult[]> {
  const results: CellResult[] = [];
  for (const members of options.members) {
    for (const workload of options.workloads) {
      for (const clients of options.clients ?? USUAL_CLIENTS[workload] ?? ALL_CLIENTS) {
        const cell: Cell = { members, clients, workload };
        console.log(`\n${workload}, ${clients} client(s), ${members} member(s)`);
        const result = await compareCell(cell, options.compare, (side, round, measured) => {
          console.log(`  round ${round + 1} ${runLine(side, measured)}`);
        });
        results.push(result);
      }
    }
  }
  return results;
}

async function measureAllIdle(options: Options): Promise<IdleRow[]> {
  const rows: IdleRow[] = [];
  if (!options.others.includes("idle")) return rows;
  for (const members of options.members) {
    for (const side of options.compare.sides satisfies readonly Side[]) {
      console.log(`\nidle, ${options.idleConnections} connections, ${members} member(s), ${side}`);
      const connections = options.idleConnections;
      const result = await measureIdle(side, { members, connections, seconds: IDLE_SECONDS });
      rows.push({ side, members, result });
    }
  }
  return rows;
}

async function measureAllFloors(options: Options): Promise<FloorRow[]> {
  const rows: FloorRow[] = [];
  if (!options.others.includes("floor")) return rows;
  for (const floor of FLOORS) {
    for (const side of options.compare.sides) {
      console.log(`\nfloor by h2load, ${floor}, ${side}`);
      const result = await measureFloor(side, floor, Math.ceil(options.seconds));
      if (result === undefined) {
        console.log("  skipped: h2load isn't installed (Debian: nghttp2-client)");
        return rows;
      }
      rows.push({ side, floor, result });
    }
  }
  return rows;
}

async function measureBigStores(options: Options): Promise<BigStoreRow[]> {
  const rows: BigStoreRow[] = [];
  if (!options.others.includes("bigstore")) return rows;
  const { keys } = options;
  for (const side of options.compare.sides) {
    console.log(`\nbigstore, ${keys} keys, ${side}`);
    const { seed } = options.compare;
    rows.push({ side, result: await measureBigStore(side, { keys, seed }) });
  }
  return rows;
}

function reportText(options: Options, tables: readonly string[]): string {
  const { seed, rounds, measureMilliseconds, to } = options.compare;
  const how = `Seed ${seed}, ${rounds} round(s) of ${measureMilliseconds / 1000} s, load to ${to}, ${loadLine()}.`;
  return [`${machineLine()}.`, how, ...tables].join("\n\n");
}

async function main(): Promise<number> {
  const options = readOptions();
  if (options.help) {
    console.log(HELP);
    return 0;
  }
  console.log(`${machineLine()}\nseed ${options.compare.seed}, ${loadLine()}`);
  const results = await compareAll(options);
  const floors = await measureAllFloors(options);
  const idleRows = await measureAllIdle(options);
  const stores = await measureBigStores(options);
  const tables = [
    ...(results.length > 0 ? [compareTable(results)] : []),
    ...(floors.length > 0 ? [floorTable(floors)] : []),
    ...(idleRows.length > 0 ? [idleTable(idleRows)] : []),
    ...(stores.length > 0 ? [bigStoreTable(stores)] : []),
  ];
  const text = reportText(options, tables);
  console.log(`\n${text}`);
  if (options.write) writeSection("npm run bench -- --write", text);
  const runs = results.flatMap((result) => [...result.rounds.values()].flat());
  const failed = floors.some(({ result }) => result.failed > 0);
  return failed || runs.some((run) => run.errors > 0) ? 1 : 0;
}

process.exitCode = await main();
