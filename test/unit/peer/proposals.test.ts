/**
 * What becomes of proposals when the leader changes: those that it took and lost are proposed
 * again, each takes effect once, and what can't be known is answered as unknown.
 */
import { describe, expect, test } from "vitest";
import { RpcError } from "../../../shared/api/errors.ts";
import { Proposals } from "../../../shared/peer/consensus/proposals.ts";
import type { Entry, Message, ProposedEntry, Refusal, Role } from "../../../shared/raft/types.ts";
import type { InProcessMember } from "../../support/in-process-cluster.ts";
import { get, put, startDriven, valueOf } from "./driven-cluster.ts";
import type { Driven } from "./driven-cluster.ts";

/** Election timeouts are drawn below 2 s; the new leader's first entry takes less than the rest. */
const ANSWERED_MILLISECONDS = 3000;

describe("proposals", () => {
  /** A raft that takes everything, or refuses everything. */
  class Taker {
    term = 1;
    role: Role = "follower";
    refusal: Refusal | undefined;
    readonly taken: ProposedEntry[] = [];

    propose(entries: readonly ProposedEntry[]): Refusal | undefined {
      if (this.refusal === undefined) this.taken.push(...entries);
      return this.refusal;
    }
  }

  function setUp() {
    const options = { forwardAgainMilliseconds: 500 };
    const proposals = new Proposals({ member: 1n, incarnation: 7 }, options);
    const raft = new Taker();
    const outcomes: string[] = [];
    const submit = (deadline = 1000): void => {
      proposals.submit(
        { kind: "compact", revision: 1 },
        {
          applied: () => outcomes.push("applied"),
          failed: ({ code, outcome }) => outcomes.push(`${code}: ${outcome}`),
        },
        { now: 0, deadline },
      );
    };
    const settle = (position: number): void => {
      const { kind, data } = raft.taken[position] as ProposedEntry;
      const entry: Entry = { term: raft.term, index: position + 1, kind, data };
      const result = { kind: "applied", revision: 1, result: undefined } as const;
      proposals.settle(proposals.sequenceOf(entry), result);
    };
    return { proposals, raft, outcomes, submit, settle };
  }

  test("what an earlier term took is offered again, in order, once a later term's entry is applied", () => {
    const { proposals, raft, outcomes, submit, settle } = setUp();
    submit();
    submit();
    submit();
    proposals.flush(raft, 0);
    settle(0);
    raft.term = 2;
    submit();
    proposals.flush(raft, 0);
    expect(raft.taken).toHaveLength(4);
    proposals.appliedIn(1);
    expect(proposals.due).toBe(false);
    proposals.appliedIn(2);
    expect(proposals.due).toBe(true);
    proposals.flush(raft, 0);
    expect(raft.taken.slice(4)).toEqual(raft.taken.slice(1, 3));
    for (const position of [3, 4, 5]) settle(position);
    expect(outcomes).toEqual(["applied", "applied", "applied", "applied"]);
    expect(proposals.pendingCount).toBe(0);
  });

  test("a lost one whose time is over has not happened; one that raft holds may have", () => {
    const { proposals, raft, outcomes, submit } = setUp();
    submit(10);
    proposals.flush(raft, 0);
    proposals.appliedIn(2);
    raft.refusal = "noLeader";
    proposals.flush(raft, 0);
    proposals.sweep(10, () => "timeout");
    raft.refusal = undefined;
    submit(30);
    proposals.flush(raft, 0);
    proposals.sweep(30, () => "timeout");
    expect(outcomes).toEqual(["timeout: none", "timeout: unknown"]);
    expect(raft.taken).toHaveLength(2);
  });

  test("what was never sent is offered again at the next tick, if that term's leader was to have it", () => {
    const { proposals, raft, outcomes, submit, settle } = setUp();
    submit();
    submit();
    proposals.flush(raft, 0);
    proposals.unsent(raft.taken, 2);
    proposals.offerUnsent();
    expect(proposals.due).toBe(false);
    settle(0);
    proposals.unsent(raft.taken, 1);
    expect(proposals.due).toBe(false);
    proposals.offerUnsent();
    proposals.flush(raft, 0);
    expect(raft.taken.slice(2)).toEqual(raft.taken.slice(1, 2));
    proposals.unsent(raft.taken, 1);
    proposals.sweep(1000, () => "timeout");
    proposals.offerUnsent();
    proposals.flush(raft, 0);
    expect(raft.taken).toHaveLength(3);
    expect(outcomes).toEqual(["applied", "timeout: none"]);
  });

  test("what was forwarded is sent again while its term lasts, later and later; a leader's own isn't", () => {
    const { proposals, raft, outcomes, submit, settle } = setUp();
    submit(100_000);
    proposals.flush(raft, 0);
    const sentAt: number[] = [];
    for (let now = 0; now < 8000; now += 100) {
      const before = raft.taken.length;
      proposals.forwardAgain(raft, now);
      if (raft.taken.length > before) sentAt.push(now);
    }
    expect(sentAt).toEqual([500, 1500, 3500, 7500]);
    // One of these copies may have arrived, so that it has to wait for a later term's entry.
    proposals.unsent(raft.taken, 1);
    proposals.offerUnsent();
    raft.term = 2;
    proposals.forwardAgain(raft, 90_000);
    expect(proposals.due).toBe(false);
    proposals.appliedIn(2);
    raft.role = "leader";
    proposals.flush(raft, 90_000);
    proposals.forwardAgain(raft, 99_000);
    expect(new Set(raft.taken).size).toBe(raft.taken.length);
    expect(raft.taken).toHaveLength(6);
    settle(5);
    expect(outcomes).toEqual(["applied"]);
  });

  test("what a snapshot may have brought is never offered again", () => {
    const { proposals, raft, outcomes, submit } = setUp();
    submit();
    proposals.flush(raft, 0);
    proposals.stateReplaced();
    proposals.appliedIn(1);
    expect(outcomes).toEqual([]);
    proposals.appliedIn(2);
    expect(outcomes).toEqual(["timeoutDueToLeaderFail: unknown"]);
    expect(proposals.due).toBe(false);
  });
});

test.each([
  ["never left: it is offered again", true],
  ["may have arrived: the leader takes one of the copies", false],
])("a forwarded put is lost, and %s: it succeeds soon, once", async (_what, certain) => {
  const driven = await startDriven({ members: 3 });
  const { clock, cluster, settled } = driven;
  const { nodeId: leader } = await driven.leader();
  const follower = cluster.followers[0] as InProcessMember;
  let losses = 0;
  cluster.network.filter = (message) => {
    if (message.type !== "propose" || losses === 2) return true;
    losses += 1;
    cluster.network.inboxOf(leader, follower.nodeId)?.unreachable(leader, certain ? [message] : []);
    return false;
  };
  const began = clock.now();
  await settled(put(follower, "key", "value"));
  expect([losses, clock.now() - began < 2000]).toEqual([2, true]);
  expect((await settled(get(follower, "key"))).kvs[0]?.version).toBe(1);
});

test("a put whose copies all arrive, late and in any order, takes effect once", async () => {
  const driven = await startDriven({ members: 3 });
  const { clock, cluster, settled } = driven;
  const { nodeId: leader } = await driven.leader();
  const follower = cluster.followers[0] as InProcessMember;
  const held: Message[] = [];
  cluster.network.filter = (message) => {
    if (message.type !== "propose") return true;
    held.push(message);
    return false;
  };
  const first = put(follower, "key", "1");
  const second = put(follower, "key", "2");
  await clock.until(() => held.length >= 3);
  cluster.network.filter = () => true;
  const inbox = cluster.network.inboxOf(follower.nodeId, leader);
  for (const message of [...held.toReversed(), ...held]) inbox?.messages(message.from, [message]);
  await settled(Promise.all([first, second]));
  for (const message of held) inbox?.messages(message.from, [message]);
  await settled(put(follower, "other", "3"));
  expect((await settled(get(follower, "key"))).kvs[0]?.version).toBe(2);
});

describe("a leader that goes while a put is under way (3 members)", () => {
  /** Version and modRevision of the key: the version counts how often the put took effect. */
  async function versionOf({ settled }: Driven, member: InProcessMember, key: string) {
    const answer = await settled(get(member, key));
    return answer.kvs[0]?.version;
  }

  test.each([
    ["before it hears of it", "propose"],
    ["before it tells the others", "append"],
  ])("crashed %s: the follower's put succeeds, once", async (_when, type) => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock } = driven;
    const leader = await driven.leader();
    const follower = cluster.followers[0] as InProcessMember;
    cluster.network.filter = (message) =>
      message.type !== type || (type === "append" && message.from !== leader.nodeId);
    const started = clock.now();
    const write = put(follower, "key", "value");
    await clock.advance(50);
    leader.crash();
    cluster.network.filter = () => true;
    await driven.settled(write);
    expect(clock.now() - started).toBeLessThan(ANSWERED_MILLISECONDS);
    expect(await versionOf(driven, follower, "key")).toBe(1);
  });

  test("crashed with the entry on one other: it succeeds once, whoever is elected", async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const driven = await startDriven({ members: 3, seed });
      const { cluster, clock } = driven;
      const leader = await driven.leader();
      const [proposer, other] = cluster.followers as [InProcessMember, InProcessMember];
      const only = seed % 2 === 0 ? proposer : other;
      cluster.network.filter = (message) =>
        message.type !== "appendReply" && (message.type !== "append" || message.to === only.nodeId);
      const write = put(proposer, "key", "value");
      await clock.advance(50);
      expect(only.log.lastIndex).toBe(leader.log.lastIndex);
      leader.crash();
      cluster.network.filter = () => true;
      await driven.settled(write);
      expect(await versionOf(driven, other, "key")).toBe(1);
      leader.start();
      expect(await versionOf(driven, leader, "key")).toBe(1);
    }
  });

  test("cut off: its own clients' puts succeed once it is back, each once", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const old = await driven.leader();
    cluster.network.isolate(old.nodeId);
    const writes = ["a", "b", "c"].map((key) => put(old, key, "late"));
    await clock.until(() => cluster.leader !== undefined && cluster.leader !== old);
    await settled(put(cluster.leader as InProcessMember, "a", "early"));
    cluster.network.heal();
    for (const write of writes) await settled(write);
    expect(valueOf(await settled(get(old, "a")))).toBe("late");
    expect(await versionOf(driven, old, "a")).toBe(2);
    expect(await versionOf(driven, old, "c")).toBe(1);
  });

  test("a forwarded put that arrives terms later is dropped: it was proposed again long ago", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const leader = await driven.leader();
    const follower = cluster.followers[0] as InProcessMember;
    const stalled: Message[] = [];
    cluster.network.filter = (message) => {
      if (message.type !== "propose" || message.to !== leader.nodeId) return true;
      stalled.push(message);
      return false;
    };
    const write = put(follower, "key", "value");
    await clock.advance(50);
    leader.crash();
    await settled(write);
    leader.start();
    await settled(cluster.ready());
    cluster.network.filter = () => true;
    expect(stalled.length).toBeGreaterThan(0);
    // To the former leader, which follows by now, and to whoever leads now.
    for (const member of cluster.members) {
      cluster.network.inboxOf(follower.nodeId, member.nodeId)?.messages(
        follower.nodeId,
        stalled.map((message) => ({ ...message, to: member.nodeId })),
      );
    }
    await clock.advance(1000);
    expect(await versionOf(driven, follower, "key")).toBe(1);
  });

  test("handing over: puts through it and through a follower meanwhile succeed, once", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const leader = await driven.leader();
    const follower = cluster.followers[0] as InProcessMember;
    const stopping = leader.stop();
    const started = clock.now();
    const write = put(follower, "key", "value");
    await settled(stopping);
    await settled(write);
    expect(clock.now() - started).toBeLessThan(1000);
    expect(await versionOf(driven, follower, "key")).toBe(1);
  });

  test("a snapshot that may hold the put: its outcome is unknown", async () => {
    const config = { compactLogEvery: 10, catchUpEntries: 5 };
    const driven = await startDriven({ members: 3, config });
    const { cluster, clock, settled } = driven;
    const leader = await driven.leader();
    const proposer = cluster.followers[0] as InProcessMember;
    cluster.network.cut(leader.nodeId, proposer.nodeId);
    const caught = put(proposer, "key", "value").catch((error: unknown) => error);
    await clock.settle();
    cluster.network.isolate(proposer.nodeId);
    for (let count = 0; count < 50; count += 1) await settled(put(leader, `k${count}`, "v"));
    await clock.advance(200);
    expect(leader.log.firstIndex).toBeGreaterThan(proposer.log.lastIndex + 1);
    await settled(leader.stop());
    await clock.until(() => cluster.leader !== undefined && cluster.leader !== leader);
    cluster.network.heal();
    const result = await settled(caught);
    expect(result).toBeInstanceOf(RpcError);
    expect(result).toMatchObject({ code: "timeoutDueToLeaderFail", outcome: "unknown" });
    expect(await versionOf(driven, proposer, "key")).toBe(1);
  });
});
