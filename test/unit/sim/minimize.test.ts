/** Shrinking of failing runs, and the command lines that replay them. */
import { expect, test } from "vitest";
import { readCommandLine, replayCommand } from "../../sim/command-line.ts";
import { minimize } from "../../sim/minimize.ts";
import type { SimulationOptions, SimulationResult } from "../../sim/simulation.ts";

/** A simulator whose runs fail if strikes 3 and 7 are done before 4 s, with a client. */
function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { seed, strikes = [1, 2, 3, 4, 5, 6, 7, 8], clients = 5, time = 20_000 } = options;
  const fails = strikes.includes(3) && strikes.includes(7) && clients > 0 && time >= 4000;
  return Promise.resolve({
    seed,
    failure: fails ? "both" : undefined,
    trace: 0,
    ended: fails ? 4100 : time,
    strikes: strikes.map((number) => ({ number, name: "crash" })),
    figures: {},
  });
}

test("a failing run is left with what it needs to fail", async () => {
  const smallest = await minimize({ seed: 5 }, simulate, () => {});
  expect(smallest?.failure).toBe("both");
  expect(smallest?.run).toMatchObject({ seed: 5, strikes: [3, 7], clients: 1, watchers: 0 });
  expect(smallest?.run.time).toBeLessThan(5000);
});

test("a run that doesn't fail isn't made smaller", async () => {
  expect(await minimize({ seed: 5, clients: 0 }, simulate, () => {})).toBeUndefined();
});

test("the command that replays a run is read back as that run", () => {
  const runs: SimulationOptions[] = [
    { seed: 7 },
    { seed: 8, time: 4000, clients: 1, leases: 0, locks: 2, watchers: 0, strikes: [3, 7] },
    { seed: 9, strikes: [] },
  ];
  for (const run of runs) {
    const command = replayCommand(run, "skipFlush");
    const args = command.split(" ").slice(4);
    expect(readCommandLine(args, 1)).toMatchObject({ run, mutant: "skipFlush", mode: "replay" });
  }
});

test("a command line that means nothing is refused", () => {
  expect(() => readCommandLine(["--seed", "x"], 1)).toThrow("not a number");
  expect(() => readCommandLine(["--mutant", "none"], 1)).toThrow("no mutant none");
});
