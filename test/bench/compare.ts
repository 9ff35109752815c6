/**
 * The interleaved comparison. A cell is one number of members, clients and one workload; each of its rounds runs
 * every side once on fresh data with the same seed (A B, then B A, so that neither always goes first), and the ratio of
 * a cell is the median of its rounds' ratios.
 */
import { runLoad, type Workload } from "./load.ts";
import { usageOfAll, type Usage } from "./process-usage.ts";
import type { LoadResult } from "./run.ts";
import { startSide, type Side } from "./sides.ts";

export interface Cell {
  readonly members: number;
  readonly clients: number;
  readonly workload: Workload;
}

export interface CompareOptions {
  readonly sides: readonly Side[];
  readonly rounds: number;
  readonly seed: number;
  readonly connections: number | undefined;
  /** Connections go to every member in turns, or all to the leader. */
  readonly to: "members" | "leader";
  readonly warmupMilliseconds: number;
  readonly measureMilliseconds: number;
}

/** One side's run of one round. */
export interface Measured extends LoadResult {
  /** CPU of all members for each measured call. */
  readonly serverMicroseconds: number;
  readonly rssBytes: number;
  readonly anonymousBytes: number;
}

export interface CellResult {
  readonly cell: Cell;
  /** By side: its rounds. */
  readonly rounds: ReadonlyMap<Side, readonly Measured[]>;
}

/** 10 clients share a connection, as etcd's own load tool does at 100 clients. */
const CLIENTS_PER_CONNECTION = 10;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

async function measure(
  side: Side,
  cell: Cell,
  round: number,
  options: CompareOptions,
): Promise<Measured> {
  const server = await startSide(side, cell.members);
  try {
    // Each round begins with another member, so that a lone client meets leader and followers alike.
    const turn = round % server.addresses.length;
    const all = [...server.addresses.slice(turn), ...server.addresses.slice(0, turn)];
    const usages: Usage[] = [];
    const result = await runLoad({
      addresses: options.to === "leader" ? server.addresses.slice(0, 1) : all,
      clients: cell.clients,
      connections:
        options.connections ?? Math.max(1, Math.round(cell.clients / CLIENTS_PER_CONNECTION)),
      workload: cell.workload,
      seed: options.seed + round,
      warmupMilliseconds: options.warmupMilliseconds,
      measureMilliseconds: options.measureMilliseconds,
      onWindow: () => usages.push(usageOfAll(server.pids)),
    });
    const [begin, end] = usages as [Usage, Usage];
    const cpuSeconds = end.cpuSeconds - begin.cpuSeconds;
    return {
      ...result,
      serverMicroseconds: (cpuSeconds * 1e6) / Math.max(1, result.calls),
      rssBytes: end.rssBytes,
      anonymousBytes: end.anonymousBytes,
    };
  } finally {
    await server.stop();
  }
}

/** Runs all rounds of a cell; `onRun` hears of each run as it ends. */
export async function compareCell(
  cell: Cell,
  options: CompareOptions,
  onRun: (side: Side, round: number, measured: Measured) => void,
): Promise<CellResult> {
  const rounds = new Map<Side, Measured[]>(options.sides.map((side) => [side, []]));
  for (let round = 0; round < options.rounds; round += 1) {
    const order = round % 2 === 0 ? options.sides : options.sides.toReversed();
    for (const side of order) {
      const measured = await measure(side, cell, round, options);
      rounds.get(side)?.push(measured);
      onRun(side, round, measured);
    }
  }
  return { cell, rounds };
}

/** The median over rounds of quorate's figure divided by etcd's of the same round. */
export function ratio(result: CellResult, pick: (measured: Measured) => number): number {
  const [etcd, quorate] = [result.rounds.get("etcd") ?? [], result.rounds.get("quorate") ?? []];
  const ratios = quorate.flatMap((own, round) => {
    const other = etcd[round];
    return other === undefined ? [] : [pick(own) / pick(other)];
  });
  return median(ratios);
}
