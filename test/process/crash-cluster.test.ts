/**
 * Three members under load while they are crashed as machines (unsynced writes are lost or torn)
 * at named places and at random, paused, cut off in one direction, and all crashed at once. In the
 * end every member serves, nothing that was answered is lost, all answers together are
 * linearizable, and all members have the same hash.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Maintenance } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { Prng } from "../../shared/base/prng.ts";
import { checkLinearizable } from "../sim/linearizability.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster, Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { RecordedClients, watchedHistory } from "../support/recorded-clients.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";
import { CRASHABLE, crashEnv, expectKilled, readyOrKilled, runToDeath } from "./crash-plan.ts";
import type { Failpoint } from "./failpoints.ts";
import { RECEIVER_POINTS, WRITE_POINTS } from "./failpoints.ts";

const CLIENTS = 6;
const STEPS_MAX = 5_000_000;
/** A member that hasn't come by its failpoint is killed after so long, and so many answers. */
const STRIKE_MILLISECONDS = 3000;
const STRIKE_ANSWERS = 400;
const PROGRESS_MILLISECONDS = 90_000;
/** Entries between two cuts of the log, and those that stay for members that lag. */
const CUT_EVERY = 100;
const CATCH_UP = 20;

const seed = Number(process.env["SEED"] ?? Date.now() >>> 0);
const prng = new Prng(seed);
const clients = new RecordedClients();
const channels = new Map<Member, EtcdClient>();
const proxies: TcpProxy[] = [];
const struck = new Map<Failpoint, number>();
const over = new AbortController();
/** Members that were crashed, each time. */
let crashes = 0;
let cluster: Cluster;
let load: Promise<void>;

beforeAll(async () => {
  console.log(`seed ${seed}; replay: SEED=${seed} npx vitest run --project process crash-cluster`);
  cluster = await startQuorate({
    members: 3,
    program: CRASHABLE,
    flags: [`--snapshot-count=${CUT_EVERY}`, `--snapshot-catchup-entries=${CATCH_UP}`],
    env: crashEnv({ disk: "unsynced", seed }),
    advertised: async (peerPort) => {
      const proxy = await TcpProxy.start(`127.0.0.1:${peerPort}`);
      proxies.push(proxy);
      return proxy.port;
    },
  });
  load = clients.run({
    count: CLIENTS,
    prng: prng.fork(),
    signal: over.signal,
    pick: () => {
      const running = cluster.members.filter(({ child }) => child.running);
      return running.length === 0 ? undefined : clientOf(prng.pick(running));
    },
  });
});

afterAll(async () => {
  over.abort();
  for (const client of channels.values()) client.close();
  await Promise.all(proxies.map((proxy) => proxy.stop()));
  await cluster.stop();
});

function clientOf(member: Member): EtcdClient {
  let client = channels.get(member);
  if (client === undefined) {
    client = new EtcdClient(new GrpcChannel(member.address));
    channels.set(member, client);
  }
  return client;
}

/** After an end of the member its old channel may refuse for a while: the next one is new. */
function forget(member: Member): void {
  channels.get(member)?.close();
  channels.delete(member);
}

async function kill(member: Member): Promise<void> {
  await member.kill();
  crashes += 1;
  forget(member);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** What each member says of itself, for messages of failures. */
async function states(): Promise<string> {
  const texts = await Promise.all(
    cluster.members.map(async (member) => {
      if (!member.child.running) return `${member.name}: not running`;
      const client = new EtcdClient(new GrpcChannel(member.address));
      try {
        const { header, leader, raftTerm, raftIndex, raftAppliedIndex } = await client.status();
        return (
          `${member.name} (${header?.memberId}): leader ${leader}, term ${raftTerm}, index ${raftIndex}, ` +
          `applied ${raftAppliedIndex}`
        );
      } catch (error) {
        return `${member.name}: ${String(error)}`;
      } finally {
        client.close();
      }
    }),
  );
  return texts.join("\n");
}

/** Starts a member; a failure shows the whole cluster. */
async function start(member: Member, env?: Record<string, string>): Promise<void> {
  await member.launch(env);
  await member.ready().catch(async (cause: unknown) => {
    throw new Error(`${member.name} didn't start:\n${await states()}`, { cause });
  });
}

/** Clients were answered so many more times. */
async function progress(answers: number): Promise<void> {
  const goal = clients.answered + answers;
  await expect
    .poll(() => clients.answered, { timeout: PROGRESS_MILLISECONDS, interval: 20 })
    .toBeGreaterThan(goal);
}

/** Lets a stopped member run into a place; kills it there if it doesn't come by. It is stopped again. */
async function crashAt(
  member: Member,
  { name, passing, answers }: { name: Failpoint; passing: number; answers: number },
): Promise<void> {
  await member.launch(armed(name, passing));
  let bySelf = true;
  if ((await readyOrKilled(member)) === "ready") {
    const goal = clients.answered + answers;
    const isDue = (): boolean => clients.answered >= goal;
    bySelf = await runToDeath(member, { milliseconds: STRIKE_MILLISECONDS, isDue });
  }
  crashes += 1;
  if (bySelf) struck.set(name, (struck.get(name) ?? 0) + 1);
  forget(member);
}

function armed(name: Failpoint, passing: number): Record<string, string> {
  return crashEnv({ disk: "unsynced", seed: prng.uint32(), failpoint: { name, passing } });
}

test("crashes at named places", async () => {
  // A third of the places a member: each start is one crash.
  const first = prng.below(WRITE_POINTS.length);
  const places = [...WRITE_POINTS.slice(first), ...WRITE_POINTS.slice(0, first)];
  const size = Math.ceil(places.length / cluster.members.length);
  for (const [turn, member] of cluster.members.entries()) {
    await kill(member);
    for (const name of places.slice(turn * size, (turn + 1) * size)) {
      const rare = /^(segment|log|commit)/.test(name);
      const passing = rare ? prng.between(1, 2) : prng.between(1, 60);
      await crashAt(member, { name, passing, answers: STRIKE_ANSWERS });
    }
    await start(member);
    await progress(20);
  }
}, 600_000);

/** So far behind that only a snapshot helps: answers, most of them writes, and cuts of the log. */
const FAR_BEHIND = 4 * (CUT_EVERY + CATCH_UP);

test("crashes while a snapshot is received and installed", async () => {
  const member = prng.pick(cluster.members);
  await kill(member);
  for (const name of RECEIVER_POINTS) {
    await progress(FAR_BEHIND);
    await crashAt(member, { name, passing: 1, answers: 10 * FAR_BEHIND });
  }
  await start(member);
  await progress(20);
  expect(RECEIVER_POINTS.filter((name) => !struck.has(name))).toEqual([]);
}, 400_000);

test("the leader crashes while it sends a snapshot", async () => {
  const [lagging, ...others] = cluster.members as [Member, Member, Member];
  await kill(lagging);
  await progress(FAR_BEHIND);
  await Promise.all(others.map((member) => kill(member)));
  await Promise.all(others.map((member) => start(member, armed("snapshot-sent-chunk", 1))));
  await lagging.launch();
  const dead = (): readonly Member[] => others.filter(({ child }) => !child.running);
  await expect.poll(() => dead().length, { timeout: PROGRESS_MILLISECONDS }).toBeGreaterThan(0);
  for (const member of dead()) expectKilled(member);
  struck.set("snapshot-sent-chunk", 1);
  // The other one may come to lead and to send: it is disarmed too.
  for (const member of others) if (member.child.running) await member.kill();
  crashes += others.length;
  for (const member of others) forget(member);
  await Promise.all(others.map((member) => start(member)));
  await lagging.ready();
  await progress(20);
}, 400_000);

test("pauses, cuts of one direction, random kills, all at once", async () => {
  for (let round = 0; round < 3; round += 1) {
    const paused = prng.pick(cluster.members);
    paused.child.kill("SIGSTOP");
    await sleep(prng.between(200, 1500));
    paused.child.kill("SIGCONT");
    await progress(20);

    const deaf = prng.pick(proxies);
    deaf.silence();
    await sleep(prng.between(500, 2000));
    deaf.heal();
    await progress(20);

    const victim = prng.pick(cluster.members);
    await kill(victim);
    await sleep(prng.between(0, 300));
    await start(victim);
    await progress(20);

    await Promise.all(cluster.members.map((member) => kill(member)));
    await Promise.all(cluster.members.map((member) => start(member)));
    await progress(20);
  }
}, 400_000);

test("in the end nothing is lost, and all members have the same state", async () => {
  over.abort();
  await load;
  const [first] = cluster.members as [Member];
  const all = { key: "a", end: "z", serializable: false, atRevision: 0 };
  for (const member of cluster.members) {
    forget(member);
    await expect
      .poll(() => clients.ask(clientOf(member), { kind: "range", ...all }), { timeout: 60_000 })
      .toBeDefined();
  }
  const events = await watchedHistory(clientOf(first));
  const revisions = [...events.keys()];
  expect(revisions).toEqual(revisions.map((_, place) => place + 2));
  const verdict = checkLinearizable(clients.operations, { events, stepsMax: STEPS_MAX });
  expect(verdict).toMatchObject({ ok: true });
  const revision = BigInt(revisions.at(-1) ?? 1);
  const hashes = await Promise.all(
    cluster.members.map(async (member) => {
      const { channel } = clientOf(member);
      return (await channel.unary(Maintenance.method.hashKV, { revision })).hash;
    }),
  );
  expect(new Set(hashes).size).toBe(1);
  console.log(
    `${crashes} crashes, ${clients.answered} answers of ${clients.operations.length}, ${revisions.length} revisions; ` +
      `struck: ${[...struck].map(([name, count]) => `${name} ${count}`).join(", ")}`,
  );
  expect(crashes).toBeGreaterThanOrEqual(35);
  expect(struck.size).toBeGreaterThan(WRITE_POINTS.length / 2);
});
