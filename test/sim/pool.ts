/**
 * Runs seeds side by side, one worker thread a processor: each is a fresh instance of the whole
 * simulator, so that nothing of one run can leak into another, and a mutation can be put in while
 * its sources load.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { SimulationOptions, SimulationResult } from "./simulation.ts";

export interface PoolOptions {
  /** The name of a mutation (`mutants.ts`). */
  readonly mutant?: string;
  readonly workers?: number;
  /** Called for each run as it ends. True ends the pool: no further run is begun. */
  readonly ended: (result: SimulationResult) => boolean;
}

const WORKERS_MAX = availableParallelism();

/** Runs all of `runs`, in order as workers become free. Rejects when a worker dies. */
export async function runPool(
  runs: Iterable<SimulationOptions>,
  options: PoolOptions,
): Promise<void> {
  const source = runs[Symbol.iterator]();
  let stopped = false;
  const take = (): SimulationOptions | undefined => {
    if (stopped) return undefined;
    const next = source.next();
    return next.done === true ? undefined : next.value;
  };
  const work = async (): Promise<void> => {
    const first = take();
    if (first === undefined) return;
    const worker = new SeedWorker(options.mutant);
    try {
      for (let next: SimulationOptions | undefined = first; next !== undefined; next = take()) {
        if (options.ended(await worker.run(next))) stopped = true;
      }
    } finally {
      await worker.end();
    }
  };
  await Promise.all(Array.from({ length: options.workers ?? WORKERS_MAX }, work));
}

interface Waiting {
  resolve(result: SimulationResult): void;
  reject(error: Error): void;
}

class SeedWorker {
  readonly #worker: Worker;
  #waiting: Waiting | undefined;

  constructor(mutant: string | undefined) {
    this.#worker = new Worker(new URL("seed-worker.ts", import.meta.url), {
      workerData: { mutant },
      // Not the host's own: a test runner's hooks would change what is loaded.
      execArgv: [],
    });
    this.#worker.on("message", (result: SimulationResult) => this.#waiting?.resolve(result));
    this.#worker.on("error", (error: Error) => this.#waiting?.reject(error));
    this.#worker.on("exit", (code) => this.#waiting?.reject(new Error(`exit with ${code}`)));
  }

  run(options: SimulationOptions): Promise<SimulationResult> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#worker.postMessage(options);
    });
  }

  async end(): Promise<void> {
    this.#waiting = undefined;
    await this.#worker.terminate();
  }
}
