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
const CALL_MILLISECONDS = 1500;
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

/** The member that leads, as a member that answers says. */
async function leader(): Promise<Member> {
  for (const member of cluster.members) {
    if (!member.child.running) continue;
    const { header, leader: leaderId } = await clientOf(member).status();
    if (header?.memberId === leaderId) return member;
  }
  throw new Error("no running member leads");
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
        .toBeGreaterThan(atKill + 20);
      console.log(
        `writes went on ${Math.round(performance.now() - killed)} ms after kill -9 of the leader`,
      );
      await victim.start();
    }
  } finally {
    await load.stop();
  }
  for (const member of cluster.members) {
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
  const present = await stored(cluster.members[0] as Member);
  const lost = [...load.acknowledged].filter(([key, value]) => present.get(key) !== value);
  expect(lost).toEqual([]);
});
