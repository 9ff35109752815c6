/** A peer, alone and among three, on memory storage and a clock that stands still until it is moved. */
import { describe, expect, test } from "vitest";
import { errorText, RpcError } from "../../../shared/api/errors.ts";
import { EMPTY, textOf, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { encodeEnd, encodeHeader } from "../../../shared/peer/state/snapshot-format.ts";
import { wholeRange } from "../../../shared/mvcc/types.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import type { InProcessMember } from "../../support/in-process-cluster.ts";
import { watchRequest } from "../../support/watch-request.ts";
import {
  compare,
  get,
  put,
  putOp,
  rangeOp,
  startDriven,
  txnOp,
  valueOf,
} from "./driven-cluster.ts";
import type { Driven } from "./driven-cluster.ts";
import type { Freshness } from "../../../shared/wire/link.ts";

function failure(promise: Promise<unknown>): Promise<RpcError> {
  return promise.then(
    () => {
      throw new Error("it should have failed");
    },
    (error: unknown) => {
      if (error instanceof RpcError) return error;
      throw error;
    },
  );
}

function expectHealthy({ cluster }: Driven): void {
  for (const member of cluster.members) expect(member.fatal).toBeUndefined();
}

describe.each([1, 3])("%i members", (members) => {
  test("each takes writes and reads what any of them has written", async () => {
    const driven = await startDriven({ members });
    const { cluster, settled } = driven;
    let revision = 1;
    for (const writer of cluster.members) {
      revision += 1;
      const { header } = await settled(put(writer, "key", `by ${writer.id}`));
      expect(header).toMatchObject({ clusterId: 0xc1n, memberId: writer.id, revision });
      for (const reader of cluster.members) {
        const answer = await settled(get(reader, "key"));
        expect(valueOf(answer)).toBe(`by ${writer.id}`);
        expect(answer.header.revision).toBe(revision);
      }
    }
    expectHealthy(driven);
  });

  test("all restart from their logs: those that applied nothing durable apply it again", async () => {
    const driven = await startDriven({ members });
    const { cluster, settled } = driven;
    await settled(put(cluster.member(0), "key", "kept"));
    for (const member of cluster.members) member.crash();
    for (const member of cluster.members) member.start();
    await settled(cluster.ready());
    for (const member of cluster.members) {
      expect(valueOf(await settled(get(member, "key")))).toBe("kept");
    }
    expectHealthy(driven);
  });
});

describe("one member", () => {
  test("serves key-values, transactions, compaction and their refusals", async () => {
    const { cluster, settled } = await startDriven();
    const { kv } = cluster.member(0).peer.services;
    const member = cluster.member(0);
    await settled(put(member, "a", "1"));
    await settled(put(member, "b", "2"));
    const page = { ...wholeRange(utf8("a"), utf8("z")), limit: 1 };
    expect(await settled(kv.range(page, { serializable: false }, PATIENT_CALL))).toMatchObject({
      count: 2,
      more: true,
      kvs: [{ modRevision: 2 }],
    });
    const isOne = compare("a", "value", "equal", "1");
    const readOnly = txnOp([isOne], [rangeOp("b")]);
    const read = await settled(kv.txn(readOnly, { serializable: false }, PATIENT_CALL));
    expect(read).toMatchObject({ succeeded: true, header: { revision: 3 } });
    const write = txnOp([isOne], [putOp("a", "3"), rangeOp("a")]);
    const written = await settled(kv.txn(write, { serializable: false }, PATIENT_CALL));
    expect(written).toMatchObject({ header: { revision: 4 }, results: [{ revision: 4 }, {}] });
    await settled(kv.compact({ revision: 4, physical: true }, PATIENT_CALL));
    const old = { ...page, revision: 3 };
    const compact = (revision: number) => kv.compact({ revision, physical: false }, PATIENT_CALL);
    const refused: [() => Promise<unknown>, string][] = [
      [() => kv.range(old, { serializable: true }, PATIENT_CALL), "compacted"],
      [() => kv.range({ ...old, revision: 9 }, { serializable: true }, PATIENT_CALL), "futureRev"],
      [() => kv.range(wholeRange(EMPTY, EMPTY), { serializable: true }, PATIENT_CALL), "emptyKey"],
      [() => compact(4), "compacted"],
      [() => compact(-1), "compacted"],
      [() => compact(5), "futureRev"],
      [() => put(member, "", "1"), "emptyKey"],
      [() => put(member, "a", "1", { lease: 5n }), "leaseNotFound"],
      [() => put(member, "a", "v".repeat(LIMITS.requestBytesMax)), "requestTooLarge"],
    ];
    for (const [call, code] of refused) {
      expect(await settled(failure(call()))).toMatchObject({ code, outcome: "none" });
    }
  });

  test("the quota raises NOSPACE, which blocks until it is disarmed", async () => {
    const { cluster, settled } = await startDriven({ config: { quotaBytes: 20_000 } });
    const member = cluster.member(0);
    const { maintenance } = member.peer.services;
    await settled(put(member, "small", "1"));
    const full = await settled(failure(put(member, "big", "v".repeat(30_000))));
    expect(full.code).toBe("noSpace");
    expect((await settled(failure(put(member, "small", "2")))).code).toBe("noSpace");
    const all = { action: "get", member: 0n, alarm: "none" } as const;
    const alarms = [{ member: 1n, alarm: "nospace" }];
    expect(await settled(maintenance.alarm(all, PATIENT_CALL))).toMatchObject({ alarms });
    expect(await settled(maintenance.status(PATIENT_CALL))).toMatchObject({
      alarms,
      dbSizeQuota: 20_000,
    });
    const disarm = { action: "deactivate", member: 1n, alarm: "nospace" } as const;
    expect(await settled(maintenance.alarm(disarm, PATIENT_CALL))).toMatchObject({ alarms });
    await settled(put(member, "small", "3"));
  });

  test("its log is cut behind what is durable, and it restarts from there", async () => {
    const config = { compactLogEvery: 20, catchUpEntries: 5 };
    const driven = await startDriven({ config });
    const { cluster, settled, clock } = driven;
    const member = cluster.member(0);
    for (let count = 0; count < 60; count += 1) await settled(put(member, "key", String(count)));
    await clock.advance(200);
    expect(member.log.firstIndex).toBeGreaterThan(30);
    member.crash();
    member.start();
    await settled(cluster.ready());
    expect(valueOf(await settled(get(member, "key")))).toBe("59");
    expectHealthy(driven);
  });

  test("a backend of another cluster is refused", async () => {
    const { cluster } = await startDriven();
    const member = cluster.member(0);
    member.crash();
    const { backend } = member;
    const other = await startDriven();
    other.cluster.member(0).crash();
    other.cluster.member(0).backend = backend;
    expect(() => other.cluster.member(0).start()).not.toThrow();
    const foreign = await startDriven({ config: { clusterId: 5n } });
    foreign.cluster.member(0).crash();
    foreign.cluster.member(0).backend = backend;
    expect(() => foreign.cluster.member(0).start()).toThrow("belong to cluster c1");
  });
});

describe("a log that is flushed late", () => {
  const flushAll = (driven: Driven): void => {
    for (const member of driven.cluster.members) if (member.running) member.log.flush();
  };

  /** Three members whose logs are flushed every 10 ms, until the returned function is called. */
  async function startFlushed() {
    const driven = await startDriven({ members: 3, explicitFlush: true, settle: false });
    let running = true;
    const flush = (): void => {
      if (!running) return;
      flushAll(driven);
      driven.clock.schedule(10, flush);
    };
    flush();
    await driven.settled(driven.cluster.ready());
    const stopFlushing = (): void => {
      running = false;
    };
    return { driven, stopFlushing };
  }

  test("a write is answered once a quorum has flushed it, the leader's own flush or not", async () => {
    const { driven, stopFlushing } = await startFlushed();
    const { cluster, clock } = driven;
    const leader = await driven.leader();
    stopFlushing();
    await clock.advance(20);
    let answered = false;
    const write = put(leader, "key", "value").then(() => {
      answered = true;
    });
    await clock.advance(50);
    expect(answered).toBe(false);
    for (const follower of cluster.followers) follower.log.flush();
    await clock.advance(50);
    expect(answered).toBe(true);
    await write;
    expect(leader.log.pendingWrites).toBeGreaterThan(0);
    // The leader has applied what its log would lose: it starts anew behind it, and nothing is lost.
    const applied = leader.backend.visibleIndex;
    leader.crash();
    expect(leader.log.lastIndex).toBeLessThan(applied);
    leader.start();
    expect(leader.log.firstIndex).toBe(applied + 1);
    const flush = (): void => {
      flushAll(driven);
      clock.schedule(10, flush);
    };
    flush();
    await clock.until(() => cluster.leader !== undefined);
    expect(valueOf(await driven.settled(get(leader, "key")))).toBe("value");
    await driven.settled(put(leader, "key", "again"));
    expectHealthy(driven);
  });
});

describe("three members", () => {
  const isolate = async (driven: Driven): Promise<InProcessMember> => {
    const leader = await driven.leader();
    driven.cluster.network.isolate(leader.nodeId);
    return leader;
  };

  test("a leader that is cut off neither writes nor reads; the others go on without it", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const old = await isolate(driven);
    const read = failure(get(old, "key"));
    const write = failure(put(old, "key", "lost"));
    await clock.until(() => cluster.leader !== undefined && cluster.leader !== old);
    const leader = cluster.leader as InProcessMember;
    await settled(put(leader, "key", "new"));
    expect((await settled(write)).outcome).toBe("unknown");
    expect((await settled(read)).outcome).toBe("none");
    expect(valueOf(await get(old, "key", { serializable: true }))).toBeUndefined();
    cluster.network.heal();
    expect(valueOf(await settled(get(old, "key")))).toBe("new");
    await clock.advance(2000);
    expectHealthy(driven);
  });

  test("a member that is cut off: serializable is stale, session and bounded reads never are", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const leader = await driven.leader();
    await settled(put(leader, "key", "old"));
    const cut = cluster.followers[0] as InProcessMember;
    const seen = await settled(get(cut, "key"));
    expect(seen.ageMilliseconds).toBe(0);
    cluster.network.isolate(cut.nodeId);
    const { revision } = (await settled(put(leader, "key", "new"))).header;
    const read = (fresh?: Freshness) =>
      get(cut, "key", { serializable: true, ...(fresh && { fresh }) });

    await clock.advance(10);
    const stale = await read();
    expect(valueOf(stale)).toBe("old");
    const age = stale.ageMilliseconds ?? -1;
    expect(age).toBeGreaterThan(0);
    expect(valueOf(await read({ maxAgeMilliseconds: age + 1 }))).toBe("old");
    expect(valueOf(await read({ atLeastRevision: revision - 1 }))).toBe("old");

    await clock.advance(100);
    const late = failure(read({ maxAgeMilliseconds: age }));
    const session = failure(read({ atLeastRevision: revision }));
    for (const refused of [await settled(late), await settled(session)]) {
      expect(refused).toMatchObject({ status: "unavailable", outcome: "none" });
    }
    cluster.network.heal();
    expect(valueOf(await settled(read({ atLeastRevision: revision })))).toBe("new");
    expect(valueOf(await settled(read({ maxAgeMilliseconds: 0 })))).toBe("new");
    const future = await settled(failure(read({ atLeastRevision: revision + 1 })));
    expect(future.code).toBe("futureRev");
  });

  test("the age of a state is counted from before its confirmation, and grows", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    await driven.leader();
    const follower = cluster.followers[0] as InProcessMember;
    await settled(get(follower, "key"));
    const first = (await get(follower, "key", { serializable: true })).ageMilliseconds ?? -1;
    await clock.advance(250);
    const later = (await get(follower, "key", { serializable: true })).ageMilliseconds ?? -1;
    expect(later - first).toBe(250);
    expect(first).toBeGreaterThanOrEqual(0);
  });

  test("without a leader: require-leader is refused at once, others wait and say why", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const follower = cluster.followers[0] as InProcessMember;
    for (const member of cluster.members) cluster.network.isolate(member.nodeId);
    await clock.until(() => follower.peer.raftStatus().leader === undefined);
    const call = { ...PATIENT_CALL, requireLeader: true };
    expect((await settled(failure(get(follower, "key", { call })))).code).toBe("noLeader");
    const refused = await settled(failure(put(follower, "key", "value")));
    expect(refused).toMatchObject({ outcome: "none", message: errorText("timeout") });
    expect(valueOf(await settled(get(follower, "key", { serializable: true })))).toBeUndefined();
    const errors = (await follower.peer.services.maintenance.status(PATIENT_CALL)).errors;
    expect(errors).toContain(errorText("noLeader"));
  });

  test("what waited without a leader goes to the next one", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const follower = cluster.followers[0] as InProcessMember;
    for (const member of cluster.members) cluster.network.isolate(member.nodeId);
    await clock.until(() => follower.peer.raftStatus().leader === undefined);
    const write = put(follower, "key", "value");
    const read = get(follower, "key");
    await clock.advance(1000);
    cluster.network.heal();
    await settled(write);
    await settled(read);
    expectHealthy(driven);
  });

  test("a proposal that a follower forwards and loses is unknown to have happened", async () => {
    const { cluster, settled } = await startDriven({ members: 3 });
    const follower = cluster.followers[0] as InProcessMember;
    cluster.network.filter = (message) => message.type !== "propose";
    const lost = await settled(failure(put(follower, "key", "value")));
    expect(lost).toMatchObject({ outcome: "unknown", message: errorText("timeout") });
    cluster.network.filter = () => true;
    await settled(put(follower, "key", "value"));
  });

  test("a member that lags behind the log gets a snapshot, and follows again", async () => {
    const config = { compactLogEvery: 10, catchUpEntries: 5 };
    const driven = await startDriven({ members: 3, config });
    const { cluster, clock, settled } = driven;
    const lagging = cluster.followers[0] as InProcessMember;
    cluster.network.isolate(lagging.nodeId);
    const leader = await driven.leader();
    for (let count = 0; count < 50; count += 1) {
      await settled(put(leader, `key${count}`, "v".repeat(10_000)));
    }
    await clock.advance(500);
    expect(leader.log.firstIndex).toBeGreaterThan(lagging.log.lastIndex + 1);
    const seen: number[] = [];
    lagging.peer.services.watch
      .open(
        {
          send: ({ events }) => {
            seen.push(...events.map((event) => event.kv.modRevision));
            return true;
          },
          end: () => {},
        },
        PATIENT_CALL,
      )
      .create(watchRequest({ key: utf8("key"), rangeEnd: utf8("kez"), startRevision: 2 }));
    cluster.network.heal();
    await clock.until(() => valueOfKey(lagging, "key49") !== undefined);
    expect(lagging.log.firstIndex).toBeGreaterThan(40);
    await settled(put(leader, "after", "1"));
    expect(valueOf(await settled(get(lagging, "after")))).toBe("1");
    await clock.until(() => seen.length === 50);
    expect(seen).toEqual(Array.from({ length: 50 }, (_, place) => place + 2));
    lagging.crash();
    lagging.start();
    expect(valueOf(await settled(get(lagging, "key7")))).toBe("v".repeat(10_000));
    expectHealthy(driven);
  });

  test("a snapshot message without its data is ignored, and so is a stream that is damaged or cut", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const leader = await driven.leader();
    const follower = cluster.followers[0] as InProcessMember;
    const inbox = cluster.network.inboxOf(leader.nodeId, follower.nodeId);
    if (inbox === undefined) throw new Error("the follower is connected");
    const { term, membership } = leader.peer.raftStatus();
    const snapshot = { index: 1000, term, membership };
    const [from, to] = [leader.nodeId, follower.nodeId];
    inbox.messages(from, [{ type: "snapshot", from, to, term, snapshot }]);
    const header = encodeHeader({ clusterId: 0xc1n, leaderTerm: term, mark: snapshot });
    const foreign = encodeHeader({ clusterId: 0xc2n, leaderTerm: term, mark: snapshot });
    const streams: readonly (readonly [readonly Uint8Array[], string])[] = [
      [[], "cut short"],
      [[header], "cut short"],
      [[foreign], "of another cluster"],
      [[header, header], "has one header"],
      [[header, encodeEnd(header)], "hash differs"],
    ];
    for (const [stream, reason] of streams) {
      const chunks = (async function* () {
        yield* stream;
      })();
      await expect(settled(inbox.snapshot(from, snapshot, chunks))).rejects.toThrow(reason);
    }
    await clock.advance(500);
    expect(follower.backend.visibleIndex).toBeLessThan(1000);
    await settled(put(follower, "key", "value"));
    expectHealthy(driven);
  });

  test("a leader that stops hands over: another leads within half a second", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, clock, settled } = driven;
    const leader = await driven.leader();
    const before = clock.now();
    await settled(leader.stop());
    await clock.until(() => cluster.leader !== undefined);
    expect(clock.now() - before).toBeLessThan(500);
    await settled(put(cluster.leader as InProcessMember, "key", "value"));
  });

  test("stopping answers what waits", async () => {
    const driven = await startDriven({ members: 3 });
    const old = await isolate(driven);
    const write = failure(put(old, "key", "value"));
    const read = failure(get(old, "key"));
    await driven.clock.advance(10);
    await driven.settled(old.stop());
    expect((await write).code).toBe("stopped");
    expect((await read).code).toBe("stopped");
  });

  test("members publish their names and client URLs", async () => {
    const { cluster, settled } = await startDriven({ members: 3 });
    const { services } = cluster.member(0).peer;
    const list = await settled(services.cluster.memberList({ linearizable: true }, PATIENT_CALL));
    expect(list.members.map(({ id, name, clientUrls }) => [id, name, clientUrls])).toEqual([
      [1n, "m1", ["memory:1"]],
      [2n, "m2", ["memory:2"]],
      [3n, "m3", ["memory:3"]],
    ]);
    expect(list.header.revision).toBe(0);
  });
});

function valueOfKey(member: InProcessMember, key: string): unknown {
  return member.running && member.backend.visibleIndex > 0
    ? [...scanKeys(member)].find((each) => each.includes(key))
    : undefined;
}

function* scanKeys(member: InProcessMember): Generator<string> {
  const rows: string[] = [];
  member.backend.scan("revision", {}, (_row, key) => rows.push(textOf(key)) > 0);
  yield* rows;
}
