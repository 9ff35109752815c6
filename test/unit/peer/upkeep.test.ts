/** What peers do unasked: compaction by time and by revision, and comparing their data. */
import { expect, test } from "vitest";
import { DEFAULT_UPKEEP } from "../../../shared/peer/peer.ts";
import type { UpkeepConfig } from "../../../shared/peer/peer.ts";
import { oddOnes } from "../../../shared/peer/service/corruption.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import type { InProcessMember } from "../../support/in-process-cluster.ts";
import { put, startDriven } from "./driven-cluster.ts";
import type { Driven } from "./driven-cluster.ts";

function startWith(members: number, upkeep: Partial<UpkeepConfig>): Promise<Driven> {
  return startDriven({ members, config: { upkeep: { ...DEFAULT_UPKEEP, ...upkeep } } });
}

async function putMany({ settled }: Driven, member: InProcessMember, count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) await settled(put(member, "key", String(at)));
}

async function compacted(driven: Driven, member: InProcessMember): Promise<number> {
  const hash = member.peer.services.maintenance.hashKv(0, PATIENT_CALL);
  return (await driven.settled(hash)).compactRevision;
}

/** Changes the newest value of "key" behind the peer's back. */
function damage(member: InProcessMember): void {
  const rows: [Uint8Array, Uint8Array][] = [];
  member.backend.scan("key", {}, (row, value) => rows.push([row, value]) > 0);
  const [row, value] = rows[0] ?? [];
  if (row === undefined || value === undefined) throw new Error("nothing to damage");
  const changed = value.slice();
  changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
  member.backend.apply(member.backend.visibleIndex, (writer) => writer.put("key", row, changed));
}

async function alarmsOf(driven: Driven, member: InProcessMember) {
  const change = { action: "get", member: 0n, alarm: "none" } as const;
  const answer = member.peer.services.maintenance.alarm(change, PATIENT_CALL);
  return (await driven.settled(answer)).alarms;
}

test("by time: what was current a period ago is compacted, then again each interval", async () => {
  const autoCompaction = { mode: "periodic", milliseconds: 10_000 } as const;
  const driven = await startWith(1, { autoCompaction });
  const member = driven.cluster.member(0);
  await putMany(driven, member, 9);
  await driven.clock.advance(8000);
  expect(await compacted(driven, member)).toBe(-1);
  await putMany(driven, member, 10);
  await driven.clock.advance(12_000);
  expect(await compacted(driven, member)).toBeGreaterThanOrEqual(10);
  await driven.clock.advance(12_000);
  expect(await compacted(driven, member)).toBe(20);
});

test("by revision: all but the newest so many are compacted every five minutes, by the leader", async () => {
  const autoCompaction = { mode: "revision", keep: 5 } as const;
  const driven = await startWith(3, { autoCompaction });
  const leader = await driven.leader();
  await putMany(driven, leader, 3);
  await driven.clock.advance(300_500);
  expect(await compacted(driven, leader)).toBe(-1);
  await putMany(driven, leader, 20);
  await driven.clock.advance(300_500);
  for (const member of driven.cluster.members) expect(await compacted(driven, member)).toBe(19);
});

test("a damaged row of one member raises CORRUPT for it, and writes are refused everywhere", async () => {
  const driven = await startWith(3, { corruptCheckMilliseconds: 5000 });
  const leader = await driven.leader();
  await putMany(driven, leader, 4);
  await driven.clock.advance(11_000);
  expect(await alarmsOf(driven, leader)).toEqual([]);
  const [odd] = driven.cluster.followers;
  if (odd === undefined) throw new Error("no follower");
  damage(odd);
  await driven.clock.advance(11_000);
  expect(await alarmsOf(driven, leader)).toEqual([{ member: odd.id, alarm: "corrupt" }]);
  for (const member of driven.cluster.members) {
    await expect(driven.settled(put(member, "key", "x"))).rejects.toMatchObject({
      code: "corrupt",
    });
  }
});

test("a damaged leader is found by what the others agree on", async () => {
  const driven = await startWith(3, { corruptCheckMilliseconds: 5000 });
  const leader = await driven.leader();
  await putMany(driven, leader, 4);
  damage(leader);
  await driven.clock.advance(11_000);
  expect(await alarmsOf(driven, leader)).toEqual([{ member: leader.id, alarm: "corrupt" }]);
});

test("after a compaction the hashes of what it left are compared", async () => {
  const driven = await startWith(3, { compactHashCheckMilliseconds: 5000 });
  const leader = await driven.leader();
  await putMany(driven, leader, 4);
  const [odd] = driven.cluster.followers;
  if (odd === undefined) throw new Error("no follower");
  damage(odd);
  await driven.clock.advance(11_000);
  expect(await alarmsOf(driven, leader)).toEqual([]);
  const options = { revision: 5, physical: false };
  await driven.settled(leader.peer.services.kv.compact(options, PATIENT_CALL));
  await driven.clock.advance(11_000);
  expect(await alarmsOf(driven, leader)).toEqual([{ member: odd.id, alarm: "corrupt" }]);
});

test("a starting member that differs from the others says so and does not serve", async () => {
  const driven = await startWith(3, {});
  const leader = await driven.leader();
  await putMany(driven, leader, 4);
  await driven.clock.advance(500);
  const [odd, sound] = driven.cluster.followers;
  if (odd === undefined || sound === undefined) throw new Error("no followers");
  await driven.settled(sound.peer.checkInitially());
  damage(odd);
  await expect(driven.settled(odd.peer.checkInitially())).rejects.toThrow(
    `member ${odd.id} found data inconsistency with peers`,
  );
});

test("the odd ones: those apart from a majority of the voters; nobody by name without one", () => {
  const hashes = (...list: [bigint, number][]) => new Map(list);
  expect(oddOnes(hashes([1n, 7], [2n, 7]), [1n, 2n, 3n])).toEqual([]);
  expect(oddOnes(hashes([1n, 7], [2n, 7], [3n, 8]), [1n, 2n, 3n])).toEqual([3n]);
  expect(oddOnes(hashes([1n, 7], [2n, 7], [9n, 8]), [1n, 2n, 3n])).toEqual([9n]);
  expect(oddOnes(hashes([1n, 7], [2n, 8]), [1n, 2n, 3n])).toEqual([0n]);
  expect(oddOnes(hashes([1n, 6], [2n, 7], [3n, 8]), [1n, 2n, 3n])).toEqual([0n]);
});
