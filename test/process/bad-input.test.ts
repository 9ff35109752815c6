/**
 * Real processes that get wrong configuration, wrong or damaged data, or neighbours that don't
 * belong to them: each ends quickly with one line that says what is wrong, or lives on.
 */
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Child } from "../support/child.ts";
import { MAIN, startQuorate, type Cluster, type Member } from "../support/cluster.ts";
import { base64, postFetch } from "../support/json-api.ts";
import { freePorts } from "../support/ports.ts";
import { errorLines, logLines } from "../support/process-log.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";

/** Far above what a refusal takes on a busy machine, far below a hang. */
const REFUSAL_MILLISECONDS = 90_000;

let directory: string;
let children: Child[];

beforeEach(() => {
  directory = makeTempDir("bad-input");
  children = [];
});

afterEach(async () => {
  await Promise.all(children.map((child) => child.stop()));
  removeTempDir(directory);
});

const PROGRAM = { command: process.execPath, args: [MAIN] };

async function spawn(args: readonly string[], program = PROGRAM): Promise<Child> {
  const { command } = program;
  const child = await Child.start({ command, args: [...program.args, ...args], cwd: directory });
  children.push(child);
  return child;
}

/** The error line of a start that must fail: exit code 1, one line of level error, no other text. */
async function refusal(args: readonly string[], program = PROGRAM): Promise<string> {
  const child = await spawn(args, program);
  const timer = setTimeout(() => child.kill("SIGKILL"), REFUSAL_MILLISECONDS);
  await child.ended();
  clearTimeout(timer);
  expect([child.exitCode, child.log]).toEqual([1, child.log]);
  const errors = errorLines(child.log);
  expect(errors.map(({ msg }) => msg)).toHaveLength(1);
  return errors[0]?.error ?? "";
}

/** The flags of a single member with these URLs. */
function memberFlags(urls: { client: string; peer: string; dataDir?: string }): string[] {
  return [
    `--data-dir=${urls.dataDir ?? join(directory, "data")}`,
    `--listen-client-urls=${urls.client}`,
    `--advertise-client-urls=${urls.client}`,
    `--listen-peer-urls=${urls.peer}`,
    `--initial-advertise-peer-urls=${urls.peer}`,
    `--initial-cluster=default=${urls.peer}`,
  ];
}

async function freeUrls(): Promise<{ client: string; peer: string }> {
  const [client, peer] = await freePorts(2);
  return { client: `http://127.0.0.1:${client}`, peer: `http://127.0.0.1:${peer}` };
}

describe("a wrong flag is named", () => {
  test.each([
    [["--frob"], "unknown flag --frob"],
    [["--frob=1", "--name=x"], "unknown flag --frob"],
    [["--name"], "--name needs a value"],
    [["stray"], '"stray" is no flag'],
    [
      ["--discovery-srv=x"],
      "--discovery-srv is a flag of etcd that this version of quorate doesn't have",
    ],
    [["--heartbeat-interval=x"], '--heartbeat-interval is "x"'],
    [["--log-level=loud"], "--log-level"],
    [["--enable-grpc-gateway=perhaps"], "--enable-grpc-gateway"],
    [["--warning-unary-request-duration=5"], "--warning-unary-request-duration"],
    [["--election-timeout=100"], "--election-timeout"],
    [["--config-file=absent.yaml"], "--config-file absent.yaml can't be read"],
    [["--initial-cluster=a=http://127.0.0.1:1"], "--initial-cluster doesn't name this member"],
    [["--initial-cluster=nothing"], "--initial-cluster"],
    [["--listen-client-urls=http://127.0.0.1:1"], "--advertise-client-urls is required"],
  ])("%j", async (args, text) => {
    expect(await refusal(args)).toContain(text);
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each(["127.0.0.1:1", "ftp://127.0.0.1:1", "http://127.0.0.1", "http://127.0.0.1:99999"])(
    "--listen-client-urls=%s",
    async (url) => {
      const text = await refusal(memberFlags({ client: url, peer: "http://127.0.0.1:1" }));
      expect(text).toContain("--listen-client-urls");
      expect(text).toContain(url);
    },
  );
});

test("--version and --help print to standard output and end with 0", async () => {
  const version = await spawn(["--version"]);
  await version.ended();
  expect(version.exitCode).toBe(0);
  expect(version.log).toMatch(/^etcd Version: 3\.7\.1\nQuorate Version: \d+\.\d+\.\d+.*\n$/);
  const help = await spawn(["--help"]);
  await help.ended();
  expect(help.exitCode).toBe(0);
  for (const flag of ["--name", "--data-dir", "--listen-client-urls", "--initial-cluster"]) {
    expect(help.log).toContain(flag);
  }
});

test.each(["client", "peer"] as const)("a busy %s port is named", async (which) => {
  const urls = await freeUrls();
  const holder = createServer().listen(Number(new URL(urls[which]).port), "127.0.0.1");
  await once(holder, "listening");
  try {
    const text = await refusal(memberFlags(urls));
    expect(text).toContain(`can't listen on ${urls[which]}`);
    expect(text).toContain("EADDRINUSE");
  } finally {
    holder.close();
  }
});

test("an address of another machine and a folder that can't be made are named", async () => {
  const urls = await freeUrls();
  const elsewhere = await refusal(memberFlags({ ...urls, client: "http://203.0.113.1:2379" }));
  expect(elsewhere).toContain("can't listen on http://203.0.113.1:2379");
  writeFileSync(join(directory, "file"), "");
  const dataDir = join(directory, "file", "data");
  expect(await refusal(memberFlags({ ...urls, dataDir }))).toContain(dataDir);
});

test("a disk without room for the log is named; with room it starts", async () => {
  const urls = await freeUrls();
  // Files may have 10 MiB (in blocks of 512 bytes), the log's first segment wants 64.
  const script = 'ulimit -f 20000; exec "$0" "$@"';
  const text = await refusal(memberFlags(urls), {
    command: "/bin/sh",
    args: ["-c", script, process.execPath, MAIN],
  });
  expect(text).toContain(`the write-ahead log in ${join(directory, "data")}`);
  expect(text).toContain("EFBIG");
  const child = await spawn(memberFlags(urls));
  await child.logged("ready to serve client requests");
});

describe("data directories", () => {
  let cluster: Cluster;
  let member: Member;

  beforeEach(async () => {
    cluster = await startQuorate();
    member = cluster.members[0] as Member;
    for (let count = 0; count < 20; count += 1) await put(`k${count}`);
  });

  afterEach(() => cluster.stop());

  async function put(key: string): Promise<void> {
    const body = JSON.stringify({ key: base64(key), value: base64("v".repeat(100)) });
    expect(await postFetch(member.address, "/v3/kv/put", body)).toMatchObject({ status: 200 });
  }

  const count = async (): Promise<unknown> => {
    const body = JSON.stringify({ key: base64("k"), range_end: base64("l"), count_only: true });
    return ((await postFetch(member.address, "/v3/kv/range", body)).body as { count: string })
      .count;
  };

  /** The only segment of the member's log. */
  function segment(): string {
    const wal = join(member.dataDir, "member", "wal");
    const names = readdirSync(wal).filter((name) => /^[0-9a-f]+-[0-9a-f]+\.wal$/.test(name));
    expect(names).toHaveLength(1);
    return join(wal, names[0] as string);
  }

  /** Where the records of the log begin. */
  function records(path: string): number[] {
    const bytes = readFileSync(path);
    const positions: number[] = [];
    for (let at = bytes.indexOf("QREC"); at >= 0; at = bytes.indexOf("QREC", at + 1)) {
      positions.push(at);
    }
    return positions;
  }

  test("of another cluster", async () => {
    await member.stop();
    const { dataDir } = member;
    const other = await refusal(memberFlags({ ...(await freeUrls()), dataDir }));
    expect(other).toMatch(new RegExp(`${dataDir} belongs to cluster [0-9a-f]+, not to`));
    await member.start();
    expect(await count()).toBe("20");
  });

  test("in use by another process, which goes on", async () => {
    const { dataDir } = member;
    const flags = member.flags.map((flag) =>
      flag.startsWith("--listen-client-urls") ? "--listen-client-urls=http://127.0.0.1:0" : flag,
    );
    const text = await refusal(flags);
    expect(text).toContain(`${dataDir}/member is in use by process ${member.child.pid}`);
    expect(await count()).toBe("20");
  });

  test("bytes flipped in the middle of the log: no start, file and offset are named", async () => {
    await member.stop();
    const path = segment();
    const positions = records(path);
    const middle = positions[Math.floor(positions.length / 2)] as number;
    const bytes = readFileSync(path);
    bytes.writeUInt8(bytes.readUInt8(middle + 30) ^ 0xff, middle + 30);
    writeFileSync(path, bytes);
    const text = await refusal(member.flags);
    expect(text).toContain("write-ahead log damaged");
    expect(text).toContain(`file ${path}, offset ${middle}`);
  });

  test("a record torn behind the last one: it starts, with everything", async () => {
    await member.kill();
    const path = segment();
    const bytes = readFileSync(path);
    const last = records(path).at(-1) as number;
    const length = bytes.readUInt32LE(last + 4);
    const end = Math.ceil((last + 24 + length) / 8) * 8;
    bytes.copy(bytes, end, last, last + 40);
    bytes.writeUInt32LE(bytes.readUInt32LE(last + 8), end + 12);
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(last + 16) + 1n, end + 16);
    writeFileSync(path, bytes);
    await member.start();
    expect(await count()).toBe("20");
  });

  test("a log that was cut off below what was committed: no start", async () => {
    await member.stop();
    const path = segment();
    const early = records(path)[2] as number;
    const { size } = statSync(path);
    truncateSync(path, early);
    truncateSync(path, size);
    expect(await refusal(member.flags)).toMatch(/gone from the log|damaged/);
  });

  test("a damaged identity: no start", async () => {
    await member.stop();
    writeFileSync(join(member.dataDir, "member", "identity.json"), "{}");
    expect(await refusal(member.flags)).toContain("identity.json is damaged");
  });

  test("a damaged database: no start, the file is named", async () => {
    await member.stop();
    const db = join(member.dataDir, "member", "db");
    const file = readdirSync(db, { recursive: true, encoding: "utf8" })
      .map((name) => join(db, name))
      .find((path) => path.endsWith("data.mdb") || path.endsWith(".mdb")) as string;
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.subarray(0, 5000));
    expect(await refusal(member.flags)).toContain(`${file} is damaged`);
    writeFileSync(file, Buffer.alloc(bytes.length, "x"));
    expect(await refusal(member.flags)).toContain(`${file} is damaged`);
  });
});

test("members of clusters with other tokens refuse each other, and say so", async () => {
  const [c1, p1, c2, p2] = (await freePorts(4)).map((port) => `http://127.0.0.1:${port}`);
  const flags = (name: string, urls: { client: string; peer: string }) => [
    ...memberFlags({ ...urls, dataDir: join(directory, name) }).filter(
      (flag) => !flag.startsWith("--initial-cluster="),
    ),
    `--name=${name}`,
    `--initial-cluster=one=${p1},two=${p2}`,
    `--initial-cluster-token=token-${name}`,
  ];
  const one = await spawn(flags("one", { client: c1 as string, peer: p1 as string }));
  const two = await spawn(flags("two", { client: c2 as string, peer: p2 as string }));
  for (const child of [one, two]) {
    await child.logged("refused a peer: cluster ID mismatch");
    expect(child.log).not.toContain("ready to serve client requests");
    expect(child.running).toBe(true);
  }
  const refused = logLines(one.log).find(({ msg }) => msg.startsWith("refused a peer"));
  expect(refused).toMatchObject({ level: "warn", cluster: expect.stringMatching(/^[0-9a-f]+$/) });
});
