/** The simulator finds known bugs: each mutant is caught within its bound of seeds. */
import { expect, test } from "vitest";
import { catchMutant } from "./catch-mutant.ts";
import { MUTANTS } from "./mutant-table.ts";
import { mutatedSource } from "./mutants.ts";

const TIMEOUT_MILLISECONDS = 600_000;

test.each(MUTANTS)(
  "$name is caught: $breaks",
  { timeout: TIMEOUT_MILLISECONDS },
  async (mutant) => {
    const { seed, failure } = await catchMutant(mutant);
    process.stdout.write(`${mutant.name}: seed ${seed}: ${failure?.split("\n")[0] ?? "-"}\n`);
    expect(failure).toBeDefined();
  },
);

test("an edit that no longer fits its file is refused", () => {
  const [mutant] = MUTANTS;
  const edits = mutant?.edits.map((edit) => ({ ...edit, find: "this text is nowhere" })) ?? [];
  const outdated = { name: "outdated", breaks: "nothing", seedsMax: 1, edits };
  expect(() => mutatedSource(outdated, edits[0]?.file ?? "")).toThrow("0 times, not once");
});
