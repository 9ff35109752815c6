/** The flags that `upkeep-config.ts` reads. */
import { flag, type Flag } from "./flag.ts";

export const UPKEEP_FLAGS: readonly Flag[] = [
  flag("auto-compaction-mode", "choice", "periodic", "What its retention counts.", [
    "periodic",
    "revision",
  ]),
  flag("auto-compaction-retention", "text", "0", "Hours, a duration, or revisions kept (0: all)."),
  flag("compaction-batch-limit", "integer", "1000", "Revisions removed at a stretch."),
  flag("compaction-sleep-interval", "duration", "10ms", "Between two such stretches."),
  flag(
    "bootstrap-defrag-threshold-megabytes",
    "integer",
    "0",
    "Free space worth a defrag at start.",
  ),
  flag("corrupt-check-time", "duration", "0s", "Between two comparisons of members (0: none)."),
  flag("compact-hash-check-time", "duration", "1m0s", "Between looks for compactions to compare."),
  flag("feature-gates", "text", "", "Name=true or name=false, by commas."),
];
