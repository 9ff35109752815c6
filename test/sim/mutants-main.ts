/**
 * `npm run sim:mutants`: every mutant, or those named, until it is caught; fails if one isn't
 * within its bound of seeds.
 */
import { catchMutant } from "./catch-mutant.ts";
import { mutantNamed } from "./mutants.ts";
import { MUTANTS } from "./mutant-table.ts";

const names = process.argv.slice(2);
const chosen = names.length === 0 ? MUTANTS : names.map(mutantNamed);
let escaped = 0;
for (const mutant of chosen) {
  const { seed, failure, runs } = await catchMutant(mutant);
  if (failure === undefined) escaped += 1;
  const what = failure === undefined ? "NOT CAUGHT" : `caught by seed ${seed}`;
  process.stdout.write(`${mutant.name}: ${what}, ${runs} of at most ${mutant.seedsMax} runs\n`);
  process.stdout.write(`    ${mutant.breaks}\n    ${failure?.split("\n")[0] ?? "-"}\n`);
}
process.stdout.write(`${chosen.length - escaped} of ${chosen.length} mutants caught\n`);
process.exitCode = escaped === 0 ? 0 : 1;
