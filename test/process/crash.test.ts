/**
 * Real processes and kill -9: under load no acknowledged write is lost, and clients go on. Load:
 * writers that put keys of their own, each key once, and note which puts were acknowledged.
 */
import { afterEach, beforeEach, expect, test } from "vitest";
import { startQuorate, type Cluster, type Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { textOf, utf8 } from "../../shared/base/bytes.ts";

const WRITERS = 8;
/** A call that hangs on a dead leader is given up, so that its writer can tell when others serve. */
const CALL_MILLISECONDS = 500;
/** Clients must find the new leader within this time (issue: 3 s). */
const RECOVERY_MILLISECONDS = 3000;

let cluster: Cluster;
let clients: Map<Member, EtcdClient>;

beforeEach(async () => {
  cluster = await startQuorate({ members: 3 });
  clients = new Map(
    cluster.members.map((member) => [member, new EtcdClient(new GrpcChannel(member.address))]),
  );
});

afterEach(async () => {
  for (const client of clients.values()) client.close();
  await cluster.stop();
});

function clientOf(member: Member): EtcdClient {
  const client = clients.get(member);
  if (client === undefined) throw new Error(`no client for ${member.name}`);
  return client;
}

/** The member that leads, as one that answers says; waits for an election to end. */
async function leader(): Promise<Member> {
  let found: Member | undefined;
  const look = async (): Promise<boolean> => {
    for (const member of cluster.members) {
      const status = await clientOf(member)
        .status()
        .catch(() => undefined);
      if (status !== undefined && status.header?.memberId === status.leader) found = member;
    }
    return found !== undefined;
  };
  await expect.poll(look, { timeout: 10_000 }).toBe(true);
  return found as Member;
}

/**
 * Writers against all members; a write that fails anywhere goes on with a new key at the next
 * member.
 */
class Load {
  readonly acknowledged = new Map<string, string>();
  lastAcknowledged = 0;
  readonly #stop = new AbortController();
  readonly #writers: Promise<void>[];

  constructor() {
    this.#writers = Array.from({ length: WRITERS }, (_, writer) => this.#write(writer));
  }

  async #write(writer: number): Promise<void> {
    for (let count = 0; !this.#stop.signal.aborted; count += 1) {
      const key = `w${writer}/${count}`;
      const value = `${key}=${count}`;
      const member = cluster.members[(writer + count) % cluster.members.length] as Member;
      try {
        await clientOf(member).put(
          { key: utf8(key), value: utf8(value) },
          { timeoutMilliseconds: CALL_MILLISECONDS },
        );
        this.acknowledged.set(key, value);
        this.lastAcknowledged = performance.now();
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

/** A channel that saw its member dead may go on refusing for a while after the restart. */
function isServing(member: Member): Promise<boolean> {
  return clientOf(member)
    .status()
    .then(
      () => true,
      () => false,
    );
}

async function stored(member: Member): Promise<Map<string, string>> {
  const { kvs } = await clientOf(member).range({ key: utf8("w"), rangeEnd: utf8("x") });
  return new Map(kvs.map(({ key, value }) => [textOf(key), textOf(value)]));
}

test("kill -9 of the leader under load loses no acknowledged write, and clients go on within 3 s", async () => {
  const load = new Load();
  try {
    for (let round = 0; round < 3; round += 1) {
      const before = load.acknowledged.size;
      await expect
        .poll(() => load.acknowledged.size, { timeout: 10_000 })
        .toBeGreaterThan(before + 100);
      const victim = await leader();
      await victim.kill();
      const killed = performance.now();
      const atKill = load.acknowledged.size;
      await expect
        .poll(() => load.acknowledged.size, { timeout: RECOVERY_MILLISECONDS, interval: 20 })
        .toBeGreaterThan(atKill + WRITERS);
      console.log(
        `writes went on ${Math.round(performance.now() - killed)} ms after kill -9 of the leader`,
      );
      await victim.start();
    }
  } finally {
    await load.stop();
  }
  for (const member of cluster.members) {
    await expect.poll(() => isServing(member), { timeout: 10_000 }).toBe(true);
    const present = await stored(member);
    const lost = [...load.acknowledged].filter(([key, value]) => present.get(key) !== value);
    expect(lost).toEqual([]);
  }
});

test("kill -9 of all members at once loses no acknowledged write", async () => {
  const load = new Load();
  try {
    await expect.poll(() => load.acknowledged.size, { timeout: 10_000 }).toBeGreaterThan(200);
    await Promise.all(cluster.members.map((member) => member.kill()));
  } finally {
    await load.stop();
  }
  await Promise.all(cluster.members.map((member) => member.start()));
  await expect.poll(() => isServing(cluster.members[0] as Member), { timeout: 10_000 }).toBe(true);
  const present = await stored(cluster.members[0] as Member);
  const lost = [...load.acknowledged].filter(([key, value]) => present.get(key) !== value);
  expect(lost).toEqual([]);
});
