/**
 * Whole clusters of the production peer in a simulated world: regressions first, then fresh seeds.
 */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { replayCommand } from "./command-line.ts";
import { runPool } from "./pool.ts";
import type { SimulationOptions, SimulationResult } from "./simulation.ts";

const FRESH_SEEDS = 300;
/** Far above what it takes; a bound against hanging, not a measure. */
const TIMEOUT_MILLISECONDS = 900_000;

interface Regression {
  readonly runs: readonly SimulationOptions[];
  /** What went wrong. */
  readonly found: string;
}

const folder = new URL("regressions/", import.meta.url);
const regressions = readdirSync(folder).map((name) => ({
  name,
  ...(JSON.parse(readFileSync(new URL(name, folder), "utf8")) as Regression),
}));

/** Runs them all; fails with the commands that replay those that failed. */
async function expectClean(runs: readonly SimulationOptions[]): Promise<SimulationResult[]> {
  const bySeed = new Map(runs.map((run) => [run.seed, run]));
  const results: SimulationResult[] = [];
  await runPool(runs, {
    ended: (result) => {
      results.push(result);
      return false;
    },
  });
  const failed = results.flatMap(({ seed, failure }) =>
    failure === undefined ? [] : [`${failure}\n${replayCommand(bySeed.get(seed) ?? { seed })}`],
  );
  expect(failed).toEqual([]);
  expect(results.length).toBe(runs.length);
  return results;
}

describe("regressions", () => {
  test.each(regressions)("$name stays fixed", { timeout: TIMEOUT_MILLISECONDS }, async (each) => {
    expect(each.found).not.toBe("");
    await expectClean(each.runs);
  });
});

test("one seed twice gives one trace, another seed another", async () => {
  const [first, again, other] = [7, 7, 8].map((seed) => ({ seed, time: 5000 }));
  const results = [...(await expectClean([first, other] as SimulationOptions[]))];
  const [repeated] = await expectClean([again] as SimulationOptions[]);
  const known = results.find(({ seed }) => seed === 7);
  expect(repeated).toEqual(known);
  expect(results.find(({ seed }) => seed === 8)?.trace).not.toBe(known?.trace);
});

test(
  "fresh seeds: faults, then healing, then progress and clean histories",
  { timeout: TIMEOUT_MILLISECONDS },
  async () => {
    const first = Math.floor(Math.random() * 1_000_000) * 1000;
    process.stdout.write(`simulation: ${FRESH_SEEDS} seeds from ${first} on\n`);
    const runs = Array.from({ length: FRESH_SEEDS }, (_, place) => ({ seed: first + place }));
    const results = await expectClean(runs);
    const sum = (name: string): number =>
      results.reduce((total, { figures }) => total + (figures[name] ?? 0), 0);
    // Faults that never happen would prove nothing.
    const counted = [
      "acknowledged",
      "unknown",
      "snapshots",
      "refusals",
      "diskFaults",
      "leaseReads",
      "jointChanges",
    ];
    for (const name of counted) {
      expect(sum(name), name).toBeGreaterThan(0);
    }
  },
);
