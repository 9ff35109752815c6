/** A replica that all goes well with: its copy, its feed, reads of each level, watches, and its next start. */
import { describe, expect, test } from "vitest";
import { RpcError } from "../../../shared/api/errors.ts";
import { utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { wholeRange } from "../../../shared/mvcc/types.ts";
import { ManualClock } from "../../support/clocks.ts";
import { ScriptedCluster } from "../../support/scripted-cluster.ts";
import {
  LINEARIZABLE,
  SERIALIZABLE,
  Watching,
  caughtUp,
  driven,
  point,
  read,
  shown,
  startReplica,
} from "./driven-replica.ts";

function clusterOf(keys: number): ScriptedCluster {
  const cluster = new ScriptedCluster();
  for (let place = 0; place < keys; place += 1) cluster.put(`p/${place}`, `v${place}`);
  cluster.put("other", "not followed");
  return cluster;
}

/** A replica of so many keys that has come as far as they have. */
async function following(keys: number) {
  const cluster = clusterOf(keys);
  const replica = startReplica({ cluster });
  await caughtUp(replica);
  return { cluster, replica };
}

describe("the copy", () => {
  test("holds the range as it was at one revision, page by page, and nothing else", async () => {
    const cluster = clusterOf(200);
    cluster.put("p/7", "again", 77n);
    cluster.delete("p/8");
    const replica = startReplica({ cluster });
    await caughtUp(replica);
    const own = await read(replica);
    const source = cluster.store.range(wholeRange(utf8("p/"), utf8("p0")));
    expect(own.kvs).toEqual("code" in source ? [] : source.kvs);
    expect(own.count).toBe(199);
    expect(own.kvs.find(({ lease }) => lease === 77n)).toMatchObject({ version: 2 });
    expect(cluster.pages).toBeGreaterThan(2);
  });

  test("is one state, whatever is written while its pages are read", async () => {
    const cluster = clusterOf(100);
    let writes = 0;
    cluster.before = ({ op }) => {
      // Behind the page that was read and before it.
      if (op.countOnly || op.revision === 0) return;
      writes += 1;
      cluster.put("p/0", `later ${writes}`);
      cluster.put("p/99", `later ${writes}`);
    };
    const replica = startReplica({ cluster });
    await caughtUp(replica);
    expect(writes).toBeGreaterThan(1);
    const kvs = (await read(replica)).kvs;
    const source = cluster.store.range(wholeRange(utf8("p/"), utf8("p0")));
    expect(kvs).toEqual("code" in source ? [] : source.kvs);
    expect(replica.replica.status.copies).toBe(1);
  });

  test("holds a page in memory, not the range: pages shrink to fit large values", async () => {
    const cluster = new ScriptedCluster();
    const value = "x".repeat(100 * 1024);
    for (let place = 0; place < 150; place += 1) cluster.put(`p/${place}`, value);
    const pageKeys: number[] = [];
    cluster.before = ({ op }) => {
      if (!op.countOnly) pageKeys.push(op.limit);
    };
    const replica = startReplica({ cluster });
    await caughtUp(replica);
    const all = await driven(replica.clock, read(replica, { keysOnly: true }));
    expect(all.count).toBe(150);
    // The first page can't know; the others hold a megabyte.
    expect(Math.max(...pageKeys.slice(1)) * value.length).toBeLessThanOrEqual(1.1 * 1024 * 1024);
  });

  test("asks for less when a page's answer is too large to be sent", async () => {
    const cluster = clusterOf(40);
    let refusals = 0;
    cluster.before = ({ op }) => {
      if (op.countOnly || op.limit <= 3) return;
      refusals += 1;
      throw new RpcError("outOfRange", "the answer has too many bytes: ask for fewer keys");
    };
    const replica = startReplica({ cluster });
    await caughtUp(replica);
    expect(refusals).toBeGreaterThan(0);
    expect((await read(replica)).count).toBe(40);
  });

  test("until it is there, reads and watches are refused, and so are writes and other keys at all times", async () => {
    const cluster = clusterOf(1);
    cluster.isDown = true;
    const replica = startReplica({ cluster });
    await expect(read(replica)).rejects.toThrow("not copied yet");
    const early = new Watching(replica);
    expect(early.endedBy).toContain("not copied yet");
    cluster.isDown = false;
    await caughtUp(replica);
    await expect(read(replica, point("other"))).rejects.toThrow("not followed here");
    await expect(read(replica, { rangeEnd: Uint8Array.of(0) })).rejects.toThrow("not followed");
    const { kv } = replica.replica.services;
    const op = { revision: 1, physical: false };
    const call = { timeoutMilliseconds: 1, requireLeader: false, onCancel: () => undefined };
    expect(() => kv.compact(op, call)).toThrow("ask a peer");
  });
});

describe("the levels", () => {
  test("linearizable: what was written before is read, though the feed is late", async () => {
    const { cluster, replica } = await following(3);
    cluster.isHeld = true;
    cluster.put("p/1", "new");
    const late = read(replica, point("p/1"), LINEARIZABLE);
    await replica.clock.advance(300);
    const before = await read(replica, point("p/1"));
    expect(shown(before)).toEqual(["p/1=v1@3"]);
    cluster.release();
    const answer = await driven(replica.clock, late);
    expect(shown(answer)).toEqual([`p/1=new@${cluster.store.revision}`]);
    expect(answer.ageMilliseconds).toBe(0);
  });

  test("linearizable: what isn't in the range is waited for by asking for progress", async () => {
    const { cluster, replica } = await following(3);
    cluster.put("other", "again");
    const answer = await driven(replica.clock, read(replica, {}, LINEARIZABLE));
    expect(answer.header.revision).toBe(cluster.store.revision);
  });

  test("linearizable: reads that come close together share a round, later ones get one of their own", async () => {
    const { cluster, replica } = await following(3);
    const gate = Promise.withResolvers<void>();
    cluster.before = () => gate.promise;
    const before = cluster.confirmations;
    const reads: Promise<unknown>[] = [];
    const ask = async (count: number): Promise<void> => {
      for (let turn = 0; turn < count; turn += 1) {
        reads.push(read(replica, {}, LINEARIZABLE));
        await replica.clock.settle();
      }
    };
    // Long after the last round: the first begins at once, the others share the next.
    await replica.clock.advance(1000);
    await ask(20);
    expect(cluster.confirmations - before).toBe(1);
    await replica.clock.advance(LIMITS.replicaGatherMilliseconds);
    expect(cluster.confirmations - before).toBe(2);
    await replica.clock.advance(50);
    await ask(1);
    expect(cluster.confirmations - before).toBe(3);
    gate.resolve();
    await driven(replica.clock, Promise.all(reads));
    expect(cluster.confirmations - before).toBe(3);
  });

  test("linearizable: rounds that nobody answers are bounded, and none is needed for each read", async () => {
    const { cluster, replica } = await following(3);
    const gate = Promise.withResolvers<void>();
    cluster.before = () => gate.promise;
    const before = cluster.confirmations;
    const reads: Promise<unknown>[] = [];
    // Shorter than what an unanswered round waits before it is asked again.
    for (let turn = 0; turn < 2 * LIMITS.replicaRoundsMax; turn += 1) {
      reads.push(read(replica, {}, LINEARIZABLE));
      await replica.clock.advance(3);
    }
    expect(cluster.confirmations - before).toBe(LIMITS.replicaRoundsMax);
    gate.resolve();
    await driven(replica.clock, Promise.all(reads));
    expect(cluster.confirmations - before).toBeLessThanOrEqual(LIMITS.replicaRoundsMax + 2);
  });

  test("linearizable: without a peer it fails at its deadline, and answers nothing", async () => {
    const { cluster, replica } = await following(3);
    cluster.isDown = true;
    cluster.cut();
    const answer = read(replica, {}, LINEARIZABLE, 1000);
    await expect(driven(replica.clock, answer)).rejects.toThrow("timed out");
    expect(shown(await read(replica, point("p/1")))).toEqual(["p/1=v1@3"]);
  });

  test("session: at once when it has come so far, else it waits", async () => {
    const { cluster, replica } = await following(3);
    const { confirmations } = cluster;
    const seen = { serializable: true, fresh: { atLeastRevision: cluster.store.revision } };
    expect((await read(replica, {}, seen)).kvs).toHaveLength(3);
    expect(cluster.confirmations).toBe(confirmations);
    cluster.isHeld = true;
    const revision = cluster.put("p/1", "mine");
    const own = { serializable: true, fresh: { atLeastRevision: revision } };
    const waiting = read(replica, point("p/1"), own);
    await replica.clock.advance(50);
    cluster.release();
    expect(shown(await driven(replica.clock, waiting))).toEqual([`p/1=mine@${revision}`]);
    const never = { serializable: true, fresh: { atLeastRevision: revision + 10 } };
    await expect(driven(replica.clock, read(replica, {}, never))).rejects.toThrow("future");
  });

  test("bounded: a round proves freshness for so long, and the age says how old it is", async () => {
    const { cluster, replica } = await following(3);
    const { confirmations } = cluster;
    const within = (maxAgeMilliseconds: number) => ({
      serializable: true,
      fresh: { maxAgeMilliseconds },
    });
    await replica.clock.advance(400);
    const cached = await read(replica, {}, within(3000));
    expect(cluster.confirmations).toBe(confirmations);
    expect(cached.ageMilliseconds).toBeGreaterThanOrEqual(400);
    expect(cached.ageMilliseconds).toBeLessThan(3000);
    const fresh = await driven(replica.clock, read(replica, {}, within(300)));
    expect(cluster.confirmations).toBe(confirmations + 1);
    expect(fresh.ageMilliseconds).toBe(0);
  });

  test("bounded: a clock that steps back proves nothing any more", async () => {
    const { cluster, replica } = await following(3);
    expect((await read(replica)).ageMilliseconds).toBeDefined();
    replica.clockOffset = -10_000;
    expect((await read(replica)).ageMilliseconds).toBeUndefined();
    await replica.clock.advance(9_000);
    cluster.isDown = true;
    cluster.cut();
    replica.clockOffset = -20_000;
    const bounded = { serializable: true, fresh: { maxAgeMilliseconds: 5000 } };
    const answer = read(replica, {}, bounded, 1000);
    await expect(driven(replica.clock, answer)).rejects.toThrow("timed out");
  });

  test("at a revision: what history holds, and a refusal below it", async () => {
    const { cluster, replica } = await following(3);
    const base = replica.replica.status.revision;
    cluster.put("p/1", "new");
    await caughtUp(replica);
    expect(shown(await read(replica, { ...point("p/1"), revision: base }))).toEqual(["p/1=v1@3"]);
    await expect(read(replica, { revision: base - 1 })).rejects.toThrow("compacted");
  });
});

describe("watches", () => {
  test("hundreds of watchers hear of everything once and in order, from one watch of the cluster", async () => {
    const { cluster, replica } = await following(3);
    const watching = Array.from({ length: 300 }, () => new Watching(replica));
    const expected: string[] = [];
    for (let turn = 0; turn < 20; turn += 1) {
      expected.push(`p/${turn % 4}=t${turn}@${cluster.put(`p/${turn % 4}`, `t${turn}`)}`);
    }
    expected.push(`p/1 deleted@${cluster.delete("p/1")}`);
    await caughtUp(replica);
    for (const each of watching) expect(each.events).toEqual(expected);
    expect(cluster.watches).toBe(1);
    expect(cluster.opened).toBe(1);
  });

  test("one that begins in the past, at its end, or reads slowly misses nothing", async () => {
    const { cluster, replica } = await following(3);
    const first = replica.replica.state.store.watchFloor;
    const slow = new Watching(replica);
    slow.isFull = true;
    const expected: string[] = [];
    for (let turn = 0; turn < 30; turn += 1) {
      expected.push(`p/0=t${turn}@${cluster.put("p/0", `t${turn}`)}`);
    }
    await caughtUp(replica);
    expect(slow.events.length).toBeLessThan(expected.length);
    const late = new Watching(replica, first);
    const ahead = new Watching(replica, cluster.store.revision + 2);
    slow.resume();
    await replica.clock.advance(1000);
    expect(slow.events).toEqual(expected);
    expect(late.events).toEqual(expected);
    cluster.put("p/0", "before it begins");
    const at = cluster.put("p/0", "from here");
    await caughtUp(replica);
    expect(ahead.events).toEqual([`p/0=from here@${at}`]);
  });

  test("one below what is held is refused, so that the peers are asked", async () => {
    const replica = startReplica({ cluster: clusterOf(3) });
    await caughtUp(replica);
    const refused = new Watching(replica, replica.replica.state.store.watchFloor - 1);
    expect(refused.endedBy).toContain("not held here");
  });
});

describe("thousands of slow watchers", () => {
  test("cost a position each: what they have yet to see is read from history, once for many", async () => {
    const { cluster, replica } = await following(3);
    const watching = Array.from({ length: 2000 }, () => new Watching(replica));
    for (const each of watching) each.isFull = true;
    const expected: number[] = [];
    for (let turn = 0; turn < 50; turn += 1) expected.push(cluster.put("p/0", `t${turn}`));
    await caughtUp(replica);
    // Each took one response beyond its fill, and no more.
    expect(new Set(watching.map(({ events }) => events.length))).toEqual(new Set([1]));
    for (const each of watching) each.resume();
    await replica.clock.advance(3000);
    for (const each of watching) expect(each.revisions).toEqual(expected);
  });
});

describe("the next start", () => {
  test("goes on from its storage, without a copy, and without a gap", async () => {
    const clock = new ManualClock();
    const cluster = clusterOf(50);
    const first = startReplica({ cluster, clock });
    await caughtUp(first);
    cluster.put("p/1", "before");
    await caughtUp(first);
    first.replica.stop();
    cluster.put("p/2", "between");
    const { pages } = cluster;
    const second = startReplica({ cluster, clock, backend: first.backend });
    await caughtUp(second);
    expect(cluster.pages).toBe(pages);
    expect(second.replica.status.copies).toBe(0);
    const values = shown(await read(second));
    expect(values).toContain(`p/1=before@${cluster.store.revision - 1}`);
    expect(values).toContain(`p/2=between@${cluster.store.revision}`);
  });

  test("of a range that rests begins near its end: the watermark is noted now and then", async () => {
    const clock = new ManualClock();
    const cluster = clusterOf(3);
    const first = startReplica({ cluster, clock });
    await caughtUp(first);
    for (let turn = 0; turn < 40; turn += 1) {
      cluster.put("other", `${turn}`);
      await caughtUp(first);
      await clock.advance(1000);
    }
    const { revision } = first.replica.status;
    first.replica.stop();
    cluster.isDown = true;
    const second = startReplica({ cluster, clock, backend: first.backend });
    expect(second.replica.status.revision).toBeGreaterThan(revision - 20);
    expect(shown(await read(second, point("p/0"), SERIALIZABLE))).toEqual(["p/0=v0@2"]);
  });

  test("a history that grows is compacted, and its old revisions are refused", async () => {
    const cluster = clusterOf(3);
    const replica = startReplica({ cluster, historyEvents: 50 });
    await caughtUp(replica);
    const base = replica.replica.status.revision;
    for (let turn = 0; turn < 500; turn += 1) {
      cluster.put(`p/${turn % 3}`, `t${turn}`);
      if (turn % 100 === 0) await caughtUp(replica);
    }
    await caughtUp(replica);
    const { revision, compactRevision } = replica.replica.status;
    expect(revision - compactRevision).toBeGreaterThanOrEqual(50);
    expect(revision - compactRevision).toBeLessThanOrEqual(102);
    let rows = 0;
    replica.backend.scan("key", {}, () => {
      rows += 1;
      return true;
    });
    expect(rows).toBeLessThan(150);
    await expect(read(replica, { revision: base })).rejects.toThrow("compacted");
    expect((await read(replica)).kvs).toHaveLength(3);
    expect((await read(replica, { revision: compactRevision })).kvs).toHaveLength(3);
  });
});
