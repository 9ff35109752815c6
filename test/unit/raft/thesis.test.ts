/** raft: the rules of the Raft thesis (Ongaro 2014), each test naming the section it verifies. */
import { describe, expect, test } from "vitest";
import type { Entry, Message } from "../../../shared/raft/types.ts";
import { Cluster, command, type Host, isolate } from "./cluster.ts";

function entry(term: number, index: number): Entry {
  return { term, index, kind: "normal", data: command(`${term}/${index}`).data };
}

/** Takes, writes and flushes whatever is ready on one node, and returns what it said. */
function drain(host: Host): Message[] {
  while (host.raft.hasReady()) {
    host.process();
    host.flush();
  }
  const said = host.cluster.parcels.map((each) => each.message);
  host.cluster.parcels = [];
  return said;
}

function roles(cluster: Cluster): string[] {
  return [...cluster.hosts.values()].map(({ raft }) => raft.status().role);
}

describe("elections", () => {
  test("thesis 3.3: a candidate or leader that sees a higher term becomes a follower", () => {
    const cluster = new Cluster();
    cluster.elect("1");
    const { raft } = cluster.host("1");
    raft.step({ type: "voteReply", from: "2", to: "1", term: 9, reject: true, ...NOTHING });
    expect(raft.status()).toMatchObject({ role: "follower", term: 9, leader: undefined });
  });

  test("thesis 3.4: a split vote elects nobody, and a later term decides", () => {
    const cluster = new Cluster({ voters: 4, tuning: { preVote: false, checkQuorum: false } });
    cluster.host("1").raft.campaign();
    cluster.host("2").raft.campaign();
    const halves = new Map([
      ["3", "2"],
      ["4", "1"],
    ]);
    cluster.settle(({ from, to }) => halves.get(from) === to || halves.get(to) === from);
    expect(roles(cluster)).not.toContain("leader");
    cluster.elect("1");
    expect(cluster.host("1").raft.status().term).toBeGreaterThan(1);
  });

  test("thesis 3.4: election timeouts are spread over one to two election ticks", () => {
    const seen = new Set<number>();
    for (let seed = 1; seed <= 40; seed += 1) {
      const host = new Cluster({ seed, tuning: { electionTicks: 10 } }).host("1");
      let ticks = 0;
      while (host.raft.status().role === "follower") {
        host.raft.tick();
        ticks += 1;
      }
      seen.add(ticks);
    }
    expect(Math.min(...seen)).toBe(10);
    expect(Math.max(...seen)).toBe(19);
    expect(seen.size).toBeGreaterThan(7);
  });

  test("thesis 3.6.1: a vote needs a log at least as up to date, by term, then by length", () => {
    for (const [lastTerm, lastIndex, granted] of [
      [1, 9, false],
      [2, 1, false],
      [2, 2, true],
      [2, 3, true],
      [3, 1, true],
    ] as const) {
      const host = new Cluster().host("2");
      const envelope = { from: "1", to: "2", term: 2 };
      const entries = [entry(1, 1), entry(2, 2)];
      const start = { previousIndex: 0, previousTerm: 0, entries, commit: 0 };
      host.receive({ message: { ...envelope, type: "append", ...start }, image: undefined });
      drain(host);
      host.raft.step({
        type: "vote",
        from: "3",
        to: "2",
        term: 5,
        transfer: true,
        lastTerm,
        lastIndex,
      });
      const reply = drain(host).find((each) => each.type === "voteReply");
      expect(reply, `${lastTerm}/${lastIndex}`).toMatchObject({ reject: !granted });
    }
  });

  test("thesis 3.8: a vote leaves only once it is durable, and binds after a crash", () => {
    const cluster = new Cluster();
    const host = cluster.host("2");
    const request = { type: "vote", to: "2", term: 1, lastIndex: 0, lastTerm: 0 } as const;
    host.raft.step({ ...request, from: "1", transfer: false });
    host.process();
    expect(cluster.parcels).toEqual([]);
    host.flush();
    expect(cluster.parcels.map((each) => each.message)).toMatchObject([{ reject: false }]);
    host.restart();
    cluster.parcels = [];
    host.raft.step({ ...request, from: "3", transfer: false });
    expect(drain(host)).toMatchObject([{ to: "3", reject: true }]);
  });

  test("thesis 4.2.3: votes are refused while a leader is heard, except to a transferee", () => {
    const cluster = new Cluster();
    cluster.elect("1");
    const host = cluster.host("2");
    const request = { type: "vote", from: "3", to: "2", lastIndex: 9, lastTerm: 9 } as const;
    host.raft.step({ ...request, term: 7, transfer: false });
    expect(host.raft.status().term).toBe(1);
    host.raft.step({ ...request, term: 7, transfer: true });
    expect(host.raft.status().term).toBe(7);
  });

  test("thesis 9.6: a pre-vote changes neither term nor vote", () => {
    const cluster = new Cluster();
    const host = cluster.host("2");
    const request = { type: "preVote", from: "1", to: "2", lastIndex: 0, lastTerm: 0 } as const;
    host.raft.step({ ...request, term: 1, transfer: false });
    expect(drain(host)).toMatchObject([{ type: "preVoteReply", reject: false, term: 1 }]);
    expect(host.raft.status().term).toBe(0);
    expect(host.store.hardState).toBeUndefined();
  });
});

describe("replication", () => {
  test("thesis 3.5: an append is refused unless the entry before it matches", () => {
    const host = new Cluster().host("2");
    const append = { type: "append", from: "1", to: "2", term: 2, commit: 0 } as const;
    host.raft.step({ ...append, previousIndex: 3, previousTerm: 1, entries: [entry(2, 4)] });
    expect(drain(host)).toMatchObject([{ type: "appendReply", reject: true, index: 3 }]);
    expect(host.store.lastIndex).toBe(0);
  });

  test("thesis 3.5: only a conflict truncates; a late, shorter append takes nothing away", () => {
    const host = new Cluster().host("2");
    const append = { type: "append", from: "1", to: "2", term: 1, commit: 0 } as const;
    const start = { previousIndex: 0, previousTerm: 0 };
    host.raft.step({ ...append, ...start, entries: [entry(1, 1), entry(1, 2), entry(1, 3)] });
    host.raft.step({ ...append, ...start, entries: [entry(1, 1)] });
    drain(host);
    expect(host.store.lastIndex).toBe(3);
    const conflict = { previousIndex: 1, previousTerm: 1, entries: [entry(2, 2)] };
    host.raft.step({ ...append, ...conflict, term: 2 });
    drain(host);
    expect([host.store.lastIndex, host.store.termOf(2)]).toEqual([2, 2]);
  });

  test("thesis 3.5: a follower commits no further than the append reaches", () => {
    const host = new Cluster().host("2");
    const append = { type: "append", from: "1", to: "2", term: 1 } as const;
    const start = { previousIndex: 0, previousTerm: 0 };
    host.raft.step({ ...append, ...start, entries: [entry(1, 1), entry(1, 2)], commit: 0 });
    host.raft.step({ ...append, ...start, entries: [entry(1, 1)], commit: 2 });
    expect(host.raft.status().commit).toBe(1);
  });

  test("thesis 3.6.2: a leader commits by counting only entries of its own term (figure 3.7)", () => {
    const tuning = { preVote: false, checkQuorum: false };
    const cluster = new Cluster({ voters: 5, tuning });
    // (a) 1 leads term 1 and gets an entry to 2 alone.
    cluster.elect("1");
    cluster.propose("1", "old");
    cluster.settle(({ from, to }) => !(["1", "2"].includes(from) && ["1", "2"].includes(to)));
    // (b) 5 leads term 2 with votes of 3 and 4, and gets nothing out.
    cluster.host("5").raft.campaign();
    cluster.settle((m) => ["1", "2"].includes(m.to) || (m.type === "append" && m.from === "5"));
    expect(cluster.host("5").raft.status()).toMatchObject({ role: "leader", term: 2 });
    // (c) 1 leads again, and "old" reaches 3: a majority holds it, but it is of term 1.
    cluster.host("1").raft.step({ ...HEARTBEAT, from: "5", to: "1", term: 2 });
    cluster.settle(isolate("5"));
    const old = cluster.host("1").store.lastIndex;
    const before = cluster.host("1").raft.status().commit;
    expect(before).toBeLessThan(old);
    cluster.host("1").raft.campaign();
    // Its own opening entry reaches nobody, the old one everybody.
    const onlyOld = (m: Message): boolean =>
      isolate("5")(m) || (m.type === "append" && m.entries.some((each) => each.term > 1));
    cluster.settle(onlyOld);
    const { raft } = cluster.host("1");
    expect(raft.status().role).toBe("leader");
    const { term } = raft.status();
    for (const from of ["2", "3"]) {
      const ack = { reject: false, hintIndex: 0, hintTerm: 0 };
      raft.step({ type: "appendReply", from, to: "1", term, index: old, ...ack });
    }
    expect(raft.status().commit).toBe(before);
    // (e) With an entry of its own term on a majority, the old one is committed along with it.
    for (const from of ["2", "3"]) {
      const ack = { reject: false, hintIndex: 0, hintTerm: 0 };
      raft.step({ type: "appendReply", from, to: "1", term, index: old + 1, ...ack });
    }
    expect(raft.status().commit).toBe(old + 1);
  });

  test("thesis 3.3: a leader never overwrites its own entries, and appends at the end", () => {
    const cluster = new Cluster();
    cluster.elect("1");
    const first = cluster.host("1").store.lastIndex;
    cluster.propose("1", "a");
    cluster.propose("1", "b");
    cluster.settle();
    expect(cluster.host("1").store.lastIndex).toBe(first + 2);
    expect(cluster.host("3").commands).toEqual(["", "a", "b"]);
  });

  test("thesis 10.2.1: a leader counts itself once durable; two followers do without it", () => {
    const cluster = new Cluster();
    cluster.elect("1");
    const { raft } = cluster.host("1");
    cluster.propose("1", "a");
    cluster.host("1").process();
    const ack = { reject: false, hintIndex: 0, hintTerm: 0, index: 2, term: 1, to: "1" };
    raft.step({ type: "appendReply", from: "2", ...ack });
    expect(raft.status().commit).toBe(1);
    raft.step({ type: "appendReply", from: "3", ...ack });
    expect(raft.status().commit).toBe(2);
    expect(cluster.host("1").store.pendingWrites).toBe(1);
  });
});

describe("reads, transfer and members", () => {
  test("thesis 6.4: a leader that is cut off confirms no read", () => {
    const cluster = new Cluster({ tuning: { checkQuorum: false } });
    cluster.elect("1");
    cluster.host("1").raft.readIndex(1);
    cluster.settle(isolate("1"));
    cluster.elect("2");
    cluster.settle();
    expect(cluster.host("1").readStates).toEqual([]);
  });

  test("thesis 6.4: an answer to an older round confirms no newer read", () => {
    const cluster = new Cluster();
    cluster.elect("1");
    const leader = cluster.host("1");
    leader.raft.readIndex(1);
    leader.process();
    const lateAnswers = cluster.parcels;
    cluster.parcels = [];
    leader.raft.readIndex(2);
    leader.process();
    cluster.parcels = lateAnswers;
    cluster.deliver();
    for (const id of ["2", "3"]) cluster.host(id).process();
    cluster.deliver();
    leader.process();
    expect(leader.readStates).toEqual([{ context: 1, index: 1 }]);
  });

  test("an answer to a read that was asked before a restart confirms none asked after it", () => {
    const cluster = new Cluster();
    cluster.elect("1");
    const follower = cluster.host("2");
    follower.raft.readIndex(1);
    follower.process();
    const [asked] = cluster.parcels;
    cluster.settle();
    expect(follower.readStates).toEqual([{ context: 1, index: 1 }]);
    follower.restart();
    cluster.host("1").raft.tick();
    cluster.settle();
    expect(follower.raft.readIndex(1)).toBeUndefined();
    follower.process();
    cluster.parcels = asked === undefined ? [] : [asked];
    cluster.settle();
    expect(follower.readStates).toEqual([{ context: 1, index: 1 }]);
  });

  test("thesis 3.10: a transferee is elected at once, in one new term", () => {
    const cluster = new Cluster();
    cluster.elect("1");
    expect(cluster.host("1").raft.transferLeader("3")).toBeUndefined();
    cluster.settle();
    expect(cluster.host("3").raft.status()).toMatchObject({ role: "leader", term: 2 });
  });

  test("thesis 4.2.1: learners don't count for the commit, nor campaign", () => {
    const cluster = new Cluster({ voters: 2, learners: 1 });
    cluster.elect("1");
    cluster.propose("1", "a");
    cluster.settle(isolate("2"));
    expect(cluster.host("1").raft.status().commit).toBe(1);
    const learner = cluster.host("3");
    for (let ticks = 0; ticks < 40; ticks += 1) learner.raft.tick();
    expect(learner.raft.status().role).toBe("follower");
  });
});

const NOTHING = { commit: 0, commitTerm: 0 } as const;
const HEARTBEAT = { type: "heartbeat", commit: 0, round: 0 } as const;
