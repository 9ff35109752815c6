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
  flag(
    "grpc-keepalive-interval",
    "duration",
    "2h0m0s",
    "Between pings to silent clients (0: none).",
  ),
  flag("grpc-keepalive-timeout", "duration", "20s", "How long a pinged client may stay silent."),
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
 * Flags of etcd that are taken with a warning: what they set is fixed here, has no counterpart, or only matters beside
 * a flag that is absent.
 */
export const EFFECTLESS_FLAGS: ReadonlySet<string> = new Set(
  (
    "logger log-format log-outputs log-rotation-config-json pre-vote backend-bbolt-freelist-type max-snapshots " +
    "max-wals v2-deprecation backend-batch-interval backend-batch-limit unsafe-no-fsync memory-mlock " +
    "auth-token auth-token-ttl bcrypt-cost grpc-keepalive-min-time raft-read-timeout raft-write-timeout " +
    "socket-reuse-address downgrade-check-time enable-pprof warning-apply-duration discovery-fallback " +
    "discovery-srv-name discovery-dial-timeout discovery-request-timeout discovery-keepalive-time " +
    "discovery-keepalive-timeout discovery-insecure-transport discovery-insecure-skip-tls-verify discovery-cert " +
    "discovery-key discovery-cacert discovery-user discovery-password distributed-tracing-address " +
    "distributed-tracing-service-name distributed-tracing-instance-id distributed-tracing-sampling-rate"
  ).split(" "),
);

/** What etcd says of those that it will drop: tools look for the text. */
export const DEPRECATIONS: ReadonlyMap<string, string> = new Map([
  ["max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."],
  [
    "v2-deprecation",
    "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
  ],
]);

/**
 * Flags of etcd that this version doesn't have, with the values that don't ask for anything. Others are refused, by a
 * clearer text than unknown flags are.
 */
export const ABSENT_FLAGS: ReadonlyMap<string, readonly string[]> = new Map([
  ["discovery-srv", [""]],
  ["discovery-endpoints", [""]],
  ["discovery-token", [""]],
  ["enable-distributed-tracing", ["false"]],
  ["enable-log-rotation", ["false"]],
  ["host-whitelist", ["", "*"]],
  ["socket-reuse-port", ["false"]],
]);

/** Names of older etcds that still stand in the config file etcd comes with. It ignores them, too. */
export const LEFTOVER_NAMES: ReadonlySet<string> = new Set(
  (
    "discovery discovery-proxy proxy proxy-failure-wait proxy-refresh-interval proxy-dial-timeout " +
    "proxy-write-timeout proxy-read-timeout"
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
