/**
 * A thread that runs seeds, one after the other, with a mutation put into the sources if one is
 * asked for.
 */
import { parentPort, workerData } from "node:worker_threads";
import { mutantNamed, mutateSources } from "./mutants.ts";
import type { SimulationOptions } from "./simulation.ts";

const { mutant } = workerData as { readonly mutant: string | undefined };
if (mutant !== undefined) mutateSources(mutantNamed(mutant));
// Only now: what is loaded from here on is the mutant's.
const { simulate } = await import("./simulation.ts");

parentPort?.on("message", (options: SimulationOptions) => {
  simulate(options).then(
    (result) => parentPort?.postMessage(result),
    (error: unknown) => {
      throw error;
    },
  );
});
