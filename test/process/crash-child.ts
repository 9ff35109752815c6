/**
 * The production member (`node-runner/member.ts`) in a process that can be crashed as a machine: on
 * a disk that keeps unsynced writes apart, and with a named place at which it kills itself. Takes
 * the executable's flags; `QUORATE_TEST_CRASH` holds `CrashPlan` as JSON. Nothing of this is in the
 * production code.
 */
import { parseArguments } from "../../node-runner/config/config.ts";
import { NodeFiles } from "../../node-runner/files/node-files.ts";
import { Logger } from "../../node-runner/logger.ts";
import { startMember } from "../../node-runner/member.ts";
import { Prng } from "../../shared/base/prng.ts";
import { HookedFiles } from "../support/hooked-files.ts";
import { UnsyncedFiles } from "../support/unsynced-files.ts";
import { passCommits, passFiles, passHost } from "./failpoints.ts";
import type { Failpoint, Pass } from "./failpoints.ts";

export const CRASH_VARIABLE = "QUORATE_TEST_CRASH";

export interface CrashPlan {
  /**
   * "real": the system's. "unsynced": what isn't synced is lost or torn. "careless": the same, and
   * the log's durable writes are not synced.
   */
  readonly disk: "real" | "unsynced" | "careless";
  /** Where to die, and at which passing. */
  readonly failpoint?: { readonly name: Failpoint; readonly passing: number } | undefined;
  readonly walSegmentBytes: number;
  /** Speaks this older version with the others: as before an upgrade. */
  readonly peerVersion?: number | undefined;
  readonly seed: number;
}

function run(plan: CrashPlan): void {
  const logger = new Logger("info", (line) => void process.stderr.write(line));
  const prng = new Prng(plan.seed);
  let tear = (): void => {};
  let left = plan.failpoint?.passing ?? Infinity;
  const pass: Pass = (point) => {
    if (point !== plan.failpoint?.name) return;
    left -= 1;
    if (left > 0) return;
    tear();
    process.kill(process.pid, "SIGKILL");
  };
  let disk: NodeFiles | UnsyncedFiles = new NodeFiles();
  if (plan.disk !== "real") {
    const careless = plan.disk === "careless";
    const unsynced = new UnsyncedFiles({ written: () => pass("wal-written-unsynced"), careless });
    tear = () => unsynced.tear(prng);
    disk = unsynced;
  }
  passCommits(pass);
  const stop = (reason: string, error: unknown): void => {
    logger.report("error", reason, { error });
    process.exit(1);
  };
  const parsed = parseArguments(process.argv.slice(2), process.env);
  if (parsed.action !== "run") throw new Error("flags of a member are needed");
  startMember({
    config: parsed.config,
    logger,
    disk: {
      files: new HookedFiles(disk, (point) => passFiles(point, pass)),
      walSegmentBytes: plan.walSegmentBytes,
    },
    peerVersion: plan.peerVersion,
    around: (host) => passHost(host, pass),
    onFatal: (error) => stop("the member can't go on", error),
  }).then(
    (member) => {
      process.once("SIGTERM", () => {
        void member.stop().then(() => process.exit(0));
      });
    },
    (error: unknown) => stop("failed to start", error),
  );
}

if (import.meta.main) run(JSON.parse(process.env[CRASH_VARIABLE] ?? "") as CrashPlan);
