/**
 * `npm test`: installs what is needed, runs every test suite, and ends with one line of real
 * counts. Plain JavaScript: it starts on any Node from 20 on. Arguments are passed to vitest: `npm
 * test -- --project unit`, `npm test -- -t "watch"`.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ensureInstalled } from "../node-runner/bin/install.js";
import { modernNode, missingNodeText, projectRoot } from "../node-runner/bin/modern-node.js";

ensureInstalled();
const node = modernNode();
if (node === undefined) {
  process.stderr.write(missingNodeText);
  process.exit(1);
}

const report = join(projectRoot, ".cache", "test-report.json");
const skips = join(projectRoot, ".cache", "skipped-tools.txt");
mkdirSync(join(projectRoot, ".cache"), { recursive: true });
rmSync(report, { force: true });
rmSync(skips, { force: true });

const vitest = join(projectRoot, "node_modules", "vitest", "vitest.mjs");
const bin = join(projectRoot, "node_modules", ".bin");
const run = spawnSync(
  node,
  [
    vitest,
    "run",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
  {
    cwd: projectRoot,
    stdio: "inherit",
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, QUORATE_SKIP_FILE: skips },
  },
);

const counts = readCounts();
process.stdout.write(
  `\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`,
);
process.exitCode = run.status === 0 && counts.failed === 0 && counts.passed > 0 ? 0 : 1;

/**
 * The counts of vitest's own report; a run without a report, or with a suite that could not start,
 * has failed.
 */
function readCounts() {
  try {
    const {
      numPassedTests,
      numFailedTests,
      numPendingTests,
      numTodoTests,
      numFailedTestSuites,
      success,
    } = JSON.parse(readFileSync(report, "utf8"));
    const failed =
      numFailedTests === 0 && !success ? Math.max(1, numFailedTestSuites) : numFailedTests;
    return { passed: numPassedTests, failed, skipped: numPendingTests + numTodoTests };
  } catch (error) {
    process.stderr.write(`no test report: ${String(error)}\n`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}
