/** Flags, environment and config file of `quorate`: etcd's rules, and errors that name the flag. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseArguments, type Config } from "../../../../node-runner/config/config.ts";
import { parseDuration } from "../../../../node-runner/config/duration.ts";
import { bootstrapIdentity } from "../../../../node-runner/cluster-identity.ts";
import { makeTempDir, removeTempDir } from "../../../support/temp-dir.ts";

function configOf(args: string[], environment: Record<string, string> = {}): Config {
  const parsed = parseArguments(args, environment);
  if (parsed.action !== "run") throw new Error(`action ${parsed.action}`);
  return parsed.config;
}

test("no flag at all gives etcd's defaults", () => {
  const config = configOf([]);
  expect(config.dataDir).toBe("default.etcd");
  expect(config.listenClientUrls).toEqual([
    { kind: "tcp", host: "localhost", port: 2379, tls: false },
  ]);
  expect(config.initialCluster.get("default")).toEqual(["http://localhost:2380"]);
  expect(config.heartbeatMilliseconds).toBe(100);
  expect(config.progressNotifyMilliseconds).toBe(600_000);
});

test("flags come as --flag=value, --flag value and bare booleans", () => {
  const config = configOf(["--name=a", "--data-dir", "/tmp/x", "--strict-reconfig-check"]);
  expect(config).toMatchObject({ name: "a", dataDir: "/tmp/x" });
  expect(config.initialCluster.has("a")).toBe(true);
});

test.each([
  [["--frob=1"], "unknown flag --frob"],
  [["--discovery-srv=x"], "--discovery-srv is a flag of etcd that this version"],
  [["--enable-log-rotation"], "--enable-log-rotation is a flag of etcd that this version"],
  [["frob"], '"frob" is no flag'],
  [["--name"], "--name needs a value"],
  [["--listen-peer-urls=ftp://x:1"], '--listen-peer-urls: "ftp://x:1" has the scheme "ftp"'],
  [["--listen-peer-urls=http://x"], "names no port"],
  [["--listen-peer-urls=nonsense"], "is no URL"],
  [["--listen-peer-urls=http://h:1/path"], "has a path"],
  [["--election-timeout=400"], "must be at least 5 times --heartbeat-interval"],
  [["--snapshot-count=ten"], '--snapshot-count is "ten": it must be a whole number'],
  [["--watch-progress-notify-interval=5"], "a duration such as"],
  [["--initial-cluster=b=http://localhost:2380"], "doesn't name this member"],
  [["--initial-cluster=default=http://localhost:9"], "make them equal"],
  [["--log-level=loud"], "must be one of debug, info, warn, error"],
  [["--strict-reconfig-check=perhaps"], "must be true or false"],
  [["--listen-client-urls=http://localhost:1"], "--advertise-client-urls is required"],
  [["--config-file=/does/not/exist"], "can't be read"],
  [["--auto-compaction-retention=soon"], "a number of hours or a duration"],
  [["--auto-compaction-mode=revision", "--auto-compaction-retention=1h"], "number of revisions"],
  [["--auto-compaction-mode=size"], "must be one of periodic, revision"],
  [["--feature-gates=Frob=true"], '--feature-gates: "Frob" is no feature gate'],
  [["--feature-gates=CompactHashCheck"], "must be CompactHashCheck=true or"],
])("%j is refused with a text that names the flag", (args, text) => {
  expect(() => configOf(args)).toThrow(text);
});

test("etcd's flags for what is not there are taken as long as they ask for nothing", () => {
  const asked = ["--host-whitelist=*", "--socket-reuse-port=false", "--discovery-srv="];
  expect(configOf(asked).warnings).toEqual([]);
  const { warnings } = configOf([
    "--auth-token",
    "simple",
    "--max-snapshots=10",
    "--enable-pprof",
    "--name=x",
  ]);
  expect(warnings).toEqual([
    "--auth-token has no effect in quorate",
    "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
    "--enable-pprof has no effect in quorate",
  ]);
});

test("the environment serves each flag; both at once are refused; unknown ones are a warning", () => {
  expect(configOf([], { ETCD_NAME: "e" }).name).toBe("e");
  expect(() => configOf(["--name=f"], { ETCD_NAME: "e" })).toThrow("--name and ETCD_NAME");
  expect(configOf([], { ETCD_FROB: "1" }).warnings).toEqual([
    "unrecognized environment variable ETCD_FROB",
  ]);
});

test("what a YAML file has wrong is told in one line, what is odd in it as a warning", () => {
  const folder = makeTempDir("config");
  const path = join(folder, "quorate.yaml");
  try {
    writeFileSync(path, "name: a\n{");
    expect(() => configOf([`--config-file=${path}`])).toThrow(
      /can't be read: [^\n]* at line 2, column \d+$/,
    );
    writeFileSync(path, "name: !odd a\n");
    const { name, warnings } = configOf([`--config-file=${path}`]);
    expect(name).toBe("a");
    expect(warnings).toEqual([expect.stringMatching(/quorate\.yaml: [^\n]*!odd[^\n]*$/)]);
  } finally {
    removeTempDir(folder);
  }
});

test("a config file replaces flags and environment; its durations may be nanoseconds", () => {
  const folder = makeTempDir("config");
  try {
    const path = join(folder, "c.yaml");
    writeFileSync(path, "name: filed\nwatch-progress-notify-interval: 5000000000\n");
    const config = configOf([`--config-file=${path}`, "--name=flag"], { ETCD_NAME: "env" });
    expect(config).toMatchObject({ name: "filed", progressNotifyMilliseconds: 5000 });
    writeFileSync(
      path,
      [
        "data-dir:",
        "discovery:",
        "discovery-fallback: 'proxy'",
        "discovery-srv:",
        "proxy: 'off'",
        "enable-pprof: true",
        "log-outputs: [stderr]",
        "cipher-suites: [",
        "  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,",
        "  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "]",
      ].join("\n"),
    );
    const sample = configOf([`--config-file=${path}`]);
    expect(sample.shown["cipher-suites"]).toMatch(/^TLS_\w+_SHA256,TLS_\w+_SHA384$/);
    expect(sample.warnings.filter((each) => each.includes("has no effect")).length).toBe(3);
    writeFileSync(path, "discovery-srv: example.com\n");
    expect(() => configOf([`--config-file=${path}`])).toThrow("--discovery-srv is a flag of etcd");
    writeFileSync(path, "name: {a: 1}\n");
    expect(() => configOf([`--config-file=${path}`])).toThrow("must be a plain value");
    writeFileSync(path, "nonsense: 1\n");
    expect(() => configOf([`--config-file=${path}`])).toThrow("unknown flag --nonsense");
    writeFileSync(path, "- a\n- b\n");
    expect(() => configOf([`--config-file=${path}`])).toThrow("holds no map");
  } finally {
    removeTempDir(folder);
  }
});

test("durations are Go's", () => {
  expect(parseDuration("1m30s")).toBe(90_000);
  expect(parseDuration("1.5h")).toBe(5_400_000);
  expect(parseDuration("1\u00b5s")).toBe(0.001);
  expect(parseDuration("0")).toBe(0);
  for (const bad of ["", "5", "s", "1x", "1s2"]) expect(parseDuration(bad)).toBeUndefined();
});

test("bootstrap ids are those that etcd computes for the same cluster", () => {
  // A default etcd (one member "default", token "etcd-cluster") calls itself 8e9e05c52164694d in
  // cdf818194e3a8c32.
  const identity = bootstrapIdentity({
    name: "default",
    token: "etcd-cluster",
    initialCluster: new Map([["default", ["http://localhost:2380"]]]),
  });
  expect(identity.memberId.toString(16)).toBe("8e9e05c52164694d");
  expect(identity.clusterId.toString(16)).toBe("cdf818194e3a8c32");
});

test("secrets come by the environment alone and don't show in the log's configuration", () => {
  const config = configOf([], { QUORATE_SECRET: "s1", QUORATE_PEER_SECRET: "s2" });
  expect(config).toMatchObject({ linkSecret: "s1", peerSecret: "s2" });
  expect(JSON.stringify(config.shown)).not.toMatch(/s1|s2/);
  expect(configOf([]).linkSecret).toBeUndefined();
});

test("the time for an orderly stop comes by the environment, as a whole number of milliseconds", () => {
  expect(configOf([]).stopMilliseconds).toBe(1400);
  expect(configOf([], { QUORATE_STOP_MILLISECONDS: "60000" }).stopMilliseconds).toBe(60_000);
  for (const text of ["0", "-1", "1.5", "x", "1e3"]) {
    const wrong = () => configOf([], { QUORATE_STOP_MILLISECONDS: text });
    expect(wrong).toThrow(`QUORATE_STOP_MILLISECONDS is "${text}"`);
  }
});

test("auto-compaction: bare numbers are hours, or revisions; 0 is off", () => {
  const ruleOf = (...args: string[]) => configOf(args).upkeep.autoCompaction;
  expect(ruleOf()).toEqual({ mode: "off" });
  expect(ruleOf("--auto-compaction-retention=2")).toEqual({
    mode: "periodic",
    milliseconds: 7_200_000,
  });
  expect(ruleOf("--auto-compaction-retention=90s")).toMatchObject({ milliseconds: 90_000 });
  expect(ruleOf("--auto-compaction-retention=0s")).toEqual({ mode: "off" });
  const revision = ruleOf("--auto-compaction-mode=revision", "--auto-compaction-retention=1000");
  expect(revision).toEqual({ mode: "revision", keep: 1000 });
});

test("feature gates switch the corruption checks; those without effect are a warning", () => {
  expect(configOf([])).toMatchObject({ initialCorruptCheck: false });
  expect(configOf([]).upkeep.compactHashCheckMilliseconds).toBe(0);
  const config = configOf([
    "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true,LeaseCheckpoint=true",
    "--corrupt-check-time=4h",
  ]);
  expect(config.initialCorruptCheck).toBe(true);
  expect(config.upkeep).toMatchObject({
    corruptCheckMilliseconds: 14_400_000,
    compactHashCheckMilliseconds: 60_000,
  });
  expect(config.warnings).toEqual(["--feature-gates: LeaseCheckpoint has no effect in quorate"]);
});
