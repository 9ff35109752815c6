/** Runs a mutant over seeds, beginning with those that are known to show it, until one fails. */
import type { Mutant } from "./mutants.ts";
import { runPool } from "./pool.ts";
import type { SimulationOptions } from "./simulation.ts";

export interface Caught {
  readonly runs: number;
  readonly seed: number | undefined;
  /** Undefined: it wasn't caught. */
  readonly failure: string | undefined;
}

export async function catchMutant(mutant: Mutant, workers?: number): Promise<Caught> {
  let runs = 0;
  let seed: number | undefined;
  let failure: string | undefined;
  await runPool(seedsOf(mutant), {
    mutant: mutant.name,
    ...(workers !== undefined && { workers }),
    ended: (result) => {
      runs += 1;
      if (result.failure === undefined || failure !== undefined) return failure !== undefined;
      ({ seed, failure } = result);
      return true;
    },
  });
  return { runs, seed, failure };
}

function* seedsOf(mutant: Mutant): Generator<SimulationOptions> {
  const { seedsFrom = 1, seedsMax, leaseReads, jointChanges } = mutant;
  for (let seed = seedsFrom; seed < seedsFrom + seedsMax; seed += 1) {
    yield {
      seed,
      leaseReads: leaseReads === true ? 1 : 0,
      jointChanges: jointChanges === true ? 1 : 0,
    };
  }
}
