/** Changes of the members over the services: who may join when, how one joins, and how one goes. */
import { afterEach, describe, expect, test } from "vitest";
import { errorText, RpcError, type ErrorCode } from "../../../shared/api/errors.ts";
import { MemberRemovedError } from "../../../shared/peer/membership-keeper.ts";
import type { MembersAnswer } from "../../../shared/peer/services.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import type { InProcessMember, InProcessOptions } from "../../support/in-process-cluster.ts";
import { get, put, startDriven, valueOf, type Driven } from "./driven-cluster.ts";

/** Etcd's health window, and a little more. */
const HEALTHY_MILLISECONDS = 5500;
const URL = (name: string): string => `http://${name}:2380`;

let driven: Driven;

async function start(options: InProcessOptions = {}): Promise<Driven> {
  driven = await startDriven(options);
  return driven;
}

afterEach(async () => {
  await driven.settled(driven.cluster.stop());
});

function services(member: InProcessMember) {
  return member.peer.services;
}

function add(member: InProcessMember, name: string, isLearner = false) {
  const options = { peerUrls: [URL(name)], isLearner };
  return driven.settled(services(member).cluster.memberAdd(options, PATIENT_CALL));
}

function remove(member: InProcessMember, id: bigint) {
  return driven.settled(services(member).cluster.memberRemove(id, PATIENT_CALL));
}

function promote(member: InProcessMember, id: bigint) {
  return driven.settled(services(member).cluster.memberPromote(id, PATIENT_CALL));
}

async function list(member: InProcessMember): Promise<MembersAnswer["members"]> {
  const listed = services(member).cluster.memberList({ linearizable: true }, PATIENT_CALL);
  return (await driven.settled(listed)).members;
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof RpcError)) throw new Error(`no refusal: ${String(error)}`);
  return error.message;
}

/** Adds a member and starts it; resolves once it can serve. */
async function grow(through: InProcessMember, name: string, isLearner = false) {
  const { member } = await add(through, name, isLearner);
  const joined = driven.cluster.join(member.id);
  await driven.settled(joined.peer.ready());
  return joined;
}

async function expectRefused(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  expect(await refusal(promise)).toBe(errorText(code));
}

describe("adding", () => {
  test("a second member gets all data by a snapshot, and both serve", async () => {
    const { cluster, settled } = await start();
    const first = cluster.member(0);
    await settled(put(first, "old", "1"));
    const answer = await add(first, "m2");
    expect(answer.header.revision).toBe(0);
    expect(answer.member).toMatchObject({ name: "", peerUrls: [URL("m2")], isLearner: false });
    expect(answer.members.map(({ id }) => id)).toContain(answer.member.id);
    const second = cluster.join(answer.member.id);
    await settled(second.peer.ready());
    await settled(put(second, "new", "2"));
    for (const member of cluster.members) {
      expect(valueOf(await settled(get(member, "old")))).toBe("1");
      expect(valueOf(await settled(get(member, "new")))).toBe("2");
      expect((await list(member)).map(({ name }) => name).toSorted()).toEqual(
        ["m1", `m${answer.member.id}`].toSorted(),
      );
    }
  });

  test("a follower takes the call as well, and answers once it has applied it itself", async () => {
    const { cluster, clock, leader } = await start({ members: 3 });
    await leader();
    await clock.advance(HEALTHY_MILLISECONDS);
    const follower = cluster.followers[0] as InProcessMember;
    const { members, member } = await add(follower, "m4");
    expect(members).toHaveLength(4);
    const known = services(follower).cluster.memberList({ linearizable: false }, PATIENT_CALL);
    expect((await known).members.map(({ id }) => id)).toContain(member.id);
  });

  test.each([
    [[]],
    [["127.0.0.1:2380"]],
    [["http://m2"]],
    [["http://m2:2380/path"]],
    [["ftp://m2:2380"]],
    [[URL("m2"), "nonsense"]],
  ])("refuses the peer URLs %j", async (peerUrls) => {
    const { cluster } = await start();
    const { cluster: members } = services(cluster.member(0));
    const call = members.memberAdd({ peerUrls, isLearner: false }, PATIENT_CALL);
    await expectRefused(driven.settled(call), "memberBadUrls");
  });

  test("refuses a peer URL that a member has", async () => {
    const { cluster } = await start();
    const first = cluster.member(0);
    await add(first, "m2", true);
    await expectRefused(add(first, "m2"), "peerUrlExist");
    expect(await list(first)).toHaveLength(2);
  });

  test("refuses more learners than are allowed", async () => {
    const { cluster } = await start({ config: { learnersMax: 2 } });
    const first = cluster.member(0);
    await add(first, "m2", true);
    await add(first, "m3", true);
    await expectRefused(add(first, "m4", true), "tooManyLearners");
  });

  test("refuses a third voter while the second has never started", async () => {
    const { cluster } = await start();
    const first = cluster.member(0);
    await add(first, "m2");
    await expectRefused(add(first, "m3"), "memberNotEnoughStarted");
  });

  test("refuses a fourth voter while one of three is not connected", async () => {
    const { cluster, clock, leader } = await start({ members: 3 });
    const leading = await leader();
    await clock.advance(HEALTHY_MILLISECONDS);
    cluster.network.isolate((cluster.followers[0] as InProcessMember).nodeId);
    await expectRefused(add(leading, "m4"), "unhealthy");
    await clock.advance(500);
    cluster.network.heal();
    await clock.advance(1000);
    // Back, but not for long enough yet.
    await expectRefused(add(leading, "m4"), "unhealthy");
    await clock.advance(HEALTHY_MILLISECONDS);
    expect((await add(leading, "m4")).members).toHaveLength(4);
  });

  test("without the strict check it is let through", async () => {
    const { cluster, leader } = await start({
      members: 3,
      config: { strictReconfigCheck: false },
    });
    const leading = await leader();
    cluster.network.isolate((cluster.followers[0] as InProcessMember).nodeId);
    expect((await add(leading, "m4")).members).toHaveLength(4);
  });

  test("changes that are asked for at once go one after the other", async () => {
    const { cluster } = await start({ config: { learnersMax: 5 } });
    const first = cluster.member(0);
    const added = await Promise.all(["a", "b", "c", "d"].map((name) => add(first, name, true)));
    expect(new Set(added.map(({ member }) => member.id)).size).toBe(4);
    expect(await list(first)).toHaveLength(5);
  });
});

describe("a learner", () => {
  test("follows, has no vote, and says what it is", async () => {
    const { cluster, settled, clock } = await start();
    const first = cluster.member(0);
    await settled(put(first, "key", "value"));
    const learner = await grow(first, "m2", true);
    const status = await services(learner).maintenance.status(PATIENT_CALL);
    expect(status.isLearner).toBe(true);
    expect(valueOf(await get(learner, "key", { serializable: true }))).toBe("value");
    const learners = (await list(first)).filter(({ isLearner }) => isLearner);
    expect(learners.map(({ id }) => id)).toEqual([learner.id]);
    // The voter alone is a quorum.
    cluster.network.isolate(learner.nodeId);
    await settled(put(first, "key", "later"));
    await clock.advance(3000);
    expect(learner.peer.raftStatus().role).toBe("follower");
  });

  test("is promoted once it has nearly all of the log, by whomever is asked", async () => {
    const { cluster, settled, clock, leader } = await start({ members: 3 });
    await leader();
    await clock.advance(HEALTHY_MILLISECONDS);
    const follower = cluster.followers[0] as InProcessMember;
    const { member } = await add(follower, "m4", true);
    for (let count = 0; count < 50; count += 1) await settled(put(follower, "key", `${count}`));
    await expectRefused(promote(follower, member.id), "learnerNotReady");
    const learner = cluster.join(member.id);
    await settled(learner.peer.ready());
    const { members } = await promote(follower, member.id);
    expect(members.every(({ isLearner }) => !isLearner)).toBe(true);
    await settled(put(learner, "key", "by a voter"));
    expect(learner.peer.raftStatus().membership.voters).toHaveLength(4);
  });

  test("promotion is refused to voters and strangers", async () => {
    const { cluster, leader } = await start({ members: 3 });
    const leading = await leader();
    const follower = cluster.followers[0] as InProcessMember;
    for (const asked of [leading, follower]) {
      await expectRefused(promote(asked, follower.id), "memberNotLearner");
      await expectRefused(promote(asked, 99n), "memberNotFound");
    }
  });
});

describe("removing", () => {
  test("a follower learns of it, stops, and doesn't start again", async () => {
    const { cluster, settled, clock, leader } = await start({ members: 3 });
    const leading = await leader();
    await clock.advance(HEALTHY_MILLISECONDS);
    const gone = cluster.followers[0] as InProcessMember;
    const { members } = await remove(leading, gone.id);
    expect(members.map(({ id }) => id)).not.toContain(gone.id);
    await clock.until(() => gone.fatal !== undefined);
    expect(gone.fatal).toBeInstanceOf(MemberRemovedError);
    await gone.stop();
    await settled(put(leading, "key", "without it"));
    const again = cluster.followers[0] as InProcessMember;
    expect(valueOf(await settled(get(again, "key")))).toBe("without it");
  });

  test("one that was away is told when it comes back", async () => {
    const { cluster, clock, leader } = await start({ members: 3 });
    const leading = await leader();
    await clock.advance(HEALTHY_MILLISECONDS);
    const gone = cluster.followers[0] as InProcessMember;
    gone.crash();
    await remove(leading, gone.id);
    await clock.advance(3000);
    gone.start();
    await clock.until(() => gone.fatal !== undefined);
    expect(gone.fatal).toBeInstanceOf(MemberRemovedError);
    await gone.stop();
  });

  test("a leader hands over, and then stops", async () => {
    const { settled, clock, leader } = await start({ members: 3 });
    const leading = await leader();
    await clock.advance(HEALTHY_MILLISECONDS);
    await remove(leading, leading.id);
    await clock.until(() => leading.fatal !== undefined);
    expect(leading.fatal).toBeInstanceOf(MemberRemovedError);
    await leading.stop();
    const next = await leader();
    expect(next).not.toBe(leading);
    await settled(put(next, "key", "goes on"));
    expect(() => leading.start()).toThrow(MemberRemovedError);
  });

  test("its id and the ids of strangers are not found", async () => {
    const { cluster } = await start();
    const first = cluster.member(0);
    const { member } = await add(first, "m2", true);
    await remove(first, member.id);
    await expectRefused(remove(first, member.id), "memberNotFound");
    await expectRefused(promote(first, member.id), "memberNotFound");
    await expectRefused(remove(first, 99n), "memberNotFound");
    // The same address again is another member.
    expect((await add(first, "m2", true)).member.id).not.toBe(member.id);
  });

  test("the last voter stays, whatever the check", async () => {
    for (const strictReconfigCheck of [true, false]) {
      const { cluster } = await start({ config: { strictReconfigCheck } });
      const only = cluster.member(0);
      await expectRefused(remove(only, only.id), "memberNotEnoughStarted");
      expect(await list(only)).toHaveLength(1);
      if (strictReconfigCheck) await driven.settled(cluster.stop());
    }
  });

  test("one that works is kept while another is down; the one that is down may go", async () => {
    const { cluster, clock, leader } = await start({ members: 3 });
    const leading = await leader();
    await clock.advance(HEALTHY_MILLISECONDS);
    const [works, down] = cluster.followers as [InProcessMember, InProcessMember];
    cluster.network.isolate(down.nodeId);
    await expectRefused(remove(leading, works.id), "unhealthy");
    expect((await remove(leading, down.id)).members).toHaveLength(2);
  });
});

describe("updating", () => {
  test("moves a member to other URLs, which nobody else may have", async () => {
    const { cluster } = await start({ members: 3 });
    const first = cluster.member(0);
    const update = (id: bigint, peerUrls: string[]) =>
      driven.settled(services(first).cluster.memberUpdate({ id, peerUrls }, PATIENT_CALL));
    const { members } = await update(2n, [URL("b"), URL("a")]);
    expect(members.find(({ id }) => id === 2n)?.peerUrls).toEqual([URL("a"), URL("b")]);
    await expectRefused(update(3n, [URL("b")]), "peerUrlExist");
    await expectRefused(update(99n, [URL("c")]), "memberNotFound");
    await expectRefused(update(3n, ["nonsense"]), "memberBadUrls");
    // Its own URL isn't taken.
    expect((await update(2n, [URL("b")])).members).toHaveLength(3);
  });
});

describe("moving the lead", () => {
  test("goes to the voter that is named, on the leader's own word only", async () => {
    const { cluster, settled, leader } = await start({ members: 3 });
    const leading = await leader();
    const [target, other] = cluster.followers as [InProcessMember, InProcessMember];
    const move = (member: InProcessMember, to: bigint) =>
      settled(services(member).maintenance.moveLeader(to, PATIENT_CALL));
    await expectRefused(move(other, target.id), "notLeader");
    await expectRefused(move(leading, 99n), "badLeaderTransferee");
    await move(leading, target.id);
    expect((await leader()).id).toBe(target.id);
    // Already so.
    await move(target, target.id);
  });

  test("not to a learner", async () => {
    const { cluster, settled } = await start();
    const first = cluster.member(0);
    const learner = await grow(first, "m2", true);
    const move = services(first).maintenance.moveLeader(learner.id, PATIENT_CALL);
    await expectRefused(settled(move), "badLeaderTransferee");
  });
});

describe("force-new-cluster", () => {
  test("the last of three goes on alone with all data, and grows again", async () => {
    const { cluster, settled, clock, leader } = await start({ members: 3 });
    const leading = await leader();
    for (let count = 0; count < 20; count += 1) await settled(put(leading, `k${count}`, "v"));
    const last = cluster.followers[0] as InProcessMember;
    for (const member of cluster.members) member.crash();
    last.config = { forceNewCluster: true };
    last.start();
    await settled(last.peer.ready());
    expect((await list(last)).map(({ id }) => id)).toEqual([last.id]);
    expect(valueOf(await settled(get(last, "k19")))).toBe("v");
    // Twice does no harm, and without the option it stays as it is.
    last.crash();
    last.start();
    await settled(last.peer.ready());
    last.crash();
    last.config = {};
    last.start();
    await settled(last.peer.ready());
    const joined = await grow(last, "m4");
    expect(valueOf(await settled(get(joined, "k0")))).toBe("v");
    // The others are out for good.
    const old = cluster.members.find((member) => !member.running) as InProcessMember;
    old.start();
    await clock.until(() => old.fatal !== undefined);
    expect(old.fatal).toBeInstanceOf(MemberRemovedError);
    await old.stop();
  });

  test("a learner gets the vote", async () => {
    const { cluster, settled } = await start();
    const first = cluster.member(0);
    await settled(put(first, "key", "value"));
    const learner = await grow(first, "m2", true);
    first.crash();
    learner.crash();
    learner.config = { forceNewCluster: true };
    learner.start();
    await settled(learner.peer.ready());
    expect(await list(learner)).toMatchObject([{ id: learner.id, isLearner: false }]);
    expect(valueOf(await settled(get(learner, "key")))).toBe("value");
  });
});
