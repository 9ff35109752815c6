/**
 * A cluster of Node peers, real processes, with a member in a Durable Object of a Worker in local
 * workerd: it joins as a learner, is promoted, its vote and its log count, and it is removed and
 * comes back as another member. One story, told in order.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Maintenance } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { textOf, utf8 } from "../../shared/base/bytes.ts";
import { startQuorate, type Cluster, type Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { freePorts } from "../support/ports.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { jsonOf, problemOf, startEvictable } from "./edge.ts";
import type { StruckEdge } from "./edge.ts";

const SECRET = "the members' secret";
const NAME = "edge1";
const POLL = { timeout: 60_000, interval: 100 };

/** As the Worker names its object. */
const OBJECT = `member:${NAME}`;

/** Aborts and evictions, each with a write. */
const ROUNDS = 6;

/** Nearly as much as a request may hold. */
const LARGE = "x".repeat(1_400_000);

describe("a member in a Durable Object beside Node peers", () => {
  const dataDir = makeTempDir("member");
  const clients = new Map<Member, EtcdClient>();
  let cluster: Cluster;
  let edge: StruckEdge;
  let url: string;

  beforeAll(async () => {
    // Logs are cut so soon that whoever comes late needs a snapshot.
    const flags = [
      "--snapshot-count=20",
      "--snapshot-catchup-entries=5",
      "--strict-reconfig-check=false",
    ];
    const env = { QUORATE_PEER_SECRET: SECRET };
    cluster = await startQuorate({ members: 3, env, flags });
    const [port = 0] = await freePorts(1);
    url = `http://127.0.0.1:${port}`;
    const variables = {
      QUORATE_MEMBERS: `${NAME}=${url}`,
      QUORATE_PEER_SECRET: SECRET,
      QUORATE_TIMEOUT_MS: "1000",
    };
    edge = await startEvictable({ port, peers: [], environment: "member", dataDir, variables });
  });
  afterAll(async () => {
    for (const client of clients.values()) client.close();
    await edge?.stop();
    removeTempDir(dataDir);
    await cluster?.stop();
  });

  const nodeAt = (position: number): Member => cluster.members[position] as Member;
  function at(position: number): EtcdClient {
    const member = nodeAt(position);
    const client = clients.get(member) ?? new EtcdClient(new GrpcChannel(member.address));
    clients.set(member, client);
    return client;
  }

  /** Until it was acknowledged: an election may be under way. */
  async function put(position: number, key: string, value: string): Promise<void> {
    const request = { key: utf8(key), value: utf8(value) };
    const tried = () =>
      at(position)
        .put(request)
        .then(() => "done", String);
    await expect.poll(tried, POLL).toBe("done");
  }
  async function expectValue(position: number, key: string, value: string): Promise<void> {
    const read = async () => {
      const { kvs } = await at(position).range({ key: utf8(key) });
      return kvs[0] === undefined ? undefined : textOf(kvs[0].value);
    };
    await expect.poll(read, POLL).toBe(value);
  }
  /** A read that the object answers: the status and the text. */
  async function own(key: string, consistency: string): Promise<string> {
    const answer = await edge.fetch(`/kv/${key}?consistency=${consistency}`);
    return `${answer.status} ${await answer.text()}`;
  }
  const ownCopy = (key: string) => () => own(key, "serializable");
  /** What it tells its operator. */
  async function state() {
    const headers = { authorization: `Bearer ${SECRET}` };
    return jsonOf<{ running: boolean; reason?: string }>(await edge.fetch("/raft", { headers }));
  }
  /** The object as a member, as a Node peer has it. */
  async function listed(position = 0) {
    const { members } = await at(position).memberList();
    return members.find(({ peerURLs }) => peerURLs.includes(url));
  }
  /** Repeats a change whose answer may be lost until it is seen. */
  async function until(change: () => Promise<unknown>, isDone: () => Promise<boolean>) {
    const tried = async () => {
      await change().catch(() => {});
      return isDone();
    };
    await expect.poll(tried, POLL).toBe(true);
  }
  const add = () =>
    until(
      () => at(0).memberAdd({ peerURLs: [url], isLearner: true }),
      async () => (await listed()) !== undefined,
    );
  const remove = (id: bigint) =>
    until(
      () => at(0).memberRemove(id),
      async () => !(await at(0).memberList()).members.some(({ ID }) => ID === id),
    );
  /** The hash at the newest revision is the same at each of these Node peers and at the object. */
  async function expectEqualHashes(positions: readonly number[]): Promise<void> {
    const { header } = await at(positions[0] ?? 0).range({ key: utf8("any") });
    const revision = header?.revision ?? 0n;
    const hashes = new Set<number>();
    for (const position of positions) {
      const hash = async () => {
        const answer = await at(position).channel.unary(Maintenance.method.hashKV, { revision });
        hashes.add(answer.hash);
        return answer.hash;
      };
      await expect.poll(hash, POLL).toBeGreaterThan(0);
    }
    const ownHash = () => edge.hashKv(OBJECT, Number(revision));
    await expect.poll(ownHash, POLL).toBe([...hashes][0]);
    expect(hashes.size).toBe(1);
  }

  test("before anybody added it, it says so, to those who know the secret", async () => {
    const { running, reason } = await state();
    expect([running, reason]).toEqual([false, expect.stringContaining("member add")]);
    await problemOf(await edge.fetch("/raft"), 401);
    const headers = { authorization: `Bearer ${SECRET}`, origin: url };
    await problemOf(await edge.fetch("/raft", { headers }), 403);
  });

  test("a learner catches up by a snapshot, then by the log", async () => {
    for (let key = 0; key < 60; key += 1) await put(0, `early/${key}`, `${key}`);
    // Above what a row of the object's storage holds, once its zeros are escaped.
    await put(0, "\0".repeat(1_200_000), "of a long key");
    await put(0, "large/early", LARGE);
    await add();
    await expect.poll(ownCopy("early/59"), POLL).toBe("200 59");
    await put(0, "large/late", LARGE);
    await put(1, "late", "by the log");
    await expect.poll(ownCopy("late"), POLL).toBe("200 by the log");
    await expect.poll(async () => (await listed())?.name, POLL).toBe(NAME);
    expect(await listed()).toMatchObject({ clientURLs: [], isLearner: true });
    await expectEqualHashes([0, 1, 2]);
  });

  test("a learner refuses what isn't for learners", async () => {
    const linearizable = () => own("late", "linearizable");
    await expect.poll(linearizable, POLL).toMatch(/^400 .*not supported for learner/);
  });

  test("is promoted, and serves linearizable reads and writes", async () => {
    const { ID = 0n } = (await listed()) ?? {};
    await until(
      () => at(0).memberPromote(ID),
      async () => (await listed())?.isLearner === false,
    );
    await expect.poll(() => own("late", "linearizable"), POLL).toBe("200 by the log");
    const written = async () =>
      (await edge.fetch("/kv/by-the-edge", { method: "PUT", body: "yes" })).status;
    await expect.poll(written, POLL).toBe(200);
    await expectValue(2, "by-the-edge", "yes");
  });

  test("its vote counts: with one of two Node peers killed, writes go on", async () => {
    await remove((await at(2).status()).header?.memberId ?? 0n);
    await nodeAt(2).child.ended();
    await nodeAt(1).kill();
    await put(0, "without-m2", "1");
  });

  test("aborted and evicted over and over, it keeps what it acknowledged, and hands it on", async () => {
    // Only it and m1 are there: each acknowledged write stands on its storage.
    let evictions = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const written = put(0, `storm/${round}`, `${round}`);
      if (round % 2 === 0) await edge.abort("PEER", OBJECT);
      else if (await edge.evict("PEER", OBJECT)) evictions += 1;
      await written;
    }
    expect(evictions).toBeGreaterThan(0);
    // Now m1 goes, too, and m2 comes back without all that: what it gets is from the object.
    await nodeAt(0).kill();
    await nodeAt(1).start();
    for (let round = 0; round < ROUNDS; round += 1) {
      await expectValue(1, `storm/${round}`, `${round}`);
    }
    await nodeAt(0).start();
    await expectEqualHashes([0, 1]);
  });

  test("removed, it stops and says so; added again, it is another member", async () => {
    const before = await listed();
    await remove(before?.ID ?? 0n);
    const reason = async () => (await state()).reason ?? "";
    await expect.poll(reason, POLL).toContain("was removed from its cluster");
    await add();
    await expect.poll(ownCopy("late"), POLL).toBe("200 by the log");
    expect((await listed())?.ID).not.toBe(before?.ID);
    await expectEqualHashes([0, 1]);
  });
});
