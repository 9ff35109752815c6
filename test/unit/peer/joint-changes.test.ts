/** Several changes of the members at once over the services: what is let through, and how it ends. */
import { afterEach, describe, expect, test } from "vitest";
import { errorText, RpcError, type ErrorCode } from "../../../shared/api/errors.ts";
import { MemberRemovedError } from "../../../shared/peer/membership-keeper.ts";
import type { Member, MembersChange } from "../../../shared/peer/services.ts";
import { PEER_VERSION_MIN } from "../../../shared/wire/peer-codec.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import type { InProcessMember, InProcessOptions } from "../../support/in-process-cluster.ts";
import { get, put, startDriven, valueOf, type Driven } from "./driven-cluster.ts";

/** Etcd's health window, and a little more. */
const HEALTHY_MILLISECONDS = 5500;
const LEARNERS = { learnersMax: 2 };

let driven: Driven;

afterEach(async () => {
  await driven.settled(driven.cluster.stop());
});

/** A cluster whose members have been connected for long enough; returns its leader. */
async function start(options: InProcessOptions = {}): Promise<InProcessMember> {
  driven = await startDriven({ members: 3, ...options });
  const leading = await driven.leader();
  await driven.clock.advance(HEALTHY_MILLISECONDS);
  return leading;
}

const voter = (name: string) => ({ peerUrls: [`http://${name}:2380`], isLearner: false });
const learner = (name: string) => ({ ...voter(name), isLearner: true });

function change(member: InProcessMember, wanted: Partial<MembersChange>) {
  const { cluster } = member.peer.services;
  return cluster.memberChange({ add: [], promote: [], remove: [], ...wanted }, PATIENT_CALL);
}

function changed(member: InProcessMember, wanted: Partial<MembersChange>) {
  return driven.settled(change(member, wanted));
}

async function expectRefused(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  const error = await driven.settled(promise.catch((reason: unknown) => reason));
  if (!(error instanceof RpcError)) throw new Error(`no refusal: ${String(error)}`);
  expect(error.message).toBe(errorText(code));
}

async function join(id: bigint): Promise<InProcessMember> {
  const joined = driven.cluster.join(id);
  await driven.settled(joined.peer.ready());
  return joined;
}

/** Adds two learners at once and starts them. */
async function addLearners(through: InProcessMember): Promise<InProcessMember[]> {
  const { added } = await changed(through, { add: [learner("a"), learner("b")] });
  const joined: InProcessMember[] = [];
  for (const { id } of added) joined.push(await join(id));
  await driven.clock.advance(HEALTHY_MILLISECONDS);
  return joined;
}

/**
 * Three members, of which the leader and `gone` are to be replaced by two that haven't come: the new
 * half has one of three, so nothing is decided. `asked` is the change's call.
 */
async function startUndecided() {
  const leading = await start({ config: { strictReconfigCheck: false } });
  const [gone, staying] = driven.cluster.followers as [InProcessMember, InProcessMember];
  await driven.settled(put(leading, "key", "before"));
  const asked = change(leading, { add: [voter("a"), voter("b")], remove: [leading.id, gone.id] });
  asked.catch(() => undefined);
  await driven.clock.until(() => staying.peer.raftStatus().membership.autoLeave);
  return { leading, gone, staying, asked };
}

/** The members by a member's own list, also while no quorum answers. */
async function listed(member: InProcessMember): Promise<readonly Member[]> {
  const { cluster } = member.peer.services;
  return (await cluster.memberList({ linearizable: false }, PATIENT_CALL)).members;
}

async function expectLeft(member: InProcessMember): Promise<void> {
  await driven.clock.until(() => member.fatal !== undefined);
  expect(member.fatal).toBeInstanceOf(MemberRemovedError);
  await member.stop();
}

describe("replacing two of three at once", () => {
  test.each(["the leader", "a follower"])(
    "asked of %s, the leader among the two: learners get their votes, nothing is lost",
    async (asked) => {
      const leading = await start({ config: LEARNERS });
      const { cluster, settled } = driven;
      await settled(put(leading, "key", "before"));
      const [leaving, staying] = cluster.followers as [InProcessMember, InProcessMember];
      const joined = await addLearners(leading);
      const answer = await changed(asked === "the leader" ? leading : staying, {
        promote: joined.map(({ id }) => id),
        remove: [leading.id, leaving.id],
      });
      const ids = [staying, ...joined].map(({ id }) => id).toSorted((a, b) => (a < b ? -1 : 1));
      expect(answer.added).toEqual([]);
      expect(answer.members.map(({ id }) => id)).toEqual(ids);
      expect(answer.members.some(({ isLearner }) => isLearner)).toBe(false);
      await expectLeft(leaving);
      await expectLeft(leading);
      for (const member of [staying, ...joined]) {
        await settled(put(member, `by ${member.id}`, "x"));
        expect(valueOf(await settled(get(member, "key")))).toBe("before");
        expect(member.peer.raftStatus().membership.votersOutgoing).toEqual([]);
      }
    },
  );

  test("by new voters: until they have come nothing is decided, also after a restart", async () => {
    const { leading, gone, staying, asked } = await startUndecided();
    const { cluster, clock, settled } = driven;
    // All five are members.
    const members = await listed(staying);
    expect(members).toHaveLength(5);
    for (const member of [leading, gone, staying]) {
      await settled(member.stop());
      member.log = member.log.crash();
      member.start();
      expect(member.peer.raftStatus().membership.votersOutgoing).toHaveLength(3);
    }
    await expect(asked).rejects.toMatchObject({ outcome: "unknown" });
    await clock.advance(HEALTHY_MILLISECONDS);
    // Nobody is elected without the new half, either.
    expect(cluster.leader).toBeUndefined();
    // They vote for one of the old, hear of the change by a snapshot, and it ends by itself.
    const before = new Set([leading, gone, staying].map(({ id }) => id));
    for (const { id } of members.filter((each) => !before.has(each.id))) cluster.join(id);
    await clock.until(() => !staying.peer.raftStatus().membership.autoLeave);
    await expectLeft(gone);
    await expectLeft(leading);
    const next = await driven.leader();
    await settled(put(next, "new", "after"));
    expect(await listed(next)).toHaveLength(3);
    expect(valueOf(await settled(get(staying, "key")))).toBe("before");
  });
});

describe("the rules of single changes", () => {
  test("voters that never started may not outweigh those that have", async () => {
    const leading = await start();
    const [other] = driven.cluster.followers as [InProcessMember];
    await expectRefused(
      change(leading, { add: [voter("a"), voter("b")], remove: [leading.id, other.id] }),
      "memberNotEnoughStarted",
    );
    // One of four may be missing.
    expect((await changed(leading, { add: [voter("a"), learner("b")] })).members).toHaveLength(5);
  });

  test("from one to two voters, and a learner", async () => {
    const leading = await start({ members: 1 });
    expect((await changed(leading, { add: [voter("a"), learner("b")] })).added).toHaveLength(2);
  });

  test("neither half may lack its quorum: old voters that are away, learners that are", async () => {
    const leading = await start({ config: LEARNERS });
    const { cluster, clock } = driven;
    const joined = await addLearners(leading);
    const promote = joined.map(({ id }) => id);
    const [one, two] = cluster.followers.filter((each) => !joined.includes(each));
    const remove = [one, two].flatMap((each) => (each === undefined ? [] : [each.id]));
    for (const each of joined) cluster.network.isolate(each.nodeId);
    await expectRefused(change(leading, { promote, remove }), "unhealthy");
    cluster.network.heal();
    await clock.advance(HEALTHY_MILLISECONDS);
    expect((await changed(leading, { promote, remove })).members).toHaveLength(3);
  });

  test("a learner must have nearly all of the leader's log, whoever is asked", async () => {
    const leading = await start({ config: LEARNERS });
    const { added } = await changed(leading, { add: [learner("a"), learner("b")] });
    const promote = added.map(({ id }) => id);
    for (const member of driven.cluster.members) {
      await expectRefused(change(member, { promote }), "learnerNotReady");
      await expectRefused(change(member, { promote: [99n, 98n] }), "memberNotFound");
    }
  });

  test("max-learners counts what comes of it", async () => {
    const leading = await start({ members: 1 });
    const { added } = await changed(leading, { add: [learner("a")] });
    const [first] = added as [Member];
    const more = { add: [learner("b"), learner("c")], remove: [first.id] };
    await expectRefused(change(leading, more), "tooManyLearners");
    const instead = { add: [learner("b")], remove: [first.id] };
    expect((await changed(leading, instead)).members).toHaveLength(2);
    // Its id is gone for good; its address isn't.
    await expectRefused(
      change(leading, { remove: [first.id], add: [voter("d")] }),
      "memberNotFound",
    );
    const remove = idsOf((await listed(leading)).filter(({ isLearner }) => isLearner));
    const anew = await changed(leading, { add: [learner("a")], remove });
    expect(anew.added[0]?.id).not.toBe(first.id);
  });

  test("what names nobody, somebody twice, or too many is no change", async () => {
    const leading = await start({ members: 1 });
    const text = "a change names 1 to 32 members, each of them once";
    const many = Array.from({ length: 33 }, (_, place) => BigInt(place + 100));
    for (const wanted of [{}, { promote: [7n], remove: [7n] }, { remove: many }]) {
      await expect(changed(leading, wanted)).rejects.toThrow(text);
    }
    const add = [{ peerUrls: ["nonsense"], isLearner: false }];
    await expectRefused(change(leading, { add }), "memberBadUrls");
  });

  test("it waits for the last member that couldn't read it", async () => {
    const leading = await start({ config: { version: PEER_VERSION_MIN } });
    await expectRefused(change(leading, { add: [learner("a")], remove: [] }), "notCapable");
  });
});

test("--force-new-cluster ends a joint change, too", async () => {
  const { leading, gone, staying } = await startUndecided();
  const { settled } = driven;
  for (const member of [leading, gone, staying]) member.crash();
  staying.config = { forceNewCluster: true };
  staying.start();
  await settled(staying.peer.ready());
  expect(idsOf(await listed(staying))).toEqual([staying.id]);
  expect(valueOf(await settled(get(staying, "key")))).toBe("before");
  await settled(put(staying, "key", "again"));
});

function idsOf(members: readonly Member[]): bigint[] {
  return members.map(({ id }) => id);
}
