/**
 * Starts, stops and signals of real members: what the log holds, how soon a leader that is told to
 * stop is replaced, and the executable under an older Node.
 */
import { execFileSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { Maintenance } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { textOf, utf8 } from "../../shared/base/bytes.ts";
import { Child } from "../support/child.ts";
import { startQuorate, type Cluster, type Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { base64, postFetch } from "../support/json-api.ts";
import { errorLines, logLines } from "../support/process-log.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

/**
 * So long that no machine is too slow for an orderly stop. One that something holds up is forced
 * then, and says so.
 */
const PATIENCE = { QUORATE_STOP_MILLISECONDS: "60000" };
const FORCED = "the stop took too long and was forced";

let cluster: Cluster | undefined;

afterEach(async () => {
  for (const member of cluster?.members ?? []) member.child.kill("SIGCONT");
  await cluster?.stop();
  cluster = undefined;
});

async function start(options: Parameters<typeof startQuorate>[0]): Promise<Cluster> {
  cluster = await startQuorate({ env: PATIENCE, ...options });
  return cluster;
}

/** Runs a call with a client of its own. */
async function withClient<Result>(
  member: Member,
  call: (client: EtcdClient) => Promise<Result>,
): Promise<Result> {
  const client = new EtcdClient(new GrpcChannel(member.address));
  try {
    return await call(client);
  } finally {
    client.close();
  }
}

/** Who leads, as `member` knows it; 0n: nobody. */
async function leaderAt(member: Member): Promise<{ leader: bigint; own: bigint }> {
  const { leader, header } = await withClient(member, (client) => client.status());
  return { leader, own: header?.memberId ?? 0n };
}

async function leaderOf(members: readonly Member[]): Promise<Member> {
  let found: Member | undefined;
  const look = async (): Promise<Member | undefined> => {
    for (const member of members) {
      const { leader, own } = await leaderAt(member);
      if (leader === own) found = member;
    }
    return found;
  };
  await expect.poll(look).toBeDefined();
  return found as Member;
}

/** Tells it to stop; it must end in order. */
async function terminate(member: Member): Promise<void> {
  member.child.kill("SIGTERM");
  await member.child.ended();
  expect(member.child.exitCode).toBe(0);
  expect(member.child.log).not.toContain(FORCED);
}

const put = (member: Member, key: string) =>
  withClient(member, (client) =>
    client.put({ key: utf8(key), value: utf8(key) }, { timeoutMilliseconds: 60_000 }),
  );

test.each([1, 3])(
  "start and stop write JSON lines alone, none of level error (%i members, debug)",
  async (members) => {
    const { members: all } = await start({ members, flags: ["--log-level=debug"] });
    for (const member of all) await put(member, member.name);
    for (const member of all) await terminate(member);
    for (const member of all) {
      const texts = logLines(member.child.log).map(({ msg }) => msg);
      expect(texts).toContain("serving client traffic");
      expect(texts).toContain("ready to serve client requests");
      expect(errorLines(member.child.log)).toEqual([]);
      const [first] = logLines(member.child.log);
      expect(first).toMatchObject({ "snapshot-catchup-entries": 5000, name: member.name });
      expect(first?.ts).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    }
  },
);

test("open watches and connections don't hold up a stop", async () => {
  const { members } = await start({});
  const member = members[0] as Member;
  const clients = Array.from({ length: 5 }, () => new EtcdClient(new GrpcChannel(member.address)));
  try {
    for (const client of clients) await client.watch().created({ key: utf8("x") });
    const idle = await fetch(`http://${member.address}/v3/watch`, {
      method: "POST",
      body: JSON.stringify({ create_request: { key: base64("x") } }),
    });
    expect(idle.status).toBe(200);
    await terminate(member);
  } finally {
    for (const client of clients) client.close();
  }
});

test("a leader that is told to stop hands over first (3 members)", async () => {
  // By themselves the others would elect one after 5 s at the earliest; it waits half of that for them.
  const { members } = await start({ members: 3, flags: ["--election-timeout=5000"] });
  for (let round = 0; round < 3; round += 1) {
    const leader = await leaderOf(members);
    const { own: former } = await leaderAt(leader);
    const [witness, other] = members.filter((member) => member !== leader) as [Member, Member];
    const stopping = terminate(leader);
    // Under way while the lead is handed over: the next leader gets it, nobody has to try again.
    const meanwhile = put(other, `meanwhile ${round}`);
    await stopping;
    expect(leader.child.log).toContain("handed the lead over");
    await expect
      .poll(async () => [0n, former].includes((await leaderAt(witness)).leader))
      .toBe(false);
    await meanwhile;
    await put(other, `round ${round}`);
    await leader.start();
  }
  for (const member of members) expect(errorLines(member.child.log)).toEqual([]);
});

/** A call of a few seconds; undefined when it fails. */
const attempt = <Result>(member: Member, call: (client: EtcdClient) => Promise<Result>) =>
  withClient(member, call).catch(() => undefined);

const ATTEMPT = { timeoutMilliseconds: 3000 };

test("a paused leader is replaced, and answers nothing stale when it goes on (3 members)", async () => {
  const { members } = await start({ members: 3 });
  const paused = await leaderOf(members);
  const rest = members.filter((member) => member !== paused);
  paused.child.kill("SIGSTOP");
  const key = utf8("key");
  const write = (member: Member, value: string) =>
    expect
      .poll(() => attempt(member, (client) => client.put({ key, value: utf8(value) }, ATTEMPT)), {
        timeout: 60_000,
      })
      .toBeDefined();
  await write(rest[0] as Member, "while paused");
  paused.child.kill("SIGCONT");
  // It still takes itself for the leader: what it answers must be the write all the same.
  const read = () => attempt(paused, (client) => client.range({ key }, ATTEMPT));
  let answer = await read();
  for (let count = 0; answer === undefined && count < 60; count += 1) answer = await read();
  expect(answer?.kvs.map(({ value }) => textOf(value))).toEqual(["while paused"]);
  await write(paused, "afterwards");
  expect(errorLines(paused.child.log)).toEqual([]);
});

test("a single member goes on after a pause", async () => {
  const { members } = await start({});
  const member = members[0] as Member;
  await put(member, "before");
  member.child.kill("SIGSTOP");
  const during = put(member, "during");
  await new Promise((resolve) => setTimeout(resolve, 2000));
  member.child.kill("SIGCONT");
  await during;
  const { count } = await withClient(member, (client) =>
    client.range({ key: utf8("a"), rangeEnd: utf8("z") }),
  );
  expect(count).toBe(2n);
});

test("the hash of the whole state is the same after a restart", async () => {
  const { members } = await start({});
  const member = members[0] as Member;
  await put(member, "before");
  const hashes: number[] = [];
  const hash = async () => {
    const answer = await withClient(member, ({ channel }) =>
      channel.unary(Maintenance.method.hash, {}),
    );
    hashes.push(answer.hash);
  };
  // What the first start tells the cluster of itself may come behind the first hash.
  for (let count = 0; count < 2; count += 1) {
    await hash();
    await member.stop();
    await member.start();
  }
  await hash();
  expect(hashes[2]).toBe(hashes[1]);
  await put(member, "afterwards");
  await hash();
  expect(hashes[3]).not.toBe(hashes[2]);
});

/** A Node on PATH that is too old to run the peer itself; undefined when there is none. */
function findOldNode(): string | undefined {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(folder, "node");
    try {
      accessSync(path, constants.X_OK);
      const version = execFileSync(path, ["--version"], { encoding: "utf8" });
      const major = Number(/^v(\d+)/.exec(version)?.[1]);
      if (major >= 20 && major < 24) return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

const oldNode = findOldNode();
if (oldNode === undefined) console.warn("skipped: no Node between 20 and 23 is installed");

const EXECUTABLE = fileURLToPath(new URL("../../node-runner/bin/quorate.js", import.meta.url));

test("the executable is the peer's own process, with the peer's flags (this Node)", async () => {
  const program = { label: "quorate", command: process.execPath, args: [EXECUTABLE] };
  const member = (await start({ program })).members[0] as Member;
  const [first] = logLines(member.child.log);
  expect(first?.["pid"]).toBe(member.child.pid);
  if (process.platform === "linux") {
    const commandLine = readFileSync(`/proc/${member.child.pid}/cmdline`, "utf8");
    expect(commandLine).toContain("--max-semi-space-size");
  }
  await terminate(member);
});

describe.skipIf(oldNode === undefined)("the executable under an older Node", () => {
  const program = { label: "quorate", command: oldNode ?? "", args: [EXECUTABLE] };

  /** The process id of the peer itself, as its log says. */
  function peerPid(member: Member): number {
    const [first] = logLines(member.child.log);
    return first?.["pid"] as number;
  }

  function isRunning(pid: number): boolean {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  }

  test("runs in the bundled Node, passes SIGTERM on, and ends with its exit code", async () => {
    const member = (await start({ program })).members[0] as Member;
    expect(peerPid(member)).not.toBe(member.child.pid);
    const body = JSON.stringify({ key: base64("k") });
    expect((await postFetch(member.address, "/v3/kv/put", body)).status).toBe(200);
    await terminate(member);
    expect(isRunning(peerPid(member))).toBe(false);
    expect(errorLines(member.child.log)).toEqual([]);
  });

  test("the peer ends when the executable is killed, and starts again on its data", async () => {
    const member = (await start({ program })).members[0] as Member;
    await put(member, "k");
    const pid = peerPid(member);
    await member.kill();
    await expect.poll(() => isRunning(pid)).toBe(false);
    await member.start();
    const { count } = await withClient(member, (client) => client.range({ key: utf8("k") }));
    expect(count).toBe(1n);
  });

  test("a wrong flag ends with 1, --version with 0", async () => {
    for (const [argument, code, text] of [
      ["--frob", 1, "unknown flag --frob"],
      ["--version", 0, "etcd Version: 3.7.1"],
    ] as const) {
      const child = await Child.start({ command: program.command, args: [EXECUTABLE, argument] });
      await child.ended();
      expect(child.exitCode).toBe(code);
      await expect.poll(() => child.log).toContain(text);
    }
  });
});
