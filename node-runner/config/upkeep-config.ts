/**
 * The flags of what a member does unasked: compaction, defragmentation at start, corruption checks,
 * and the feature gates that switch some of it.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import type { AutoCompaction, UpkeepConfig } from "../../shared/peer/peer.ts";
import { ConfigError } from "./config-error.ts";
import { parseDuration } from "./duration.ts";
import type { Values } from "./values.ts";

export interface UpkeepSettings {
  readonly upkeep: UpkeepConfig;
  /** Compares this member's data with the others' before it serves. */
  readonly initialCorruptCheck: boolean;
  /** Free space in the database that makes it defragment at start; 0: never. */
  readonly defragmentFromBytes: number;
}

/** Etcd's gates and their defaults. */
const GATES: ReadonlyMap<string, boolean> = new Map([
  ["AllAlpha", false],
  ["AllBeta", false],
  ["StopGRPCServiceOnDefrag", false],
  ["InitialCorruptCheck", false],
  ["CompactHashCheck", false],
  ["TxnModeWriteWithSharedBuffer", true],
  ["LeaseCheckpoint", false],
  ["LeaseCheckpointPersist", false],
  ["SetMemberLocalAddr", false],
  ["FastLeaseKeepAlive", true],
  ["PriorityRequest", false],
]);
const EFFECTIVE_GATES: ReadonlySet<string> = new Set(["InitialCorruptCheck", "CompactHashCheck"]);

const MIB = 1024 * 1024;
const COUNT_MAX = Number.MAX_SAFE_INTEGER;

/** Throws `ConfigError`; adds warnings for gates that change nothing here. */
export function upkeepOf(values: Values, warnings: string[]): UpkeepSettings {
  const gates = gatesOf(values.text("feature-gates"), warnings);
  const rows = values.integer("compaction-batch-limit", { min: 1, max: COUNT_MAX });
  const megabytes = values.integer("bootstrap-defrag-threshold-megabytes", {
    min: 0,
    max: COUNT_MAX / MIB,
  });
  const compactHashCheck = values.duration("compact-hash-check-time");
  return {
    upkeep: {
      autoCompaction: autoCompactionOf(values),
      // More would hold up heartbeats.
      compactionRowsPerStep: Math.min(rows, LIMITS.stretchRowsMax),
      compactionPauseMilliseconds: values.duration("compaction-sleep-interval"),
      corruptCheckMilliseconds: values.duration("corrupt-check-time"),
      compactHashCheckMilliseconds: gates.get("CompactHashCheck") === true ? compactHashCheck : 0,
    },
    initialCorruptCheck: gates.get("InitialCorruptCheck") === true,
    defragmentFromBytes: megabytes * MIB,
  };
}

function autoCompactionOf(values: Values): AutoCompaction {
  const mode = values.choice("auto-compaction-mode", ["periodic", "revision"]);
  const text = values.text("auto-compaction-retention");
  if (text === "" || /^0+$/.test(text)) return { mode: "off" };
  const whole = /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  if (mode === "revision") {
    if (whole !== undefined) return { mode, keep: whole };
    throw new ConfigError(
      `--auto-compaction-retention is "${text}": with --auto-compaction-mode revision it must be a whole number of revisions`,
    );
  }
  const milliseconds = whole === undefined ? parseDuration(text) : whole * 3_600_000;
  if (milliseconds === 0) return { mode: "off" };
  if (milliseconds !== undefined && milliseconds > 0) return { mode, milliseconds };
  throw new ConfigError(
    `--auto-compaction-retention is "${text}": a number of hours or a duration such as 30m is needed`,
  );
}

function gatesOf(text: string, warnings: string[]): ReadonlyMap<string, boolean> {
  const gates = new Map(GATES);
  for (const each of text.split(",").map((part) => part.trim())) {
    if (each === "") continue;
    const [name = "", value = ""] = each.split("=").map((part) => part.trim());
    const known = GATES.get(name);
    if (known === undefined) {
      throw new ConfigError(`--feature-gates: "${name}" is no feature gate of etcd`);
    }
    if (!/^(true|false)$/i.test(value)) {
      throw new ConfigError(`--feature-gates: "${each}" must be ${name}=true or ${name}=false`);
    }
    const wanted = value.toLowerCase() === "true";
    gates.set(name, wanted);
    if (name === "AllAlpha" && wanted) for (const gate of EFFECTIVE_GATES) gates.set(gate, true);
    if (wanted !== known && !EFFECTIVE_GATES.has(name)) {
      warnings.push(`--feature-gates: ${name} has no effect in quorate`);
    }
  }
  return gates;
}
