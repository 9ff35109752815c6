/**
 * Members come and go, in real processes: a cluster grows and shrinks under load, a removed member
 * ends by itself and for good, one that can't join says why, and the last of three goes on alone.
 */
import { afterEach, describe, expect, test } from "vitest";
import { runCommand } from "../../node-runner/commands/commands.ts";
import { errorText, RpcError } from "../../shared/api/errors.ts";
import { textOf, utf8 } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { RESUMED } from "../../shared/peer/consensus/snapshots.ts";
import {
  READY_TEXT,
  startQuorate,
  type Cluster,
  type ClusterOptions,
  type Member,
} from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";

/** So that a chunk of a snapshot holds two of them. */
const SNAPSHOT_VALUE_BYTES = 200 * 1024;
const CHUNK_BYTES = 2 * SNAPSHOT_VALUE_BYTES;
const SNAPSHOT_VALUES = 80;

const CATCH_UP_MILLISECONDS = 60_000;
const LONG = { timeout: 120_000 };

/** Changes wait for connections that have lasted 5 s, and for learners that have the log. */
const CHANGE_MILLISECONDS = 60_000;
const EARLY = [
  errorText("unhealthy"),
  errorText("memberNotEnoughStarted"),
  errorText("learnerNotReady"),
];
const REMOVED = "the member has been permanently removed from the cluster";

let cluster: Cluster;
const clients = new Map<Member, EtcdClient>();

afterEach(async () => {
  for (const client of clients.values()) client.close();
  clients.clear();
  await cluster.stop();
});

function clientOf(member: Member): EtcdClient {
  const known = clients.get(member);
  if (known !== undefined) return known;
  const client = new EtcdClient(new GrpcChannel(member.address));
  clients.set(member, client);
  return client;
}

/** Members that are part of the cluster, as it is changed below. */
let active: Member[] = [];

async function start(
  members: number,
  options: Pick<ClusterOptions, "env" | "flags" | "advertised"> = {},
): Promise<void> {
  cluster = await startQuorate({ members, ...options });
  active = [...cluster.members];
}

function first(): Member {
  const [member] = active;
  if (member === undefined) throw new Error("no member is left");
  return member;
}

async function idOf(member: Member): Promise<bigint> {
  const { header } = await clientOf(member).status();
  if (header === undefined) throw new Error("a status without a header");
  return header.memberId;
}

/** Again while it is refused only because it comes too early. */
async function whenHealthy<Answer>(change: () => Promise<Answer>): Promise<Answer> {
  const until = performance.now() + CHANGE_MILLISECONDS;
  for (;;) {
    try {
      return await change();
    } catch (error) {
      const waits = error instanceof RpcError && EARLY.includes(error.message);
      if (!waits || performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function grow(isLearner = false): Promise<Member> {
  const member = await cluster.prepare(active);
  const asked = clientOf(first());
  await whenHealthy(() => asked.memberAdd({ peerURLs: [member.peerUrl], isLearner }));
  await member.start();
  active.push(member);
  return member;
}

async function shrink(leaving: Member): Promise<void> {
  const id = await idOf(leaving);
  active = active.filter((each) => each !== leaving);
  const asked = clientOf(first());
  await whenHealthy(() => asked.memberRemove(id));
  await leaving.child.ended();
  expect(leaving.child.exitCode).toBe(0);
  expect(leaving.child.log).toContain(REMOVED);
}

/**
 * Runs `quorate member change` until it is done: until the voters and learners have these peer URLs.
 * An answer may come too late, and the change be made all the same.
 */
async function changeAtOnce(
  args: readonly string[],
  wanted: { readonly voters: readonly Member[]; readonly learners: readonly Member[] },
): Promise<void> {
  const urls = (members: readonly Member[]) => members.map(({ peerUrl }) => peerUrl).toSorted();
  const isDone = async (): Promise<boolean> => {
    const { members } = await clientOf(first()).memberList({ linearizable: true });
    const of = (learners: boolean) =>
      members.flatMap(({ isLearner, peerURLs }) => (isLearner === learners ? peerURLs : []));
    const found = [of(false).toSorted(), of(true).toSorted()];
    return JSON.stringify(found) === JSON.stringify([urls(wanted.voters), urls(wanted.learners)]);
  };
  let text = "";
  const take = (piece: string): void => void (text += piece);
  const change = async (): Promise<string> => {
    text = "";
    const endpoint = `--endpoints=${first().address}`;
    const code = await runCommand(["member", "change", ...args, endpoint], {
      out: take,
      err: take,
    });
    return code === 0 || (await isDone()) ? "done" : text;
  };
  const options = { timeout: 2 * CHANGE_MILLISECONDS, interval: 200 };
  await expect.poll(() => change().catch(String), options).toBe("done");
  await expect.poll(() => isDone().catch(String), options).toBe(true);
}

/** Writes keys, each once, at members that are active, and notes what was acknowledged. */
class Load {
  readonly acknowledged = new Map<string, string>();
  readonly #stop = new AbortController();
  readonly #writers = [0, 1, 2, 3].map((writer) => this.#write(writer));

  async #write(writer: number): Promise<void> {
    for (let count = 0; !this.#stop.signal.aborted; count += 1) {
      const [key, value] = [`w${writer}/${count}`, String(count)];
      const member = active[(writer + count) % active.length];
      try {
        if (member === undefined) throw new Error("no member is left");
        await clientOf(member).put({ key: utf8(key), value: utf8(value) });
        this.acknowledged.set(key, value);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#writers);
  }
}

/**
 * Each active member answers a linearizable read at once, when the change is done: when the same one
 * of them leads for all. (Where a leader was removed, reads that began before the others elected
 * theirs fail with "leader changed", as etcd's do.) Should the lead go to another one meanwhile, as
 * on a machine that is slow, it is asked again.
 */
async function expectReads(): Promise<void> {
  for (;;) {
    let before: string | undefined;
    const agree = async (): Promise<boolean> => (before = await agreedLeader()) !== undefined;
    await expect.poll(agree, { timeout: CHANGE_MILLISECONDS }).toBe(true);
    const reads = active.map((member) => clientOf(member).range({ key: utf8("any") }));
    const outcomes = await Promise.allSettled(reads);
    const failed = outcomes.filter(({ status }) => status === "rejected");
    if (failed.length === 0) return;
    const after = await agreedLeader().catch(() => undefined);
    if (after === before) expect(failed).toEqual([]);
  }
}

/** Leader and term, where all active members agree on one of them; undefined: they don't. */
async function agreedLeader(): Promise<string | undefined> {
  const statuses = await Promise.all(active.map((member) => clientOf(member).status()));
  const views = new Set(statuses.map(({ leader, raftTerm }) => `${leader} in ${raftTerm}`));
  const [view] = views;
  const isActive = statuses.some(({ leader, header }) => header?.memberId === leader);
  return views.size === 1 && isActive ? view : undefined;
}

async function stored(member: Member): Promise<Map<string, string>> {
  const { kvs } = await clientOf(member).range({ key: utf8("w"), rangeEnd: utf8("x") });
  return new Map(kvs.map(({ key, value }) => [textOf(key), textOf(value)]));
}

test(
  "1, 3, 5, 3, 1 members under load, with a kill -9: nothing acknowledged is lost",
  { timeout: 400_000 },
  async () => {
    await start(1);
    const load = new Load();
    try {
      await grow();
      await grow();
      await expectReads();
      const victim = active[1] as Member;
      active.splice(1, 1);
      await victim.kill();
      await victim.start();
      active.push(victim);
      await grow();
      await grow();
      expect(active).toHaveLength(5);
      await expectReads();
      await shrink(active[4] as Member);
      await shrink(active[0] as Member);
      await expectReads();
      await shrink(active[2] as Member);
      await shrink(active[0] as Member);
      await expectReads();
      await expect.poll(() => load.acknowledged.size, { timeout: 60_000 }).toBeGreaterThan(500);
    } finally {
      await load.stop();
    }
    const { members } = await clientOf(first()).memberList({ linearizable: true });
    expect(members).toHaveLength(1);
    const present = await stored(first());
    const lost = [...load.acknowledged].filter(([key, value]) => present.get(key) !== value);
    expect(lost).toEqual([]);
  },
);

test(
  "two of three are replaced at once under load, the leader among them: nothing is lost",
  LONG,
  async () => {
    await start(3, { flags: ["--max-learners=2"] });
    await expectReads();
    const leader = await agreedLeader();
    const ids = new Map<Member, bigint>();
    for (const member of active) ids.set(member, await idOf(member));
    const leads = (member: Member): boolean => ids.get(member) === leader;
    const others = active.filter((member) => !leads(member));
    const [staying] = others as [Member];
    const leaving = active.filter((member) => member !== staying);
    // Asked of a follower, which stays.
    active = [staying, ...leaving];
    const load = new Load();
    try {
      const joining = await cluster.prepareSeveral(active, 2);
      const adding = joining.map(({ peerUrl }) => `--add-learner=${peerUrl}`);
      await changeAtOnce(adding, { voters: active, learners: joining });
      await Promise.all(joining.map((member) => member.start()));
      const hex = async (member: Member): Promise<string> => (await idOf(member)).toString(16);
      const promoting = joining.map(async (member) => `--promote=${await hex(member)}`);
      const removing = leaving.map(async (member) => `--remove=${await hex(member)}`);
      const steps = await Promise.all([...promoting, ...removing]);
      active = [staying];
      await changeAtOnce(steps, { voters: [staying, ...joining], learners: [] });
      active = [staying, ...joining];
      for (const member of leaving) {
        await member.child.ended();
        expect(member.child.exitCode).toBe(0);
        expect(member.child.log).toContain(REMOVED);
      }
      await expectReads();
      const goal = load.acknowledged.size + 50;
      await expect
        .poll(() => load.acknowledged.size, { timeout: CHANGE_MILLISECONDS })
        .toBeGreaterThan(goal);
    } finally {
      await load.stop();
    }
    for (const member of active) {
      const present = await stored(member);
      const lost = [...load.acknowledged].filter(([key, value]) => present.get(key) !== value);
      expect(lost).toEqual([]);
    }
  },
);

test("a learner is promoted; it serves only what a learner may", async () => {
  await start(1);
  await clientOf(first()).put({ key: utf8("key"), value: utf8("value") });
  const learner = await grow(true);
  const client = clientOf(learner);
  const refusal = errorText("notSupportedForLearner");
  await expect(client.range({ key: utf8("key") })).rejects.toThrow(refusal);
  await expect(client.memberList()).rejects.toThrow(refusal);
  await expect(client.healthCheck()).rejects.toThrow(refusal);
  expect(await client.watch().end()).toMatchObject({ message: refusal });
  const { kvs } = await client.range({ key: utf8("key"), serializable: true });
  expect(kvs).toHaveLength(1);
  expect((await client.status()).isLearner).toBe(true);
  const metrics = async () => (await fetch(`http://${learner.address}/metrics`)).text();
  expect(await metrics()).toMatch(/^etcd_server_is_learner 1$/m);
  const id = await idOf(learner);
  await whenHealthy(() => clientOf(first()).memberPromote(id));
  await expect.poll(async () => (await client.status()).isLearner).toBe(false);
  expect(await metrics()).toMatch(/^etcd_server_is_learner 0$/m);
  await client.put({ key: utf8("key"), value: utf8("by a voter") });
});

test("a removed member doesn't start again with its data; emptied and added anew it joins", async () => {
  await start(3);
  const leaving = active[2] as Member;
  await shrink(leaving);
  const { code, log } = await leaving.startAndEnd();
  expect(code).toBe(1);
  expect(log).toContain("permanently removed");
  await clientOf(first()).put({ key: utf8("key"), value: utf8("value") });
  const anew = await grow();
  const { kvs } = await clientOf(anew).range({ key: utf8("key") });
  expect(kvs).toHaveLength(1);
});

test("a snapshot goes on where its connection was cut, twice", LONG, async () => {
  const proxies = new Map<number, TcpProxy>();
  const advertised = async (port: number): Promise<number> => {
    const proxy = await TcpProxy.start(`127.0.0.1:${port}`);
    proxies.set(proxy.port, proxy);
    return proxy.port;
  };
  try {
    await start(1, { advertised });
    // 40 chunks: each ends behind the row that fills it.
    const value = new Uint8Array(SNAPSHOT_VALUE_BYTES).fill(7);
    for (let count = 0; count < SNAPSHOT_VALUES; count += 1) {
      await clientOf(first()).put({ key: utf8(`w${count}`), value });
    }
    const member = await cluster.prepare(active);
    const proxy = proxies.get(Number(new URL(member.peerUrl).port));
    // Two windows of chunks, so that the receiver has taken some of them whatever is under way.
    proxy?.cut({ afterBytes: 2 * LIMITS.snapshotWindowChunks * CHUNK_BYTES, count: 2 });
    await clientOf(first()).memberAdd({ peerURLs: [member.peerUrl], isLearner: true });
    await member.launch();
    await member.child.logged(READY_TEXT, CATCH_UP_MILLISECONDS);
    expect(proxy?.cutsLeft).toBe(0);
    // The sender's log tells how many chunks it needn't send again.
    const spared = (): number[] => {
      const lines = first()
        .child.log.split("\n")
        .filter((line) => line.includes(RESUMED));
      return lines.map((line) => (JSON.parse(line) as { chunks: number }).chunks);
    };
    await expect
      .poll(() => new Set(spared()).size, { timeout: CHANGE_MILLISECONDS })
      .toBeGreaterThanOrEqual(2);
    expect(Math.min(...spared())).toBeGreaterThan(0);
    const all = { key: utf8("w"), rangeEnd: utf8("x"), serializable: true, countOnly: true };
    expect((await clientOf(member).range(all)).count).toBe(BigInt(SNAPSHOT_VALUES));
  } finally {
    await cluster.stop();
    for (const proxy of proxies.values()) await proxy.stop();
  }
});

describe("joining is refused", () => {
  async function refused(member: Member): Promise<string> {
    const { code, log } = await member.startAndEnd();
    expect(code).toBe(1);
    return log;
  }

  test("to one that was not added, or that lists too few", async () => {
    await start(1);
    expect(await refused(await cluster.prepare(active))).toContain("member count is unequal");
    await clientOf(first()).memberAdd({ peerURLs: ["http://127.0.0.1:1"], isLearner: true });
    expect(await refused(await cluster.prepare(active))).toContain(
      "has no entry with the peer URLs of member",
    );
  });

  test("when nobody answers", async () => {
    await start(1);
    const member = await cluster.prepare(active);
    await first().kill();
    const log = await refused(member);
    expect(log).toContain("could not retrieve cluster information from the given URLs");
    expect(log).toContain("ECONNREFUSED");
  });

  test("without the members' secret, which is all that is asked for otherwise", async () => {
    await start(1, { env: { QUORATE_PEER_SECRET: "one" } });
    const answer = await fetch(`${first().peerUrl}/members`);
    expect(answer.status).toBe(401);
    const joined = await grow(true);
    expect((await clientOf(joined).status()).isLearner).toBe(true);
  });
});

test("--force-new-cluster: the last of three keeps all data, and grows again", async () => {
  await start(3);
  for (let count = 0; count < 100; count += 1) {
    await clientOf(active[count % 3] as Member).put({ key: utf8(`w${count}`), value: utf8("v") });
  }
  // What a majority has is acknowledged; the last of three must have got it too.
  const everything = { key: utf8("w"), rangeEnd: utf8("x"), serializable: true };
  const last = clientOf(active[2] as Member);
  await expect.poll(async () => (await last.range(everything)).kvs.length).toBe(100);
  await Promise.all(active.map((member) => member.kill()));
  active = active.slice(2);
  await first().start({ ETCD_FORCE_NEW_CLUSTER: "true" });
  const { members } = await clientOf(first()).memberList({ linearizable: true });
  expect(members).toHaveLength(1);
  expect((await stored(first())).size).toBe(100);
  // The next start is an ordinary one, with its old flags.
  await first().stop();
  await first().start();
  await grow();
  expect((await stored(active[1] as Member)).size).toBe(100);
  // The dead are out, and learn it when they come back.
  const { code, log } = await (cluster.members[0] as Member).startAndEnd();
  expect(code).toBe(0);
  expect(log).toContain(REMOVED);
});
