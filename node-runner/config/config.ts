/**
 * The configuration of one member: from flags, environment or a config file to checked values.
 * Every problem is a `ConfigError` whose text names the flag and what would be right.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type * as Yaml from "yaml";
import { ConfigError } from "./config-error.ts";
import {
  ABSENT_FLAGS,
  DEPRECATIONS,
  EFFECTLESS_FLAGS,
  environmentName,
  FLAGS,
  FLAGS_BY_NAME,
  IGNORED_FLAGS,
  LEFTOVER_NAMES,
} from "./flags.ts";
import { tlsOf, type TlsConfig } from "./tls-config.ts";
import { sectionFlag, TLS_SECTIONS } from "./tls-flags.ts";
import { upkeepOf, type UpkeepSettings } from "./upkeep-config.ts";
import { parseClusterMap, type ListenAddress } from "./url.ts";
import { Values } from "./values.ts";

export interface Config extends TlsConfig, UpkeepSettings {
  readonly name: string;
  readonly dataDir: string;
  readonly walDir: string | undefined;
  readonly listenClientUrls: readonly ListenAddress[];
  readonly listenClientHttpUrls: readonly ListenAddress[];
  readonly listenMetricsUrls: readonly ListenAddress[];
  readonly listenPeerUrls: readonly ListenAddress[];
  readonly advertiseClientUrls: readonly string[];
  readonly initialAdvertisePeerUrls: readonly string[];
  /** Name to peer URLs. */
  readonly initialCluster: ReadonlyMap<string, readonly string[]>;
  readonly initialClusterState: "new" | "existing";
  readonly initialClusterToken: string;
  readonly heartbeatMilliseconds: number;
  readonly electionMilliseconds: number;
  readonly initialElectionTickAdvance: boolean;
  readonly leaseReads: boolean;
  readonly forceNewCluster: boolean;
  readonly strictReconfigCheck: boolean;
  readonly learnersMax: number;
  readonly snapshotCount: number;
  readonly snapshotCatchUpEntries: number;
  readonly quotaBytes: number;
  readonly requestBytesMax: number;
  readonly txnOpsMax: number;
  readonly concurrentStreamsMax: number;
  /** Between pings to a silent client; 0: none. */
  readonly keepaliveMilliseconds: number;
  readonly keepaliveTimeoutMilliseconds: number;
  readonly progressNotifyMilliseconds: number;
  readonly slowRequestMilliseconds: number;
  readonly metrics: "basic" | "extensive";
  readonly gateway: boolean;
  readonly corsOrigins: readonly string[];
  readonly logLevel: "debug" | "info" | "warn" | "error";
  /** What edges and clients of the link show; undefined: the link serves loopback only. */
  readonly linkSecret: string | undefined;
  /** What members show each other; undefined: nothing. */
  readonly peerSecret: string | undefined;
  /** How long an orderly stop may take; then the process ends all the same. */
  readonly stopMilliseconds: number;
  /** Things to say once the log is open. */
  readonly warnings: readonly string[];
  /** Every flag with its value, as the log shows the configuration at start. */
  readonly shown: Readonly<Record<string, string | number | boolean>>;
}

export type ParsedArguments =
  | { readonly action: "run"; readonly config: Config }
  | { readonly action: "help" }
  | { readonly action: "version" };

/** Secrets come by the environment alone: flags show in process lists, and this log shows flags. */
function secretsOf(environment: Readonly<Record<string, string | undefined>>) {
  return {
    linkSecret: environment["QUORATE_SECRET"] || undefined,
    peerSecret: environment["QUORATE_PEER_SECRET"] || undefined,
  };
}

/** Supervisors of the usual kind expect a member gone within 1.5 s. */
const STOP_MILLISECONDS = 1400;

function stopMillisecondsOf(environment: Readonly<Record<string, string | undefined>>): number {
  const text = environment["QUORATE_STOP_MILLISECONDS"] || String(STOP_MILLISECONDS);
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new ConfigError(`QUORATE_STOP_MILLISECONDS is "${text}": a whole number above 0 is needed`);
}

/** Reads the arguments behind the executable's name, and the environment. Throws `ConfigError`. */
export function parseArguments(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ParsedArguments {
  if (args.includes("--version") || args.includes("-version")) return { action: "version" };
  if (args.some((each) => each === "--help" || each === "-help" || each === "-h")) {
    return { action: "help" };
  }
  const warnings: string[] = [];
  const fromFlags = readFlags(args, warnings);
  const fromEnvironment = readEnvironment(environment, warnings);
  const file = fromFlags.get("config-file") ?? fromEnvironment.get("config-file") ?? "";
  if (file !== "")
    return { action: "run", config: check(readConfigFile(file, warnings), warnings, environment) };
  for (const name of fromFlags.keys()) {
    if (!fromEnvironment.has(name)) continue;
    throw new ConfigError(
      `--${name} and ${environmentName(name)} are both set: drop one of the two`,
    );
  }
  return {
    action: "run",
    config: check(new Map([...fromEnvironment, ...fromFlags]), warnings, environment),
  };
}

function readFlags(args: readonly string[], warnings: string[]): Map<string, string> {
  const texts = new Map<string, string>();
  for (let position = 0; position < args.length; position += 1) {
    const argument = args[position] as string;
    const match = /^--?([a-zA-Z][\w-]*)(?:=([\s\S]*))?$/.exec(argument);
    if (match === null) {
      throw new ConfigError(`"${argument}" is no flag and no command; quorate --help lists both`);
    }
    const name = match[1] as string;
    const known = FLAGS_BY_NAME.get(name);
    let text = match[2];
    if (text === undefined) {
      const next = args[position + 1];
      if (known?.kind === "boolean") text = "true";
      else if (next !== undefined && !(known === undefined && next.startsWith("-"))) {
        text = next;
        position += 1;
      } else if (known !== undefined) throw new ConfigError(`--${name} needs a value`);
    }
    if (isTakenWithoutEffect(name, text ?? "true", warnings)) continue;
    if (known === undefined) throw new ConfigError(unknownFlag(name));
    texts.set(name, text ?? "");
  }
  return texts;
}

function isTakenWithoutEffect(name: string, text: string, warnings: string[]): boolean {
  if (EFFECTLESS_FLAGS.has(name)) {
    const deprecation = DEPRECATIONS.get(name);
    warnings.push(deprecation ?? `--${name} has no effect in quorate`);
    return true;
  }
  return IGNORED_FLAGS.has(name) || ABSENT_FLAGS.get(name)?.includes(text) === true;
}

function unknownFlag(name: string): string {
  return ABSENT_FLAGS.has(name)
    ? `--${name} is a flag of etcd that this version of quorate doesn't have; leave it out`
    : `unknown flag --${name}; quorate --help lists the flags`;
}

function readEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  warnings: string[],
): Map<string, string> {
  const names = new Map(FLAGS.map((each) => [environmentName(each.name), each.name]));
  const texts = new Map<string, string>();
  for (const [variable, text] of Object.entries(environment)) {
    if (!variable.startsWith("ETCD_") || text === undefined) continue;
    const name = names.get(variable);
    if (name !== undefined) {
      if (text !== "") texts.set(name, text);
    } else if (!variable.startsWith("ETCD_UNSUPPORTED")) {
      warnings.push(`unrecognized environment variable ${variable}`);
    }
  }
  return texts;
}

function readConfigFile(path: string, warnings: string[]): Map<string, string> {
  let parsed: unknown;
  try {
    // Its 72 modules are a twentieth of a start, which few need.
    const yaml = createRequire(import.meta.url)("yaml") as typeof Yaml;
    // It would print warnings by itself, as no lines of the log.
    const document = yaml.parseDocument(readFileSync(path, "utf8"), { logLevel: "error" });
    for (const warning of document.warnings) warnings.push(`${path}: ${firstLine(warning)}`);
    const [error] = document.errors;
    if (error !== undefined) throw error;
    parsed = document.toJS();
  } catch (cause) {
    const reason = cause instanceof Error ? firstLine(cause) : String(cause);
    throw new ConfigError(`--config-file ${path} can't be read: ${reason}`, { cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new ConfigError(`--config-file ${path} holds no map of names and values`);
  }
  const texts = new Map<string, string>();
  for (const [name, value] of Object.entries(parsed)) {
    const prefix = TLS_SECTIONS.get(name);
    if (prefix === undefined) readFileValue({ path, name, value }, texts, warnings);
    else {
      for (const [inner, text] of Object.entries(value ?? {})) {
        readFileValue({ path, name: sectionFlag(prefix, inner), value: text }, texts, warnings);
      }
    }
  }
  return texts;
}

/** Of a parser's message: what and where; the others show the place. */
function firstLine({ message }: Error): string {
  return (message.split("\n")[0] ?? "").replace(/:$/, "");
}

interface FileValue {
  readonly path: string;
  readonly name: string;
  readonly value: unknown;
}

function readFileValue(
  { path, name, value }: FileValue,
  texts: Map<string, string>,
  warnings: string[],
): void {
  if (value === null || value === undefined || LEFTOVER_NAMES.has(name)) return;
  const text = fileText(value);
  if (isTakenWithoutEffect(name, text ?? "", warnings)) return;
  const known = FLAGS_BY_NAME.get(name);
  if (known === undefined) throw new ConfigError(`${path}: ${unknownFlag(name)}`);
  if (text === undefined) {
    throw new ConfigError(`${path}: ${name} must be a plain value, or a list of them`);
  }
  // In files durations are whole nanoseconds, as in etcd's.
  const isNanoseconds = known.kind === "duration" && typeof value === "number";
  texts.set(name, isNanoseconds ? `${value}ns` : text);
}

/** A plain value, or a list of them, as a flag has it. */
function fileText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return Array.isArray(value) ? value.join(",") : undefined;
}

/** The largest count that flags take: past it JavaScript's numbers are no longer exact. */
const COUNT_MAX = Number.MAX_SAFE_INTEGER;

function check(
  texts: ReadonlyMap<string, string>,
  warnings: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Config {
  const values = new Values(texts);
  if (values.has("listen-client-urls") && !values.has("advertise-client-urls")) {
    throw new ConfigError(
      "--advertise-client-urls is required when --listen-client-urls is set: say where clients find this member",
    );
  }
  const name = values.text("name");
  const heartbeatMilliseconds = values.integer("heartbeat-interval", { min: 1, max: 10_000 });
  const electionMilliseconds = values.integer("election-timeout", { min: 5, max: 50_000 });
  if (electionMilliseconds < 5 * heartbeatMilliseconds) {
    throw new ConfigError(
      `--election-timeout (${electionMilliseconds} ms) must be at least 5 times --heartbeat-interval (${heartbeatMilliseconds} ms)`,
    );
  }
  const listening = listeners(values);
  const ownWarnings: string[] = [];
  return {
    name,
    ...tlsOf(values, listening, ownWarnings),
    ...upkeepOf(values, ownWarnings),
    dataDir: values.text("data-dir") || `${name}.etcd`,
    walDir: values.text("wal-dir") || undefined,
    ...listening,
    ...clusterOf(values, name),
    heartbeatMilliseconds,
    electionMilliseconds,
    initialElectionTickAdvance: values.boolean("initial-election-tick-advance"),
    leaseReads: values.boolean("experimental-lease-reads"),
    forceNewCluster: values.boolean("force-new-cluster"),
    strictReconfigCheck: values.boolean("strict-reconfig-check"),
    learnersMax: values.integer("max-learners", { min: 0, max: 1000 }),
    snapshotCount: values.integer("snapshot-count", { min: 1, max: COUNT_MAX }),
    snapshotCatchUpEntries: values.integer("snapshot-catchup-entries", { min: 0, max: COUNT_MAX }),
    quotaBytes: values.integer("quota-backend-bytes", { min: -COUNT_MAX, max: COUNT_MAX }),
    requestBytesMax: values.integer("max-request-bytes", { min: 1, max: 512 * 1024 * 1024 }),
    txnOpsMax: values.integer("max-txn-ops", { min: 1, max: 1_000_000 }),
    concurrentStreamsMax: values.integer("max-concurrent-streams", { min: 1, max: 4294967295 }),
    keepaliveMilliseconds: values.duration("grpc-keepalive-interval"),
    keepaliveTimeoutMilliseconds: values.duration("grpc-keepalive-timeout"),
    progressNotifyMilliseconds: Math.max(100, values.duration("watch-progress-notify-interval")),
    slowRequestMilliseconds: values.duration("warning-unary-request-duration"),
    metrics: values.choice("metrics", ["basic", "extensive"]),
    gateway: values.boolean("enable-grpc-gateway"),
    corsOrigins: values.urls("cors"),
    logLevel: values.choice("log-level", ["debug", "info", "warn", "error"]),
    ...secretsOf(environment),
    stopMilliseconds: stopMillisecondsOf(environment),
    warnings: [...warnings, ...ownWarnings],
    shown: values.all(),
  };
}

function listeners(values: Values) {
  const required = (name: string): ListenAddress[] => {
    const addresses = values.addresses(name);
    if (addresses.length === 0) throw new ConfigError(`--${name} needs at least one URL`);
    return addresses;
  };
  return {
    listenClientUrls: required("listen-client-urls"),
    listenClientHttpUrls: values.addresses("listen-client-http-urls"),
    listenMetricsUrls: values.addresses("listen-metrics-urls"),
    listenPeerUrls: required("listen-peer-urls"),
  };
}

/** The members that bootstrap names; without --initial-cluster this one alone. */
function clusterOf(values: Values, name: string) {
  values.addresses("advertise-client-urls");
  values.addresses("initial-advertise-peer-urls");
  const peerUrls = values.urls("initial-advertise-peer-urls");
  const text = values.text("initial-cluster");
  const initialCluster = text === "" ? new Map([[name, peerUrls]]) : parseClusterMap(text);
  if ("problem" in initialCluster) {
    throw new ConfigError(`--initial-cluster: ${initialCluster.problem}`);
  }
  const own = initialCluster.get(name);
  if (own === undefined) {
    throw new ConfigError(
      `--initial-cluster doesn't name this member: add ${name}=${peerUrls.join(",")}, or correct --name`,
    );
  }
  if (own.toSorted().join() !== peerUrls.toSorted().join()) {
    throw new ConfigError(
      `--initial-cluster has ${own.join(",")} for ${name}, but --initial-advertise-peer-urls is ${peerUrls.join(",")}: make them equal`,
    );
  }
  const all = [...initialCluster.values()].flat();
  if (new Set(all).size !== all.length) {
    throw new ConfigError("--initial-cluster names one URL twice: each member needs its own");
  }
  return {
    advertiseClientUrls: values.urls("advertise-client-urls"),
    initialAdvertisePeerUrls: peerUrls,
    initialCluster,
    initialClusterState: values.choice("initial-cluster-state", ["new", "existing"]),
    initialClusterToken: values.text("initial-cluster-token"),
  };
}
