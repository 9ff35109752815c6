/**
 * Changes of the members that a running cluster survives: refusals, a learner that comes and goes
 * without ever starting, and the lead's way around.
 */
import { expect } from "vitest";
import { errorText, RpcError } from "../../../shared/api/errors.ts";
import { EtcdClient } from "../../support/etcd-client.ts";
import { expectRefused, headerOf, type ApiSuite, type Case } from "../api-suite.ts";

/** Changes wait for connections that have lasted 5 s. */
const HEALTH_MILLISECONDS = 60_000;
const STRANGER = 0x1234_5678_9abc_def0n;

/** Again while the members are held to be connected for too short a time. */
async function whenHealthy<Answer>(change: () => Promise<Answer>): Promise<Answer> {
  const until = performance.now() + HEALTH_MILLISECONDS;
  for (;;) {
    try {
      return await change();
    } catch (error) {
      const waits = error instanceof RpcError && error.message === errorText("unhealthy");
      if (!waits || performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

let urls = 0;

/** A URL that no test has used: etcd's ids depend on URLs and seconds alone. */
function freshUrl(): string {
  urls += 1;
  return `http://127.0.0.1:${urls}`;
}

/** A learner that never starts, and goes with the test. */
async function addLearner(c: Case, url: string): Promise<bigint> {
  const added = await whenHealthy(() => c.client.memberAdd({ peerURLs: [url], isLearner: true }));
  const { ID } = added.member ?? {};
  if (ID === undefined) throw new Error("the answer names no member");
  c.later(() => c.client.memberRemove(ID).catch(() => undefined));
  return ID;
}

/** The member that leads, and the others. */
async function clientsByRole(c: Case): Promise<{ leader: EtcdClient; followers: EtcdClient[] }> {
  let found: Awaited<ReturnType<typeof rolesNow>> | undefined;
  const look = async (): Promise<unknown> => (found = await rolesNow(c));
  await expect.poll(look).toBeDefined();
  if (found === undefined) throw new Error("nobody leads");
  return found;
}

async function rolesNow(c: Case) {
  const clients = c.target.members.map((channel) => new EtcdClient(channel));
  const followers: EtcdClient[] = [];
  let leader: EtcdClient | undefined;
  for (const client of clients) {
    const status = await client.status();
    if (status.leader === headerOf(status).memberId) leader = client;
    else followers.push(client);
  }
  return leader === undefined ? undefined : { leader, followers };
}

export const membershipRefusals: ApiSuite = (test) => {
  test("member add: refuses peer URLs that are none", async (c) => {
    const lists = [
      [],
      ["127.0.0.1:1"],
      ["http://127.0.0.1"],
      ["ftp://127.0.0.1:1"],
      ["http://a:1/b"],
    ];
    for (const peerURLs of lists) {
      await expectRefused(c.client.memberAdd({ peerURLs }), "memberBadUrls");
    }
  });

  test("member remove, update and promote: of a stranger are refused", async (c) => {
    await expectRefused(
      whenHealthy(() => c.client.memberRemove(STRANGER)),
      "memberNotFound",
    );
    const peerURLs = [freshUrl()];
    await expectRefused(c.client.memberUpdate({ ID: STRANGER, peerURLs }), "memberNotFound");
    await expectRefused(c.client.memberPromote(STRANGER), "memberNotFound");
  });

  test("member remove: the last voters stay", async (c) => {
    const { members } = await c.client.memberList();
    if (members.length > 1) return;
    const [only] = members;
    await expectRefused(c.client.memberRemove(only?.ID ?? 0n), "memberNotEnoughStarted");
  });

  test("move leader: only the leader takes it, and only to a voter", async (c) => {
    const { leader, followers } = await clientsByRole(c);
    await expectRefused(leader.moveLeader(STRANGER), "badLeaderTransferee");
    const { leader: id } = await leader.status();
    for (const follower of followers) await expectRefused(follower.moveLeader(id), "notLeader");
    await leader.moveLeader(id);
  });

  test("move leader: hands over to the member named, and back", async (c) => {
    const { leader, followers } = await clientsByRole(c);
    const [next] = followers;
    if (next === undefined) return;
    const before = headerOf(await leader.status()).memberId;
    const target = headerOf(await next.status()).memberId;
    await leader.moveLeader(target);
    expect((await leader.status()).leader).toBe(target);
    await c.put("a", "1");
    await expect.poll(async () => (await next.status()).leader).toBe(target);
    await next.moveLeader(before);
  });
};

export const membershipChanges: ApiSuite = (test) => {
  test("learner: is added without a name, once, and listed; its URL is taken", async (c) => {
    const url = freshUrl();
    const before = (await c.client.memberList()).members.length;
    const ID = await addLearner(c, url);
    const { members, header } = await c.client.memberList({ linearizable: true });
    expect(header?.revision).toBe(0n);
    expect(members.length).toBe(before + 1);
    expect(members.find((member) => member.ID === ID)).toMatchObject({
      name: "",
      peerURLs: [url],
      clientURLs: [],
      isLearner: true,
    });
    const again = (peerURLs: string[]) =>
      whenHealthy(() => c.client.memberAdd({ peerURLs, isLearner: true }));
    await expectRefused(again([freshUrl(), url]), "peerUrlExist");
    await expectRefused(again([freshUrl()]), "tooManyLearners");
  });

  test("learner: isn't promoted before it has the log; voters can't be", async (c) => {
    for (let count = 0; count < 20; count += 1) await c.put("a", String(count));
    const ID = await addLearner(c, freshUrl());
    await expectRefused(c.client.memberPromote(ID), "learnerNotReady");
    const voter = headerOf(await c.client.status()).memberId;
    await expectRefused(c.client.memberPromote(voter), "memberNotLearner");
  });

  test("learner: moves to another URL, but not to that of another member", async (c) => {
    const ID = await addLearner(c, freshUrl());
    const peerURLs = [freshUrl()];
    const moved = await c.client.memberUpdate({ ID, peerURLs });
    const learner = moved.members.find((member) => member.ID === ID);
    expect(learner?.peerURLs).toEqual(peerURLs);
    const others = moved.members.filter((member) => member.ID !== ID);
    const voter = others[0]?.ID ?? 0n;
    const taken = c.client.memberUpdate({ ID: voter, peerURLs });
    await expectRefused(taken, "peerUrlExist");
  });

  test("learner: is removed, and its id is never known again", async (c) => {
    const ID = await addLearner(c, freshUrl());
    const { members } = await c.client.memberRemove(ID);
    expect(members.map((member) => member.ID)).not.toContain(ID);
    await expectRefused(
      whenHealthy(() => c.client.memberRemove(ID)),
      "memberNotFound",
    );
    const peerURLs = [freshUrl()];
    await expectRefused(c.client.memberUpdate({ ID, peerURLs }), "memberNotFound");
    await expectRefused(c.client.memberPromote(ID), "memberNotFound");
  });
};
