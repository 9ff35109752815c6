/**
 * The flags of `quorate`: etcd's names, defaults and meanings for what exists so far. One table
 * serves the command line, the environment (`ETCD_` and the name in capitals), the config file and
 * `--help`.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import { flag, type Flag } from "./flag.ts";
import { TLS_FLAGS } from "./tls-flags.ts";
import { UPKEEP_FLAGS } from "./upkeep-flags.ts";

export const FLAGS: readonly Flag[] = [
  flag("name", "text", "default", "This member's name."),
  flag("data-dir", "text", "", "Where its data are kept (default ./<name>.etcd)."),
  flag("wal-dir", "text", "", "Where its log is kept (default: inside the data directory)."),
  flag("listen-client-urls", "urls", "http://localhost:2379", "Where clients are served."),
  flag("listen-client-http-urls", "urls", "", "Where HTTP is served, apart from gRPC."),
  flag("listen-metrics-urls", "urls", "", "Where /metrics and /health are served besides."),
  flag("listen-peer-urls", "urls", "http://localhost:2380", "Where other members are served."),
  flag("advertise-client-urls", "urls", "http://localhost:2379", "Where clients find this member."),
  flag(
    "initial-advertise-peer-urls",
    "urls",
    "http://localhost:2380",
    "Where members find this one.",
  ),
  flag("initial-cluster", "text", "", "The members of a new cluster: name=url,..."),
  flag("initial-cluster-state", "choice", "new", "Whether the cluster is new.", [
    "new",
    "existing",
  ]),
  flag("initial-cluster-token", "text", "etcd-cluster", "Tells clusters apart at bootstrap."),
  flag("strict-reconfig-check", "boolean", "true", "Refuses changes that would lose the quorum."),
  flag("max-learners", "integer", String(LIMITS.learnersMax), "Learners that may be members."),
  flag("force-new-cluster", "boolean", "false", "Makes this member a cluster of its own."),
  flag("heartbeat-interval", "milliseconds", String(LIMITS.tickMilliseconds), "Of the leader."),
  flag("election-timeout", "milliseconds", "1000", "Silence after which members elect anew."),
  flag("initial-election-tick-advance", "boolean", "true", "Elects sooner at start."),
  flag(
    "experimental-lease-reads",
    "boolean",
    "false",
    "Reads without asking the other members; needs clocks of the same rate, within a tenth.",
  ),
  flag("snapshot-count", "integer", String(LIMITS.compactLogEvery), "Entries between log cuts."),
  flag(
    "snapshot-catchup-entries",
    "integer",
    String(LIMITS.catchUpEntries),
    "Entries kept behind.",
  ),
  flag("quota-backend-bytes", "integer", "0", "Database size that raises NOSPACE (0: 2 GiB)."),
  flag("max-request-bytes", "integer", String(LIMITS.requestBytesMax), "The largest request."),
  flag("max-txn-ops", "integer", String(LIMITS.txnOpsMax), "Operations of a transaction."),
  flag("max-concurrent-streams", "integer", "4294967295", "Streams of one connection."),
  ...UPKEEP_FLAGS,
  flag("watch-progress-notify-interval", "duration", "10m0s", "Of watches that ask for progress."),
  flag("warning-unary-request-duration", "duration", "300ms", "Slower requests are logged."),
  flag("metrics", "choice", "basic", "Detail of /metrics.", ["basic", "extensive"]),
  flag("enable-grpc-gateway", "boolean", "true", "Serves the JSON gateway."),
  flag("cors", "text", "*", "Origins that browsers may come from, by commas."),
  flag("log-level", "choice", "info", "Least level of log lines.", [
    "debug",
    "info",
    "warn",
    "error",
  ]),
  ...TLS_FLAGS,
  flag("config-file", "text", "", "A YAML file with these names; all else is then ignored."),
];

export const FLAGS_BY_NAME: ReadonlyMap<string, Flag> = new Map(
  FLAGS.map((each) => [each.name, each]),
);

/** Flags of etcd's past that it ignores in silence. */
export const IGNORED_FLAGS: ReadonlySet<string> = new Set(
  (
    "cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer " +
    "max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval snapshot v vv"
  ).split(" "),
);

/**
 * Flags of etcd that are taken with a warning: what they set is fixed here, or has no counterpart.
 */
export const EFFECTLESS_FLAGS: ReadonlySet<string> = new Set(
  (
    "logger log-format log-outputs pre-vote backend-bbolt-freelist-type max-snapshots max-wals " +
    "v2-deprecation backend-batch-interval backend-batch-limit"
  ).split(" "),
);

/** Flags of etcd that this version doesn't have: refused with a clearer text than unknown ones. */
export const ABSENT_FLAGS: ReadonlySet<string> = new Set(
  (
    "grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout " +
    "socket-reuse-port socket-reuse-address raft-read-timeout raft-write-timeout " +
    "memory-mlock discovery-srv discovery-srv-name discovery-fallback " +
    "discovery-endpoints discovery-token discovery-dial-timeout " +
    "discovery-request-timeout discovery-keepalive-time discovery-keepalive-timeout " +
    "discovery-insecure-transport discovery-insecure-skip-tls-verify discovery-cert " +
    "discovery-key discovery-cacert discovery-user discovery-password host-whitelist " +
    "auth-token auth-token-ttl bcrypt-cost " +
    "downgrade-check-time enable-log-rotation " +
    "log-rotation-config-json enable-pprof warning-apply-duration " +
    "enable-distributed-tracing distributed-tracing-address " +
    "distributed-tracing-service-name distributed-tracing-instance-id " +
    "distributed-tracing-sampling-rate unsafe-no-fsync "
  ).split(" "),
);

/** The name of a flag's environment variable. */
export function environmentName(name: string): string {
  return `ETCD_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** The text of `--help`. */
export function helpText(version: string, commands: string): string {
  const width = Math.max(...FLAGS.map((each) => each.name.length)) + 4;
  const lines = FLAGS.map((each) => {
    const shown = each.default === "" ? "" : ` (${each.default})`;
    return `  --${each.name}`.padEnd(width + 2) + each.help + shown;
  });
  return [
    `quorate ${version}: one member of a Quorate cluster. Flags and environment are etcd's.`,
    "",
    "Usage: quorate [flags]          a flag: --name=value or --name value",
    "       quorate --version",
    commands,
    "",
    ...lines,
    "",
    "Each flag may come as an environment variable instead: --data-dir as ETCD_DATA_DIR.",
    "QUORATE_SECRET: what edges show to use the link; without it the link serves loopback only.",
    "QUORATE_PEER_SECRET: what members show each other.",
    "QUORATE_STOP_MILLISECONDS: how long an orderly stop may take before it is forced (1400).",
    "",
  ].join("\n");
}
