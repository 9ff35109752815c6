/**
 * What goes wrong between a replica and its cluster, and in its storage: it ends with the cluster's state, watchers
 * miss nothing that they weren't told of, and nothing wrong is answered meanwhile. The controls at the end show that
 * the comparison sees what it looks for.
 */
import { describe, expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import type { Backend, BatchWriter, ShadowBackend } from "../../../shared/backend/backend.ts";
import { textOf, utf8 } from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";
import { wholeRange } from "../../../shared/mvcc/types.ts";
import type { LinkWatchResponse } from "../../../shared/wire/link.ts";
import { ManualClock } from "../../support/clocks.ts";
import { ScriptedCluster } from "../../support/scripted-cluster.ts";
import {
  FOLLOWED,
  LINEARIZABLE,
  Watching,
  caughtUp,
  driven,
  point,
  read,
  shown,
  startReplica,
} from "./driven-replica.ts";
import type { Driven } from "./driven-replica.ts";

function stateOf(cluster: ScriptedCluster): string[] {
  const found = cluster.store.range(wholeRange(FOLLOWED.key, FOLLOWED.rangeEnd));
  if ("code" in found) throw new Error(found.code);
  return shown(found);
}

/** The range's events from a revision on, as the cluster has them. */
function historyOf(cluster: ScriptedCluster, from: number): string[] {
  const events: string[] = [];
  const watcher = cluster.store.watches.watch({
    ...FOLLOWED,
    startRevision: from,
    filters: { noPut: false, noDelete: false },
    sink: {
      deliver(_watcher, batch) {
        for (const { type, kv } of batch.events) {
          const value = type === "put" ? `=${textOf(kv.value)}` : " deleted";
          events.push(`${textOf(kv.key)}${value}@${kv.modRevision}`);
        }
        return true;
      },
      compacted: () => {
        throw new Error("compacted");
      },
    },
  });
  while (cluster.store.watches.catchUp());
  watcher.cancel();
  return events;
}

async function expectSame(replica: Driven): Promise<void> {
  await caughtUp(replica);
  expect(shown(await read(replica))).toEqual(stateOf(replica.cluster));
}

function clusterOf(keys: number): ScriptedCluster {
  const cluster = new ScriptedCluster();
  for (let place = 0; place < keys; place += 1) cluster.put(`p/${place}`, `v${place}`);
  return cluster;
}

/** Bends the first responses with events that the test names, once. */
function bendOnce(
  cluster: ScriptedCluster,
  bend: (response: LinkWatchResponse) => readonly LinkWatchResponse[],
): { isDone: boolean } {
  const done = { isDone: false };
  cluster.bend = (response) => {
    if (done.isDone || response.events.length === 0) return [response];
    done.isDone = true;
    return bend(response);
  };
  return done;
}

describe("on the link", () => {
  test("a response that is lost shows at the next change of its key: the range is copied anew", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const watching = new Watching(replica);
    const lost = bendOnce(replica.cluster, () => []);
    replica.cluster.put("p/1", "lost");
    replica.cluster.put("p/1", "shows it");
    expect(lost.isDone).toBe(true);
    await expectSame(replica);
    expect(replica.replica.status.copies).toBe(2);
    // The peers have what it needs next: it is to begin anew, there or here.
    expect(watching.endedBy).toBeDefined();
    expect(watching.events).toEqual([]);
  });

  test("a response that comes twice is passed over", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const watching = new Watching(replica);
    replica.cluster.bend = (response) => [response, response];
    const revisions = [1, 2, 3].map((turn) => replica.cluster.put("p/1", `${turn}`));
    revisions.push(replica.cluster.delete("p/2"));
    await expectSame(replica);
    expect(watching.revisions).toEqual(revisions);
    expect(replica.replica.status.copies).toBe(1);
  });

  test("responses in the wrong order are noticed", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const held: LinkWatchResponse[] = [];
    replica.cluster.bend = (response) => {
      if (response.events.length === 0 || held.length > 1) return [response];
      held.push(response);
      return held.length === 2 ? held.toReversed() : [];
    };
    replica.cluster.put("p/1", "first");
    replica.cluster.put("p/2", "second");
    await expectSame(replica);
    expect(replica.replica.status.copies).toBe(2);
  });

  test("progress in the middle of a revision's fragments shows no half of it", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const watching = new Watching(replica);
    replica.cluster.fragmentEvents = 2;
    replica.cluster.isHeld = true;
    const before = shown(await read(replica));
    const seen: string[][] = [];
    replica.cluster.bend = (response) => {
      if (!response.fragment) return [response];
      const progress = { ...response, events: [], fragment: false, watchId: -1n };
      return [response, progress];
    };
    const { cluster } = replica;
    const revision = cluster.write((txn) => {
      for (let place = 0; place < 7; place += 1) txn.put(utf8(`p/${place}`), utf8("new"), 0n);
    });
    for (const link of cluster.links) link.release();
    seen.push(shown(await read(replica)));
    cluster.release();
    await expectSame(replica);
    for (const state of seen) expect([before, stateOf(cluster)]).toContainEqual(state);
    expect(watching.revisions).toEqual(Array.from({ length: 7 }, () => revision));
    expect(replica.replica.status.copies).toBe(1);
  });

  test("it breaks again and again, within fragments too: nothing is missed or told twice", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const { cluster, clock } = replica;
    const from = cluster.store.revision + 1;
    const watching = new Watching(replica);
    const prng = new Prng(11);
    const reached = new Set<number>();
    cluster.fragmentEvents = 2;
    for (let turn = 0; turn < 60; turn += 1) {
      let budget = prng.below(2) === 0 ? Infinity : 1 + prng.below(6);
      cluster.bend = (response) => {
        if (response.events.length === 0) return [response];
        budget -= 1;
        if (budget === 0) clock.defer(() => cluster.cut());
        return budget < 0 ? [] : [response];
      };
      cluster.write((txn) => {
        for (let count = prng.below(5); count >= 0; count -= 1) {
          txn.put(utf8(`p/${count}`), utf8(`turn ${turn}`), 0n);
        }
      });
      cluster.put("other", `${turn}`);
      await clock.advance(prng.below(200));
      reached.add(replica.replica.status.revision);
      cluster.cut();
    }
    cluster.bend = (response) => [response];
    await expectSame(replica);
    expect(replica.replica.status.copies).toBe(1);
    expect(reached.size).toBeGreaterThan(10);
    expect(watching.events).toEqual(historyOf(cluster, from));
    expect(cluster.watches).toBe(1);
  });

  test("one that falls silent is left, and the next one goes on", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const { cluster, clock } = replica;
    const { opened } = cluster;
    cluster.isHeld = true;
    const never = new Promise<void>(() => undefined);
    cluster.before = () => never;
    cluster.put("p/1", "unheard");
    await clock.advance(25_000);
    expect(cluster.opened).toBeGreaterThan(opened);
    cluster.before = () => undefined;
    cluster.release();
    await expectSame(replica);
  });
});

describe("at the cluster", () => {
  test("compaction beyond the watermark: copied anew, and watchers hear of it", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const { cluster, clock } = replica;
    const watching = new Watching(replica);
    cluster.isDown = true;
    cluster.cut();
    for (let turn = 0; turn < 10; turn += 1) cluster.put("p/1", `${turn}`);
    cluster.delete("p/2");
    cluster.compact();
    // Until the cluster can be reached again the old state is read, as what it is.
    await clock.advance(3000);
    expect(shown(await read(replica, point("p/1")))).toEqual(["p/1=v1@3"]);
    cluster.isDown = false;
    await expectSame(replica);
    await clock.advance(1000);
    expect(replica.replica.status.copies).toBe(2);
    expect(watching.compactedAt).toBe(replica.replica.state.store.watchFloor);
    expect(watching.events).toEqual([]);
    const next = new Watching(replica, watching.compactedAt);
    const at = cluster.put("p/2", "back");
    await caughtUp(replica);
    expect(next.events).toEqual([`p/2=back@${at}`]);
  });

  test("compaction while the copy is made: it begins anew at a later revision", async () => {
    const cluster = clusterOf(100);
    let compactions = 0;
    cluster.before = ({ op }) => {
      if (op.countOnly || op.revision === 0 || compactions > 0) return;
      compactions += 1;
      cluster.put("p/1", "later");
      cluster.compact();
    };
    const replica = startReplica({ cluster });
    await expectSame(replica);
    expect(compactions).toBe(1);
  });

  test("another cluster in its place: nothing of the old one is answered for it", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const { cluster, clock } = replica;
    const watching = new Watching(replica);
    const { clusterId } = replica.replica;
    const { revision } = replica.replica.status;
    cluster.replace();
    cluster.put("p/1", "of another world");
    await clock.until(() => replica.replica.status.state === "following");
    await expectSame(replica);
    expect(replica.replica.status.revision).toBeLessThan(revision);
    expect(replica.replica.clusterId).not.toBe(clusterId);
    expect(watching.endedBy).toBeDefined();
  });

  test("a cluster that was put back to an earlier state is noticed by the next round", async () => {
    const replica = startReplica({ cluster: clusterOf(5) });
    await caughtUp(replica);
    const { cluster, clock } = replica;
    for (let turn = 0; turn < 20; turn += 1) cluster.put("p/1", `${turn}`);
    await caughtUp(replica);
    cluster.replace();
    cluster.clusterId -= 1n;
    cluster.put("p/1", "restored");
    const answer = read(replica, point("p/1"), LINEARIZABLE);
    answer.catch(() => undefined);
    await clock.until(() => replica.replica.status.copies === 2);
    await expectSame(replica);
    // Who asked meanwhile got the new state, or nothing.
    const told = await driven(clock, answer).then(shown, () => "nothing");
    expect(["nothing", ["p/1=restored@2"]]).toContainEqual(told);
  });
});

/** A backend whose machine dies behind so many writes. `tears`: what is kept of the last one. */
class DyingBackend implements Backend {
  readonly inner: Backend;
  readonly #tears: boolean;
  #writesLeft: number;
  isDead = false;

  constructor(inner: Backend, writes: number, tears: boolean) {
    this.inner = inner;
    this.#writesLeft = writes;
    this.#tears = tears;
  }

  #alive(): Backend {
    if (this.isDead) throw new Error("the machine is dead");
    return this.inner;
  }

  #write(): "whole" | "torn" {
    this.#alive();
    this.#writesLeft -= 1;
    if (this.#writesLeft >= 0) return "whole";
    if (this.#tears) return "torn";
    this.isDead = true;
    throw new Error("the machine dies");
  }

  get visibleIndex(): number {
    return this.#alive().visibleIndex;
  }
  get durableIndex(): number {
    return this.#alive().durableIndex;
  }
  get congested(): boolean {
    return false;
  }
  get: Backend["get"] = (table, key) => this.#alive().get(table, key);
  scan: Backend["scan"] = (table, options, visit) => this.#alive().scan(table, options, visit);
  pin: Backend["pin"] = () => this.#alive().pin();
  sizes: Backend["sizes"] = () => this.#alive().sizes();
  flush(): void {
    this.#alive().flush();
  }
  defragment: Backend["defragment"] = () => this.#alive().defragment();
  close: Backend["close"] = () => this.inner.close();

  apply(index: number, fill: (writer: BatchWriter) => void): void {
    const torn = this.#write() === "torn";
    const kept = (writer: BatchWriter): BatchWriter => ({
      put: (table, key, value) => {
        if (table === "meta") writer.put(table, key, value);
      },
      delete: () => undefined,
    });
    this.inner.apply(index, (writer) => fill(torn ? kept(writer) : writer));
    if (!torn) return;
    this.isDead = true;
    throw new Error("the machine dies");
  }

  shadow(): ShadowBackend {
    const shadow = this.#alive().shadow();
    return {
      congested: false,
      apply: (fill) => {
        if (this.#write() === "torn") throw new Error("the machine dies");
        shadow.apply(fill);
      },
      install: (index, switched) => {
        if (this.#write() === "torn") throw new Error("the machine dies");
        return shadow.install(index, switched);
      },
      discard: () => shadow.discard(),
    };
  }
}

/**
 * A replica's life on a machine that dies behind `writes` writes, and a second one on what is left. What differs from
 * the cluster in the end; undefined: the first life came to its end alive.
 */
async function lives(writes: number, tears = false): Promise<string[] | undefined> {
  const clock = new ManualClock();
  const cluster = clusterOf(40);
  cluster.fragmentEvents = 3;
  const inner = new MemoryBackend();
  const dying = new DyingBackend(inner, writes, tears);
  const script = async (each: (turn: number) => Promise<void>): Promise<void> => {
    for (let turn = 0; turn < 24; turn += 1) {
      cluster.write((txn) => {
        for (let place = turn % 5; place >= 0; place -= 1) {
          txn.put(utf8(`p/${turn + place}`), utf8(`turn ${turn}`), 0n);
        }
        if (turn % 3 === 0) txn.delete(utf8(`p/${turn + 12}`));
      });
      await each(turn);
    }
  };
  let first: Driven | undefined;
  try {
    first = startReplica({ cluster, clock, backend: dying, historyEvents: 20 });
  } catch {
    // Taking the storage over was its last deed.
  }
  await clock.advance(1000);
  await script(() => clock.advance(50));
  await clock.advance(500);
  if (!dying.isDead) {
    first?.replica.stop();
    return undefined;
  }
  cluster.cut();
  const second = startReplica({ cluster, clock, backend: inner, historyEvents: 20 });
  await caughtUp(second);
  const differences: string[] = [];
  const own = shown(await read(second));
  if (own.join() !== stateOf(cluster).join()) differences.push("state");
  const { watchFloor } = second.replica.state.store;
  const watching = new Watching(second, watchFloor);
  await clock.advance(500);
  if (watching.events.join() !== historyOf(cluster, watchFloor).join()) differences.push("history");
  if (second.fatal.length > 0) differences.push("fatal");
  second.replica.stop();
  return differences;
}

describe("in the storage", () => {
  test("a death behind any write: the next life ends with the cluster's state and history", async () => {
    let deaths = 0;
    for (let writes = 0; ; writes += 1) {
      const differences = await lives(writes);
      if (differences === undefined) break;
      expect([writes, differences]).toEqual([writes, []]);
      deaths += 1;
    }
    expect(deaths).toBeGreaterThan(40);
  });

  test("control: were a watermark written without its events, the comparison would see it", async () => {
    const seen = new Set<string>();
    for (let writes = 5; writes < 45; writes += 1) {
      for (const difference of (await lives(writes, true)) ?? []) seen.add(difference);
    }
    expect(seen).toContain("state");
    expect(seen).toContain("history");
  });

  test("a storage that fails ends it: nothing is answered from it", async () => {
    const dying = new DyingBackend(new MemoryBackend(), 12, false);
    const replica = startReplica({ cluster: clusterOf(5), backend: dying });
    await caughtUp(replica);
    const watching = new Watching(replica);
    for (let turn = 0; turn < 20; turn += 1) replica.cluster.put("p/1", `${turn}`);
    expect(replica.fatal).toHaveLength(1);
    expect(replica.replica.status.state).toBe("stopped");
    expect(watching.endedBy).toBeDefined();
  });
});
