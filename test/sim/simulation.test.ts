/** Whole clusters of the production peer in a simulated world: regressions first, then fresh seeds. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { simulate } from "./simulation.ts";

/** Fresh seeds end here at the latest; how many were run is printed. */
const FRESH_SEEDS = 100;
const FRESH_MILLISECONDS_MAX = 75_000;

interface Regression {
  readonly seeds: readonly number[];
  /** What went wrong. */
  readonly found: string;
}

const folder = new URL("regressions/", import.meta.url);
const regressions = readdirSync(folder).map((name) => ({
  name,
  ...(JSON.parse(readFileSync(new URL(name, folder), "utf8")) as Regression),
}));

/** Runs a seed, and fails with the command that replays it. */
async function expectClean(seed: number): Promise<void> {
  const { failure } = await simulate({ seed });
  if (failure === undefined) return;
  expect.fail(`${failure}\nreplay: npm run sim -- --seed ${seed}`);
}

describe("regressions", () => {
  test.each(regressions)("$name stays fixed", async ({ seeds, found }) => {
    expect(found).not.toBe("");
    for (const seed of seeds) await expectClean(seed);
  });
});

test("one seed twice gives one trace, another seed another", async () => {
  const first = await simulate({ seed: 7 });
  const again = await simulate({ seed: 7 });
  const other = await simulate({ seed: 8 });
  expect(again).toEqual(first);
  expect(other.trace).not.toBe(first.trace);
});

test("fresh seeds: faults, then healing, then progress and clean histories", async () => {
  const first = Math.floor(Math.random() * 1_000_000) * 1000;
  process.stdout.write(`simulation: seeds from ${first} on\n`);
  const until = performance.now() + FRESH_MILLISECONDS_MAX;
  let seed = first;
  for (; seed < first + FRESH_SEEDS && performance.now() < until; seed += 1) {
    await expectClean(seed);
  }
  process.stdout.write(`simulation: ${seed - first} seeds clean\n`);
  expect(seed).toBeGreaterThan(first);
});
