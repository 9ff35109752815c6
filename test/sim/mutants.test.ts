/** The simulator finds known bugs: each mutant must be caught within a bounded number of seeds. */
import { expect, test } from "vitest";
import { MUTANTS } from "./mutants.ts";
import { simulate } from "./simulation.ts";

/** The rarest mutant fails one seed in ten or so. */
const SEEDS_MAX = 120;

test.each(MUTANTS)("%s is caught", async (mutant) => {
  let failure: string | undefined;
  let seed = 0;
  while (failure === undefined && seed < SEEDS_MAX) {
    seed += 1;
    ({ failure } = await simulate({ seed, mutant }));
  }
  process.stdout.write(`${mutant}: caught by seed ${seed}: ${failure?.split("\n")[0] ?? "-"}\n`);
  expect(failure).toBeDefined();
});
