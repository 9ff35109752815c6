/** The test suites as vitest projects, cheapest first. `test/README.md` says what each is for. */
import { defineConfig } from "vitest/config";

/** A suite run on Node. Suites that start processes run one file at a time: the machine is shared. */
function suite(name: string, options: { serial?: boolean; timeoutSeconds?: number } = {}) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      environment: "node" as const,
      testTimeout: (options.timeoutSeconds ?? 10) * 1000,
      hookTimeout: 60_000,
      fileParallelism: !(options.serial ?? false),
    },
  };
}

export default defineConfig({
  test: {
    projects: [
      suite("unit"),
      suite("sim", { timeoutSeconds: 120 }),
      suite("api", { serial: true, timeoutSeconds: 60 }),
      suite("process", { serial: true, timeoutSeconds: 120 }),
      suite("interop", { serial: true, timeoutSeconds: 120 }),
      suite("edge", { serial: true, timeoutSeconds: 120 }),
    ],
  },
});
