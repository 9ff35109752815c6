/**
 * The simulator's command line.
 *
 *     npm run sim -- --seeds 1000          fresh seeds, on all processors; --from N: the first one
 *     npm run sim -- --seed 7              replays one and prints its trace (--quiet: only its end)
 *     npm run sim -- --minimize 7          makes a failing run smaller
 *     ... --mutant NAME                    with a known bug put in
 *     ... --time MS --clients N --leases N --locks N --watchers N --strikes 3,9    a smaller run
 *
 * A failure ends with the one command that replays it.
 */
import { readCommandLine, replayCommand } from "./command-line.ts";
import type { CommandLine } from "./command-line.ts";
import { minimize } from "./minimize.ts";
import { mutantNamed, mutateSources } from "./mutants.ts";
import { runPool } from "./pool.ts";
import type { SimulationOptions, SimulationResult } from "./simulation.ts";

const PROGRESS_MILLISECONDS = 5000;

const commandLine = readCommandLine(process.argv.slice(2), (Date.now() % 1_000_000) * 1000);
const { mutant, mode } = commandLine;
if (mode === "fresh") await runMany(commandLine);
else await runHere(commandLine);

/** In this thread; what is loaded from here on is the mutant's. */
async function runHere({ run, quiet }: CommandLine): Promise<void> {
  if (mutant !== undefined) mutateSources(mutantNamed(mutant));
  const { simulate } = await import("./simulation.ts");
  if (mode === "replay") {
    const result = await simulate(run, quiet ? undefined : print);
    print(summaryOf(result));
    if (result.failure !== undefined) reportFailure(run, result.failure);
    return;
  }
  const smallest = await minimize(
    run,
    (options) => simulate(options),
    (smaller) => print(`fails: ${replayCommand(smaller, mutant)}`),
  );
  if (smallest === undefined) print(`seed ${run.seed} doesn't fail`);
  else reportFailure(smallest.run, smallest.failure);
}

async function runMany({ run, seeds }: CommandLine): Promise<void> {
  const { seed: first } = run;
  print(`seeds ${first} to ${first + seeds - 1}`);
  const started = performance.now();
  let shown = started;
  let done = 0;
  let failed = 0;
  const sums = new Map<string, number>();
  const ended = (result: SimulationResult): boolean => {
    done += 1;
    for (const [name, value] of Object.entries(result.figures)) {
      sums.set(name, (sums.get(name) ?? 0) + value);
    }
    if (result.failure !== undefined) {
      failed += 1;
      reportFailure({ ...run, seed: result.seed }, result.failure);
    }
    const now = performance.now();
    if (now - shown >= PROGRESS_MILLISECONDS) {
      shown = now;
      print(`${done} of ${seeds} seeds, ${failed} failed, ${seconds(started)} s`);
    }
    return false;
  };
  await runPool(seedsOf(run, seeds), { ...(mutant !== undefined && { mutant }), ended });
  const totals = [...sums].map(([name, value]) => `${name} ${value}`).join(", ");
  print(`${done} seeds in ${seconds(started)} s, ${failed} failed; in all: ${totals}`);
}

function* seedsOf(run: SimulationOptions, count: number): Generator<SimulationOptions> {
  for (let place = 0; place < count; place += 1) yield { ...run, seed: run.seed + place };
}

function reportFailure(run: SimulationOptions, failure: string): void {
  print(`seed ${run.seed} FAILED: ${failure}\nreplay: ${replayCommand(run, mutant)}`);
  process.exitCode = 1;
}

function summaryOf({ seed, failure, trace, strikes, figures }: SimulationResult): string {
  const state = failure === undefined ? "ok" : "FAILED";
  const counts = Object.entries(figures).map(([name, value]) => `${name} ${value}`);
  const text = `${state}, strikes ${strikes.length}, ${counts.join(", ")}`;
  return `seed ${seed}: ${text}, trace ${trace.toString(16)}`;
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(0);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
