/** The options of a run as a command line, both ways: what a failure prints is what replays it. */
import { parseArgs } from "node:util";
import { mutantNamed } from "./mutants.ts";
import type { SimulationOptions } from "./simulation.ts";

export interface CommandLine {
  readonly run: SimulationOptions;
  readonly mutant: string | undefined;
  /** What is to be done with it. */
  readonly mode: "replay" | "minimize" | "fresh";
  readonly seeds: number;
  readonly quiet: boolean;
}

/** Throws on what it doesn't know. `fresh`: the first seed when none is given. */
export function readCommandLine(args: readonly string[], fresh: number): CommandLine {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      seeds: text,
      from: text,
      seed: text,
      minimize: text,
      mutant: text,
      time: text,
      clients: text,
      leases: text,
      locks: text,
      watchers: text,
      leaseReads: text,
      jointChanges: text,
      strikes: text,
      quiet: { type: "boolean", default: false },
    },
  });
  if (values.mutant !== undefined) mutantNamed(values.mutant);
  const { seed, minimize, time, clients, leases, locks, watchers, strikes } = values;
  const { leaseReads, jointChanges } = values;
  const first = minimize ?? seed ?? values.from;
  const run: SimulationOptions = {
    seed: first === undefined ? fresh : count(first),
    ...(time !== undefined && { time: count(time) }),
    ...(clients !== undefined && { clients: count(clients) }),
    ...(leases !== undefined && { leases: count(leases) }),
    ...(locks !== undefined && { locks: count(locks) }),
    ...(watchers !== undefined && { watchers: count(watchers) }),
    ...(leaseReads !== undefined && { leaseReads: count(leaseReads) }),
    ...(jointChanges !== undefined && { jointChanges: count(jointChanges) }),
    ...(strikes !== undefined && { strikes: strikes.split(",").filter(Boolean).map(count) }),
  };
  const single = seed === undefined ? "fresh" : "replay";
  return {
    run,
    mutant: values.mutant,
    mode: minimize === undefined ? single : "minimize",
    seeds: count(values.seeds ?? "100"),
    quiet: values.quiet,
  };
}

/** The command that repeats a run. */
export function replayCommand(run: SimulationOptions, mutant?: string): string {
  const { seed, strikes, ...sizes } = run;
  const words = ["npm run sim -- --seed", String(seed)];
  for (const [name, value] of Object.entries(sizes)) words.push(`--${name}`, String(value));
  if (strikes !== undefined) words.push(`--strikes ${strikes.join() || ","}`);
  if (mutant !== undefined) words.push("--mutant", mutant);
  return words.join(" ");
}

function count(text: string): number {
  const number = Number(text);
  if (Number.isSafeInteger(number) && number >= 0) return number;
  throw new Error(`not a number: ${text}`);
}
