/**
 * `npm run sim -- --seeds 100` runs fresh seeds, `--seed N` replays one and prints its trace, `--from N` sets the
 * first seed, `--mutant NAME` puts a known bug in. The seed is printed before a run, a failure ends with the command
 * that replays it.
 */
import { parseArgs } from "node:util";
import { MUTANTS } from "./mutants.ts";
import type { Mutant } from "./mutants.ts";
import { simulate } from "./simulation.ts";
import type { SimulationResult } from "./simulation.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "100" },
    seed: { type: "string" },
    from: { type: "string" },
    mutant: { type: "string" },
    quiet: { type: "boolean", default: false },
  },
});

const mutant: Mutant | undefined = MUTANTS.find((name) => name === values.mutant);
if (values.mutant !== undefined && mutant === undefined) {
  throw new Error(`no such mutant; there are ${MUTANTS.join(", ")}`);
}
const fault = mutant === undefined ? {} : { mutant };

if (values.seed === undefined) await runMany(Number(values.seeds));
else await replay(Number(values.seed));

async function replay(seed: number): Promise<void> {
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  const result = await simulate({ seed, ...fault, ...(values.quiet ? {} : { print }) });
  report(result);
}

async function runMany(count: number): Promise<void> {
  const first = values.from === undefined ? (Date.now() % 1_000_000) * 1000 : Number(values.from);
  for (let seed = first; seed < first + count; seed += 1) {
    process.stdout.write(`seed ${seed}: `);
    report(await simulate({ seed, ...fault }));
  }
}

function report(result: SimulationResult): void {
  const { seed, failure, trace, ...figures } = result;
  const text = Object.entries(figures).map(([name, value]) => `${name} ${value}`);
  process.stdout.write(`${failure === undefined ? "ok" : "FAILED"}, ${text.join(", ")}, `);
  process.stdout.write(`trace ${trace.toString(16)}\n`);
  if (failure === undefined) return;
  const option = mutant === undefined ? "" : ` --mutant ${mutant}`;
  process.stdout.write(`${failure}\nreplay: npm run sim -- --seed ${seed}${option}\n`);
  process.exitCode = 1;
}
