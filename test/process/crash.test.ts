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
/** Far above what an election takes a slow machine; what it took is printed. */
const PATIENCE = { timeout: 60_000 };

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
  await expect.poll(look, PATIENCE).toBe(true);
  return found as Member;
}

/**
 * Clients that write one key after the other with the peer's own time-out, half of them at one
 * member as long as it serves, the others at each in turn. One whose call fails goes on with a new
 * key at the next member.
 */
class Load {
  readonly acknowledged = new Map<string, string>();
  /** When each writer last had a write acknowledged. */
  readonly lastAt: number[];
  readonly #stop = new AbortController();
  readonly #writers: Promise<void>[];

  constructor() {
    this.lastAt = Array.from({ length: WRITERS }, () => performance.now());
    this.#writers = this.lastAt.map((_, writer) => this.#write(writer));
  }

  async #write(writer: number): Promise<void> {
    const stays = writer % 2 === 0;
    let at = writer >> 1;
    for (let count = 0; !this.#stop.signal.aborted; count += 1) {
      const key = `w${writer}/${count}`;
      const value = `${key}=${count}`;
      const member = cluster.members[at % cluster.members.length] as Member;
      try {
        await clientOf(member).put({ key: utf8(key), value: utf8(value) });
        this.acknowledged.set(key, value);
        this.lastAt[writer] = performance.now();
        if (!stays) at += 1;
      } catch {
        at += 1;
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
 * All keys, as soon as the member answers: a channel that saw its member dead may go on refusing for
 * a while after the restart.
 */
async function stored(member: Member): Promise<Map<string, string>> {
  let kvs: readonly { key: Uint8Array; value: Uint8Array }[] = [];
  const read = async (): Promise<void> => {
    ({ kvs } = await clientOf(member).range({ key: utf8("w"), rangeEnd: utf8("x") }));
  };
  await expect.poll(read, PATIENCE).toBeUndefined();
  return new Map(kvs.map(({ key, value }) => [textOf(key), textOf(value)]));
}

test("kill -9 of the leader under load loses no acknowledged write, and clients go on", async () => {
  const load = new Load();
  try {
    for (let round = 0; round < 3; round += 1) {
      const before = load.acknowledged.size;
      await expect.poll(() => load.acknowledged.size, PATIENCE).toBeGreaterThan(before + 100);
      const victim = await leader();
      const killed = performance.now();
      await victim.kill();
      const waiting = (): number[] => [...load.lastAt.keys()].filter((writer) => !wentOn(writer));
      // What was acknowledged while the kill was under way doesn't count.
      const wentOn = (writer: number): boolean => (load.lastAt[writer] ?? 0) > killed + 100;
      await expect.poll(waiting, PATIENCE).toEqual([]);
      const last = Math.max(...load.lastAt.map((at) => at - killed));
      console.log(`every client went on within ${Math.round(last)} ms of kill -9 of the leader`);
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
    await expect.poll(() => load.acknowledged.size, PATIENCE).toBeGreaterThan(200);
    await Promise.all(cluster.members.map((member) => member.kill()));
  } finally {
    await load.stop();
  }
  await Promise.all(cluster.members.map((member) => member.start()));
  const present = await stored(cluster.members[0] as Member);
  const lost = [...load.acknowledged].filter(([key, value]) => present.get(key) !== value);
  expect(lost).toEqual([]);
});
