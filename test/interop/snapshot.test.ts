/**
 * Backups: what `etcdctl` and `quorate snapshot` save, restored to new clusters. The referee of an
 * import is the etcd that the snapshot was taken from: asked the same, both answer alike.
 */
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runCommand } from "../../node-runner/commands/commands.ts";
import { KV, Maintenance } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { Prng } from "../../shared/base/prng.ts";
import { utf8 } from "../../shared/base/bytes.ts";
import { Cluster, MAIN, startEtcd, startQuorate, type Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { describeWithTools } from "../support/tools.ts";

const execute = promisify(execFile);
const QUORATE = { label: "quorate", command: process.execPath, args: [MAIN] };
/** What `restore` takes of a member's flags. */
const RESTORE_FLAGS =
  /^--(name|data-dir|initial-cluster|initial-cluster-token|initial-advertise-peer-urls)=/;

let directory: string;
let cleanups: (() => Promise<unknown> | void)[] = [];

beforeEach(() => {
  directory = makeTempDir("backup");
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  cleanups = [];
  removeTempDir(directory);
});

/** Runs a subcommand in this process. */
async function outcomeOf(args: readonly string[]) {
  let [stdout, stderr] = ["", ""];
  const code = await runCommand(args, {
    out: (text) => (stdout += text),
    err: (text) => (stderr += text),
  });
  return { code, stdout, stderr };
}

async function quorate(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await outcomeOf(args);
  expect(code, stderr).toBe(0);
  return stdout;
}

/** A command that must be refused: its exit code and what it says. */
async function refused(...args: string[]): Promise<{ code: unknown; stderr: string }> {
  const outcome = await outcomeOf(args);
  expect(outcome.code, args.join(" ")).not.toBe(0);
  return outcome;
}

function owned(cluster: Cluster): Cluster {
  cleanups.push(() => cluster.stop());
  return cluster;
}

function clientOf(member: { address: string } | undefined): EtcdClient {
  const client = new EtcdClient(new GrpcChannel(member?.address ?? ""));
  cleanups.push(() => client.close());
  return client;
}

function restoreMember(file: string, member: Member, more: readonly string[] = []) {
  const flags = member.flags.filter((flag) => RESTORE_FLAGS.test(flag));
  return quorate("snapshot", "restore", file, ...flags, ...more);
}

/** A cluster of restored members, started. */
async function restored(file: string, members = 1, more: readonly string[] = []): Promise<Cluster> {
  const cluster = owned(new Cluster(QUORATE, {}));
  await cluster.found(members);
  for (const member of cluster.members) await restoreMember(file, member, more);
  await Promise.all(cluster.members.map((member) => member.start()));
  return cluster;
}

const everything = { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) };

/** Some hundred changes of few keys, transactions and leases among them; returns the last revision. */
async function makeHistory(client: EtcdClient, prng: Prng): Promise<bigint> {
  const leases = [11n, 12n, -5n & 0x7fffffffffffffffn];
  for (const ID of leases) await client.leaseGrant({ ID, TTL: 3600n + (ID % 100n) });
  const key = () => utf8(`k${prng.below(25)}`.padEnd(prng.pick([3, 3, 40, 700]), "/"));
  const value = () => new Uint8Array(prng.pick([0, 5, 300, 5000])).fill(prng.below(256));
  const put = () => ({
    key: key(),
    value: value(),
    lease: prng.chance(0.2) ? prng.pick(leases) : 0n,
  });
  for (let step = 0; step < 150; step += 1) {
    if (prng.chance(0.15)) await client.deleteRange({ key: key() });
    else if (prng.chance(0.1)) {
      const keys = [`t${step}`, `u${step}`].map((name) => utf8(name));
      const success = keys.map((each) => ({
        request: { case: "requestPut" as const, value: { key: each, value: value() } },
      }));
      await client.txn({ success });
    } else await client.put(put());
  }
  await client.leaseRevoke(12n);
  const { header } = await client.put({ key: utf8("last"), value: utf8("1") });
  return header?.revision ?? 0n;
}

/** All that a client can see of the key-values. */
async function viewOf(client: EtcdClient, from: bigint, to: bigint) {
  const view: unknown[] = [];
  for (let revision = from; revision <= to; revision += 11n) {
    const { kvs, count } = await client.range({ ...everything, revision });
    view.push([revision, count, kvs]);
  }
  const { hash, compactRevision } = await client.channel.unary(Maintenance.method.hashKV, {});
  return { view, hash, compactRevision };
}

async function eventsSince(client: EtcdClient, startRevision: bigint, to: bigint) {
  const stream = client.watch();
  cleanups.push(() => stream.cancel());
  await stream.created({ ...everything, startRevision });
  const events: unknown[] = [];
  for (;;) {
    const response = await stream.next();
    for (const { type, kv } of response.events) events.push([type, kv]);
    if (response.events.at(-1)?.kv?.modRevision === to) return events;
  }
}

describeWithTools(["etcd", "etcdctl"], "import of etcd's snapshots", () => {
  async function saveByEtcdctl(cluster: Cluster): Promise<string> {
    const file = join(directory, "etcd.db");
    const args = [`--endpoints=${cluster.addresses[0]}`, "snapshot", "save", file];
    await execute("etcdctl", args, { env: { ...process.env, ETCDCTL_API: "3" } });
    return file;
  }

  test("keys, revisions, history, leases and hash are those of the etcd it came from", async () => {
    const seed = Number(process.env["SEED"] ?? Date.now() >>> 0);
    console.log(
      `seed ${seed}; replay: SEED=${seed} npx vitest run --project interop -t "hash are"`,
    );
    const etcd = owned(await startEtcd());
    const origin = clientOf(etcd.members[0]);
    const last = await makeHistory(origin, new Prng(seed));
    const compacted = last / 3n;
    await origin.compact({ revision: compacted, physical: true });
    const file = await saveByEtcdctl(etcd);

    const status = JSON.parse(
      await quorate("snapshot", "status", file, "--write-out=json"),
    ) as object;
    const own = await execute("etcdctl", ["snapshot", "status", file, "-w", "json"], {
      env: { ...process.env, ETCDCTL_API: "3" },
    });
    expect(status).toMatchObject(JSON.parse(own.stdout) as object);

    const cluster = await restored(file);
    const client = clientOf(cluster.members[0]);
    expect((await client.range(everything)).header?.revision).toBe(last);
    const expected = await viewOf(origin, compacted + 1n, last);
    const imported = await viewOf(client, compacted + 1n, last);
    expect(imported.view).toEqual(expected.view);
    expect([imported.hash, imported.compactRevision]).toEqual([
      expected.hash,
      expected.compactRevision,
    ]);
    const old = { ...everything, revision: compacted - 1n };
    await expect(client.range(old)).rejects.toThrow("required revision has been compacted");
    const events = await eventsSince(origin, compacted + 1n, last);
    expect(await eventsSince(client, compacted + 1n, last)).toEqual(events);

    const leases = async (each: EtcdClient) =>
      (await each.leaseLeases()).leases.map(({ ID }) => ID).toSorted((a, b) => Number(a - b));
    expect(await leases(client)).toEqual(await leases(origin));
    for (const ID of await leases(origin)) {
      const mine = await client.leaseTimeToLive({ ID, keys: true });
      const theirs = await origin.leaseTimeToLive({ ID, keys: true });
      expect(mine.grantedTTL).toBe(theirs.grantedTTL);
      const sorted = (keys: readonly Uint8Array[]) =>
        keys.map((key) => Buffer.from(key).toString()).toSorted();
      expect(sorted(mine.keys)).toEqual(sorted(theirs.keys));
    }
    const next = await client.put({ key: utf8("new"), value: utf8("1") });
    expect(next.header?.revision).toBe(last + 1n);
    await client.leaseRevoke(11n);
    const attached = await client.range(everything);
    expect(attached.kvs.some((kv) => kv.lease === 11n)).toBe(false);
  });

  test("users and roles are named as not taken over; a copy of the database needs --skip-hash-check", async () => {
    const etcd = owned(await startEtcd());
    const env = { ...process.env, ETCDCTL_API: "3" };
    const ctl = (...args: string[]) =>
      execute("etcdctl", [`--endpoints=${etcd.addresses[0]}`, ...args], { env });
    await ctl("put", "a", "1");
    await ctl("role", "add", "reader");
    await ctl("user", "add", "ann:secret");
    const file = await saveByEtcdctl(etcd);
    const out = await quorate("snapshot", "restore", file, `--data-dir=${directory}/one`);
    expect(out).toContain("1 users and 1 roles are not taken over");
    await etcd.members[0]?.stop();
    const copy = join(etcd.members[0]?.dataDir ?? "", "member", "snap", "db");
    const args = ["snapshot", "restore", copy, `--data-dir=${directory}/two`];
    expect(await refused(...args)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("use --skip-hash-check") as string,
    });
    expect(await quorate(...args, "--skip-hash-check")).toContain("revision 2");
  });
});

describe("quorate snapshot", () => {
  async function saved(): Promise<{ file: string; client: EtcdClient; last: bigint }> {
    const cluster = owned(await startQuorate());
    const client = clientOf(cluster.members[0]);
    const last = await makeHistory(client, new Prng(7));
    const file = join(directory, "saved.snapshot");
    const out = await quorate("snapshot", "save", file, `--endpoints=${cluster.addresses[0]}`);
    expect(out).toContain(`Snapshot saved at ${file}`);
    return { file, client, last };
  }

  test("restored to three members: the same state on each, and one without its data gets it sent", async () => {
    const { file, client: origin, last } = await saved();
    const expected = await viewOf(origin, 2n, last);
    const cluster = owned(new Cluster(QUORATE, {}));
    await cluster.found(3);
    const [first, second, empty] = cluster.members as [Member, Member, Member];
    for (const member of [first, second]) await restoreMember(file, member);
    await Promise.all(cluster.members.map((member) => member.start()));
    for (const member of [first, second, empty]) {
      const client = clientOf(member);
      await client.range({ key: utf8("last") });
      expect(await viewOf(client, 2n, last)).toEqual(expected);
    }
    const list = await clientOf(first).memberList({ linearizable: true });
    expect(list.members.map(({ name }) => name).toSorted()).toEqual(["m1", "m2", "m3"]);
    expect((await clientOf(empty).put({ key: utf8("x") })).header?.revision).toBe(last + 1n);
  });

  test("--bump-revision with --mark-compacted: later revisions, and watchers of older ones are told", async () => {
    const { file, last } = await saved();
    const bump = 1_000_000n;
    const more = [`--bump-revision=${bump}`, "--mark-compacted"];
    const cluster = await restored(file, 1, more);
    const client = clientOf(cluster.members[0]);
    const now = await client.range(everything);
    expect(now.header?.revision).toBe(last + bump);
    expect(now.kvs.length).toBeGreaterThan(0);
    const stream = client.watch();
    cleanups.push(() => stream.cancel());
    stream.create({ ...everything, startRevision: last });
    const answers = [await stream.next(), await stream.next()];
    expect(answers.find(({ canceled }) => canceled)?.compactRevision).toBe(last + bump);
    const put = await client.channel.unary(KV.method.put, { key: utf8("new") });
    expect(put.header?.revision).toBe(last + bump + 1n);
  });

  test("status: simple, json and table say the same", async () => {
    const { file, last } = await saved();
    const json = JSON.parse(await quorate("snapshot", "status", file, "-w", "json")) as {
      hash: number;
      revision: number;
      totalKey: number;
    };
    expect(json.revision).toBe(Number(last));
    expect(json.totalKey).toBeGreaterThan(100);
    const { stdout: simple } = await execute(process.execPath, [MAIN, "snapshot", "status", file]);
    expect(simple).toContain(`${json.hash.toString(16)}, ${last}, ${json.totalKey}, `);
    const table = await quorate("snapshot", "status", file, "--write-out=table");
    expect(table.split("\n")[1]).toMatch(/^\| HASH +\| REVISION \| TOTAL KEYS \|/);
  });

  test("bad input is refused with its reason, and leaves nothing behind", async () => {
    const { file } = await saved();
    const bytes = readFileSync(file);
    const damaged = join(directory, "damaged");
    writeFileSync(damaged, bytes.with(9000, (bytes[9000] ?? 0) ^ 1));
    const cut = join(directory, "cut");
    writeFileSync(cut, bytes.subarray(0, bytes.length - 700));
    const dataDir = join(directory, "data");
    const restore = (...args: string[]) =>
      refused("snapshot", "restore", ...args, `--data-dir=${dataDir}`);
    const cases: [string[], number, string][] = [
      [[damaged], 1, `${damaged} is no usable snapshot: its SHA-256 differs`],
      [[damaged, "--skip-hash-check"], 1, "a chunk of a snapshot is damaged: its checksum differs"],
      [[cut], 1, "it is cut off, or a copy"],
      [[MAIN], 1, "it is neither a snapshot of quorate nor a database of etcd"],
      [[join(directory, "none")], 1, "it can't be opened"],
      [[], 2, "one file is needed"],
      [[file, "--frob"], 2, "--frob"],
      [[file, "--bump-revision=5"], 2, "--bump-revision needs --mark-compacted"],
      [[file, "--mark-compacted"], 2, "--mark-compacted needs --bump-revision"],
      [[file, "--bump-revision=x", "--mark-compacted"], 2, "must be a whole number"],
      [[file, "--initial-cluster=b=http://localhost:2380"], 2, "doesn't name this member"],
      [[file, "--initial-cluster=default=http://localhost:9"], 2, "make them equal"],
    ];
    for (const [args, code, text] of cases) {
      const outcome = await restore(...args);
      expect(outcome, args.join(" ")).toMatchObject({ code });
      expect(outcome.stderr).toContain(text);
    }
    await quorate("snapshot", "restore", file, `--data-dir=${dataDir}`);
    expect((await restore(file)).stderr).toContain(`${dataDir} is not empty`);
    const save = await refused("snapshot", "save", join(directory, "x"), "--endpoints=127.0.0.1:1");
    expect(save.stderr).toContain("http://127.0.0.1:1 can't be reached");
    const left = ["x", "x.part", "data.restoring"].map((name) => join(directory, name));
    for (const path of left) expect(() => readFileSync(path)).toThrow("ENOENT");
  });
});
