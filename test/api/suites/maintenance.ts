/** Maintenance: snapshots, hashes, defragmentation, alarms and downgrades. */
import { createHash } from "node:crypto";
import { expect } from "vitest";
import {
  AlarmRequest_AlarmAction as Action,
  AlarmType,
  DowngradeRequest_DowngradeAction as Downgrade,
  Maintenance,
  type SnapshotResponse,
} from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { expectRefused, headerOf, revisionOf, type ApiSuite, type Case } from "../api-suite.ts";

async function snapshotOf(c: Case): Promise<SnapshotResponse[]> {
  const stream = c.client.channel.serverStream(Maintenance.method.snapshot, {});
  const parts: SnapshotResponse[] = [];
  for (;;) {
    const part = await stream.next();
    parts.push(part);
    if (part.remainingBytes === 0n && part.blob.length === 32) break;
  }
  await stream.end();
  return parts;
}

export const maintenance: ApiSuite = (test) => {
  test("snapshot: whole blocks of 512 bytes, then their SHA-256 in a message of its own", async (c) => {
    for (let key = 0; key < 20; key += 1) await c.put(String(key), "v".repeat(30_000));
    const parts = await snapshotOf(c);
    const file = Buffer.concat(parts.slice(0, -1).map((part) => part.blob));
    expect(file.length).toBeGreaterThan(20 * 30_000);
    expect(file.length % 512).toBe(0);
    const digest = createHash("sha256").update(file).digest();
    expect(Buffer.compare(parts.at(-1)?.blob ?? Buffer.alloc(0), digest)).toBe(0);
    for (const part of parts) expect(part.header).toBeUndefined();
    const remaining = parts.map((part) => part.remainingBytes);
    expect(remaining.toSorted((a, b) => Number(b - a))).toEqual(remaining);
  });

  test("snapshot: each message names the storage version", async (c) => {
    for (const part of await snapshotOf(c)) expect(part.version).toBe("3.7.0");
  });

  test("hash: changes with what is stored, and has a header", async (c) => {
    const hash = () => c.client.channel.unary(Maintenance.method.hash, {});
    await c.put("a", "1");
    const before = await hash();
    const again = await hash();
    expect(again.hash).toBe(before.hash);
    await c.put("a", "2");
    const after = await hash();
    expect(after.hash).not.toBe(before.hash);
    expect(revisionOf(after)).toBe(revisionOf(before) + 1n);
  });

  test("hash kv: of the current and of an older revision; refuses compacted and future ones", async (c) => {
    const hash = (revision: bigint) =>
      c.client.channel.unary(Maintenance.method.hashKV, { revision });
    const first = revisionOf(await c.put("a", "1"));
    const old = await hash(0n);
    await c.put("a", "2");
    const current = await hash(0n);
    expect(current.hash).not.toBe(old.hash);
    expect((await hash(first)).hash).toBe(old.hash);
    await c.client.compact({ revision: first + 1n, physical: true });
    await expectRefused(hash(first), "compacted");
    await expectRefused(hash(first + 5n), "futureRev");
  });

  test("hash kv: of the compacted revision itself", async (c) => {
    const revision = revisionOf(await c.put("a", "1"));
    await c.client.compact({ revision, physical: true });
    const answer = await c.client.channel.unary(Maintenance.method.hashKV, { revision });
    expect(answer.hashRevision).toBe(revision);
  });

  test("hash kv: of the compacted revision is what the compaction took before it removed", async (c) => {
    const before = revisionOf(await c.put("a", "1"));
    await c.client.compact({ revision: before, physical: true });
    const revision = revisionOf(await c.put("a", "2"));
    await c.client.compact({ revision, physical: true });
    const answer = await c.client.channel.unary(Maintenance.method.hashKV, { revision });
    expect([answer.compactRevision, answer.hashRevision]).toEqual([before, revision]);
  });

  test("defragment: has no header, and nothing is lost", async (c) => {
    await c.put("a", "1");
    for (const member of c.target.members) {
      const answer = await member.unary(Maintenance.method.defragment, {});
      expect(answer.header).toBeUndefined();
    }
    expect(c.pairs(await c.range("a"))).toEqual([["a", "1"]]);
    await c.put("a", "2");
    expect(c.pairs(await c.range("a"))).toEqual([["a", "2"]]);
  });

  test("alarm: member and kind count literally, and each is told when it changes", async (c) => {
    const alarm = (action: Action, memberID: bigint, kind: AlarmType) =>
      c.client.channel.unary(Maintenance.method.alarm, { action, memberID, alarm: kind });
    const { GET, ACTIVATE, DEACTIVATE } = Action;
    const { NONE, NOSPACE, CORRUPT } = AlarmType;
    const raised = await alarm(ACTIVATE, 7n, NOSPACE);
    c.later(() => alarm(DEACTIVATE, 7n, NOSPACE));
    expect(raised.alarms).toMatchObject([{ memberID: 7n, alarm: NOSPACE }]);
    expect((await alarm(GET, 0n, NONE)).alarms).toMatchObject([{ memberID: 7n, alarm: NOSPACE }]);
    expect((await alarm(GET, 99n, NOSPACE)).alarms.length).toBe(1);
    expect((await alarm(GET, 0n, CORRUPT)).alarms).toEqual([]);
    await expectRefused(c.put("a", "1"), "noSpace");
    await expectRefused(c.client.leaseGrant({ TTL: 60n }), "noSpace");
    expect((await c.deleteRange("a")).deleted).toBe(0n);
    await alarm(DEACTIVATE, 0n, NOSPACE);
    await expectRefused(c.put("a", "1"), "noSpace");
    expect((await alarm(DEACTIVATE, 7n, NOSPACE)).alarms).toMatchObject([{ memberID: 7n }]);
    expect((await alarm(GET, 0n, NONE)).alarms).toEqual([]);
    await c.put("a", "1");
  });

  test("downgrade: only one minor below, in etcd's words; cancelling never fails", async (c) => {
    const downgrade = (action: Downgrade, version: string) =>
      c.client.channel.unary(Maintenance.method.downgrade, { action, version });
    const { VALIDATE, ENABLE, CANCEL } = Downgrade;
    for (const action of [VALIDATE, ENABLE]) {
      await expectRefused(downgrade(action, "three"), "wrongDowngradeVersionFormat");
      for (const version of ["3.7.0", "3.5.0", "3.8.0", "2.6.0"]) {
        await expectRefused(downgrade(action, version), "invalidDowngradeTargetVersion");
      }
    }
    expect((await downgrade(VALIDATE, "3.6.0")).version).toBe("3.7");
    expect((await downgrade(VALIDATE, "3.6")).version).toBe("3.7");
    expect(headerOf(await downgrade(CANCEL, "")).memberId).not.toBe(0n);
  });
};
