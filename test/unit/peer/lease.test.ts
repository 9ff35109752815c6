/** Leases through peers: whose clock counts, who may answer, and what expiry may do. */
import { describe, expect, test } from "vitest";
import { RpcError } from "../../../shared/api/errors.ts";
import type { LeaseService } from "../../../shared/peer/services.ts";
import { decodeCommand, encodeCommand } from "../../../shared/wire/command-codec.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import type { InProcessMember } from "../../support/in-process-cluster.ts";
import { get, put, startDriven, texts, valueOf } from "./driven-cluster.ts";
import type { Driven } from "./driven-cluster.ts";

const leaseOf = (member: InProcessMember): LeaseService => member.peer.services.lease;

function grant(member: InProcessMember, id: bigint, ttlSeconds: bigint) {
  return leaseOf(member).grant({ id, ttlSeconds }, PATIENT_CALL);
}

async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof RpcError) return error.code;
    throw error;
  }
  return undefined;
}

async function ttl(driven: Driven, member: InProcessMember, id: bigint): Promise<number> {
  const asked = leaseOf(member).timeToLive({ id, keys: false }, PATIENT_CALL);
  return (await driven.settled(asked)).ttlSeconds;
}

describe("one member", () => {
  test("grants with a ttl of at least 1.5 elections, under a chosen or a given id, once", async () => {
    const driven = await startDriven();
    const { cluster, settled } = driven;
    const member = cluster.member(0);
    const chosen = await settled(grant(member, 0n, 0n));
    expect(chosen.ttlSeconds).toBe(2);
    expect(chosen.id > 0n && chosen.id < 2n ** 63n).toBe(true);
    expect(await settled(grant(member, -5n, 10n))).toMatchObject({ id: -5n, ttlSeconds: 10 });
    expect(await settled(codeOf(grant(member, -5n, 10n)))).toBe("leaseExist");
    expect(await settled(codeOf(grant(member, 1n, 9_000_000_001n)))).toBe("leaseTtlTooLarge");
    const { ids } = await settled(leaseOf(member).leases(PATIENT_CALL));
    expect(ids).toEqual([chosen.id, -5n]);
  });

  test("a grant that arrives again, at another member too, is the one lease", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, settled } = driven;
    await driven.leader();
    const identity = { client: Uint8Array.of(1, 2, 3), sequence: 1, floor: 0 };
    const again = (member: InProcessMember) =>
      leaseOf(member).grant({ id: 0n, ttlSeconds: 30n }, { ...PATIENT_CALL, identity });
    const first = await settled(again(cluster.member(0)));
    expect((await settled(again(cluster.member(1)))).id).toBe(first.id);
    const { ids } = await settled(leaseOf(cluster.member(2)).leases(PATIENT_CALL));
    expect(ids).toEqual([first.id]);
  });

  test("a lease expires with its keys unless it is kept alive", async () => {
    const driven = await startDriven();
    const { cluster, settled, clock } = driven;
    const member = cluster.member(0);
    for (const id of [1n, 2n]) {
      await settled(grant(member, id, 3n));
      await settled(put(member, `key${id}`, "v", { lease: id }));
    }
    for (let second = 0; second < 5; second += 1) {
      await clock.advance(1000);
      const kept = await settled(leaseOf(member).keepAlive([1n, 99n], PATIENT_CALL));
      expect(kept.ttlSeconds).toEqual([3, 0]);
    }
    expect(valueOf(await settled(get(member, "key1")))).toBe("v");
    expect(valueOf(await settled(get(member, "key2")))).toBeUndefined();
    expect(await ttl(driven, member, 2n)).toBe(-1);
    const asked = leaseOf(member).timeToLive({ id: 1n, keys: true }, PATIENT_CALL);
    const { ttlSeconds, grantedTtlSeconds, keys } = await settled(asked);
    expect([grantedTtlSeconds, texts(keys)]).toEqual([3, ["key1"]]);
    expect(ttlSeconds).toBeGreaterThanOrEqual(1);
    await settled(leaseOf(member).revoke(1n, PATIENT_CALL));
    expect(valueOf(await settled(get(member, "key1")))).toBeUndefined();
    expect(await settled(codeOf(leaseOf(member).revoke(1n, PATIENT_CALL)))).toBe("leaseNotFound");
    const after = await settled(leaseOf(member).keepAlive([1n], PATIENT_CALL));
    expect(after.ttlSeconds).toEqual([0]);
  });
});

describe("three members", () => {
  test("followers ask the leader, and send it the keepalives of one turn in one call", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, settled, clock } = driven;
    const follower = cluster.followers[0] as InProcessMember;
    for (const id of [1n, 2n]) await settled(grant(follower, id, 5n));
    await clock.advance(2000);
    expect(await ttl(driven, follower, 1n)).toBeLessThan(5);
    const leader = await driven.leader();
    let calls = 0;
    const endpoint = cluster.network.inboxOf(follower.nodeId, leader.nodeId);
    if (endpoint === undefined) throw new Error("the leader is connected");
    const answer = endpoint.call.bind(endpoint);
    endpoint.call = (from, call) => {
      calls += 1;
      return answer(from, call);
    };
    const both = [1n, 2n, 3n].map((id) => leaseOf(follower).keepAlive([id], PATIENT_CALL));
    const kept = await settled(Promise.all(both));
    expect(kept.map((each) => each.ttlSeconds)).toEqual([[5], [5], [0]]);
    expect(calls).toBe(1);
    expect(await ttl(driven, follower, 1n)).toBe(5);
  });

  test("a new leader starts every lease anew, one election longer", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, settled, clock } = driven;
    const old = await driven.leader();
    await settled(grant(old, 1n, 4n));
    await settled(put(old, "key", "v", { lease: 1n }));
    await clock.advance(3000);
    cluster.network.isolate(old.nodeId);
    await clock.until(() => cluster.leader !== undefined && cluster.leader !== old);
    const leader = cluster.leader as InProcessMember;
    expect(await ttl(driven, leader, 1n)).toBe(5);
    await clock.advance(3500);
    expect(valueOf(await settled(get(leader, "key")))).toBe("v");
    await clock.advance(3000);
    expect(valueOf(await settled(get(leader, "key")))).toBeUndefined();
  });

  test("a deposed leader that doesn't know it neither confirms keepalives nor revokes anything", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, settled, clock } = driven;
    const old = await driven.leader();
    await settled(grant(old, 1n, 4n));
    await settled(put(old, "key", "v", { lease: 1n }));
    cluster.network.isolate(old.nodeId);
    const kept = codeOf(leaseOf(old).keepAlive([1n], PATIENT_CALL));
    await clock.until(() => cluster.leader !== undefined && cluster.leader !== old);
    const leader = cluster.leader as InProcessMember;
    // The successor's holder keeps it alive long past the time at which the old leader would let it expire.
    for (let second = 0; second < 8; second += 1) {
      await clock.advance(1000);
      const renewed = await settled(leaseOf(leader).keepAlive([1n], PATIENT_CALL));
      expect(renewed.ttlSeconds).toEqual([4]);
    }
    expect(await settled(kept)).toBe("timeout");
    cluster.network.heal();
    await clock.advance(1000);
    expect(valueOf(await settled(get(old, "key")))).toBe("v");
    for (const member of cluster.members) expect(member.fatal).toBeUndefined();
  });

  test("an expiry that reaches the log in a later term has no effect", async () => {
    const driven = await startDriven({ members: 3 });
    const { cluster, settled, clock } = driven;
    const leader = await driven.leader();
    await settled(grant(leader, 1n, 60n));
    await settled(put(leader, "key", "v", { lease: 1n }));
    const term = leader.peer.raftStatus().term - 1;
    const stale = encodeCommand({
      request: undefined,
      identity: undefined,
      command: { kind: "leaseRevoke", ids: [1n], term },
    });
    expect(decodeCommand(stale).command).toMatchObject({ term });
    const inbox = cluster.network.inboxOf(cluster.followers[0]?.nodeId ?? "", leader.nodeId);
    inbox?.messages(cluster.followers[0]?.nodeId ?? "", [
      {
        type: "propose",
        from: cluster.followers[0]?.nodeId ?? "",
        to: leader.nodeId,
        term: term + 1,
        entries: [{ kind: "normal", data: stale }],
      },
    ]);
    await clock.advance(1000);
    expect(valueOf(await settled(get(leader, "key")))).toBe("v");
  });
});
