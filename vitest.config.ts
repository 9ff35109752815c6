/** The test suites as vitest projects, cheapest first. `test/README.md` says what each is for. */
import { join } from "node:path";
import { defineConfig } from "vitest/config";

/** Members that tests start compile what has changed since the last one, not everything each time. */
const env = { NODE_COMPILE_CACHE: join(import.meta.dirname, ".cache", "compile-cache") };

/** How long `expect.poll` waits unless a test says otherwise: far above what a slow or paused machine needs. */
const POLL_MILLISECONDS = 20_000;

/** A suite run on Node. Suites that start processes have a turn: they run alone, one file at a time, so that what they
 * demand of real time isn't at the mercy of other suites. */
function suite(name: string, options: { turn?: number; timeoutSeconds?: number } = {}) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      environment: "node" as const,
      env,
      testTimeout: (options.timeoutSeconds ?? 10) * 1000,
      hookTimeout: 200_000,
      expect: { poll: { timeout: POLL_MILLISECONDS } },
      fileParallelism: options.turn === undefined,
      sequence: { groupOrder: options.turn ?? 0 },
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      suite("unit", { timeoutSeconds: 30 }),
      suite("sim", { timeoutSeconds: 120 }),
      suite("api", { turn: 1, timeoutSeconds: 120 }),
      suite("process", { turn: 2, timeoutSeconds: 300 }),
      suite("interop", { turn: 3, timeoutSeconds: 240 }),
      suite("edge", { turn: 4, timeoutSeconds: 240 }),
      suite("browser", { turn: 5, timeoutSeconds: 240 }),
      suite("examples", { turn: 7, timeoutSeconds: 240 }),
      suite("package", { turn: 6, timeoutSeconds: 240 }),
    ],
  },
});
