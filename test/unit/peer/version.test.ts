/**
 * The cluster's version: entries that an older version can't read are proposed only once all
 * members read them, and a peer stops with a clear message at what it can't read.
 */
import { describe, expect, test } from "vitest";
import { utf8 } from "../../../shared/base/bytes.ts";
import { MemoryLogStore } from "../../../shared/raft/memory-log-store.ts";
import {
  assertSpoken,
  commandOf,
  encodeCommand,
  versionNeeded,
} from "../../../shared/wire/command-codec.ts";
import { PEER_VERSION, PEER_VERSION_MIN } from "../../../shared/wire/peer-codec.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import type { InProcessMember } from "../../support/in-process-cluster.ts";
import { get, put, putOp, startDriven, valueOf } from "./driven-cluster.ts";
import type { Driven } from "./driven-cluster.ts";

const OLD = { version: PEER_VERSION_MIN };
const NEW = { version: PEER_VERSION };
const RAISE_MILLISECONDS = 5000;
let writes = 0;

/** A write that only version 2 can read in the log. */
function putOnce(member: InProcessMember, key: string): Promise<unknown> {
  writes += 1;
  const identity = { client: utf8("client"), sequence: writes, floor: 0 };
  return member.peer.services.kv.put(putOp(key, "once"), { ...PATIENT_CALL, identity });
}

/** Every entry that any member has in its log, by what it needs. */
function needs(member: InProcessMember): number[] {
  const { log } = member;
  return log.slice(log.firstIndex, log.lastIndex + 1, Infinity).flatMap(({ data }) => {
    if (data.length === 0) return [];
    const { kind } = commandOf(data);
    return [versionNeeded(kind, ((data[2] as number) & 2) !== 0)];
  });
}

/** The log counts its writes anew after it. */
async function stop(member: InProcessMember): Promise<void> {
  await member.stop();
  member.log = member.log.crash();
}

async function restart(
  { settled }: Driven,
  member: InProcessMember,
  config: object,
): Promise<void> {
  await settled(stop(member));
  member.config = config;
  member.start();
  await settled(member.peer.ready());
}

test("the versions overlap, so that two can run side by side", () => {
  expect(PEER_VERSION_MIN).toBe(PEER_VERSION - 1);
});

test("a new cluster begins with the newest version", async () => {
  const driven = await startDriven({ members: 3 });
  await driven.settled(putOnce(driven.cluster.member(0), "a"));
  await driven.settled(driven.cluster.stop());
});

test("an upgrade, one by one: the new entries wait for the last member", async () => {
  const driven = await startDriven({ members: 3, config: OLD });
  const { cluster, clock, settled } = driven;
  for (const [place, member] of cluster.members.entries()) {
    await settled(put(cluster.member(0), `before ${place}`, "x"));
    for (const asked of cluster.members) {
      await expect(settled(putOnce(asked, "early"))).rejects.toThrow("etcdserver: not capable");
      expect(Math.max(...needs(asked))).toBe(1);
    }
    await restart(driven, member, NEW);
    await clock.advance(RAISE_MILLISECONDS);
  }
  for (const member of cluster.members) {
    await settled(putOnce(member, `new by ${member.id}`));
    expect(valueOf(await settled(get(member, "before 2")))).toBe("x");
    expect(valueOf(await settled(get(member, "early")))).toBeUndefined();
    expect(member.fatal).toBeUndefined();
  }
  await clock.advance(RAISE_MILLISECONDS);
  expect(Math.max(...needs(cluster.member(0)))).toBe(2);
  // There is no way back.
  await settled(stop(cluster.member(0)));
  cluster.member(0).config = OLD;
  expect(() => cluster.member(0).start()).toThrow(
    "the cluster's version is 2, this peer speaks 1: run a newer one",
  );
  await settled(cluster.stop());
});

test("while a member is away, nobody knows what it speaks: the version stays", async () => {
  const driven = await startDriven({ members: 3, config: OLD });
  const { cluster, clock, settled } = driven;
  await settled(stop(cluster.member(2)));
  for (const member of cluster.members.slice(0, 2)) await restart(driven, member, NEW);
  await clock.advance(RAISE_MILLISECONDS);
  await expect(settled(putOnce(cluster.member(0), "a"))).rejects.toThrow("not capable");
  cluster.member(2).config = NEW;
  cluster.member(2).start();
  await clock.advance(RAISE_MILLISECONDS);
  await settled(putOnce(cluster.member(0), "a"));
  await settled(cluster.stop());
});

describe("a peer stops at what it can't read", () => {
  /** A single member's log with one more entry, committed at its next start. */
  async function startWith(data: Uint8Array): Promise<InProcessMember> {
    const driven = await startDriven({ members: 1, config: OLD });
    const member = driven.cluster.member(0);
    await driven.settled(member.stop());
    const { log } = member;
    const entries = log.slice(log.firstIndex, log.lastIndex + 1, Infinity);
    const term = log.hardState?.term ?? 1;
    const index = log.lastIndex + 1;
    const longer = new MemoryLogStore();
    longer.append({
      sequence: 1,
      snapshot: undefined,
      hardState: log.hardState,
      entries: [...entries, { index, term, kind: "normal", data }],
      mustSync: true,
    });
    member.log = longer.crash();
    member.start();
    await driven.clock.until(() => member.fatal !== undefined);
    return member;
  }

  test("an entry of an unknown kind", async () => {
    const { fatal } = await startWith(Uint8Array.of(1, 99, 0));
    expect(fatal?.message).toMatch(
      /^entry \d+: a log entry of unknown kind 99: a newer version wrote it$/,
    );
  });

  test("an entry of a newer layout", async () => {
    const { fatal } = await startWith(Uint8Array.of(2, 1, 0));
    expect(fatal?.message).toMatch(/^entry \d+: a log entry of format 2; this peer reads 1$/);
  });

  test("an entry that a newer version brought", async () => {
    const identity = { client: utf8("c"), sequence: 1, floor: 0 };
    const command = putOp("a", "1");
    const data = encodeCommand({ request: undefined, identity, command });
    const { fatal } = await startWith(data);
    expect(fatal?.message).toMatch(
      /^entry \d+: a log entry \(put\) of version 2, this peer speaks 1: a newer version wrote it$/,
    );
    expect(() => assertSpoken(data, command, 2)).not.toThrow();
  });

  test("a version of the cluster that it doesn't speak", async () => {
    const command = { kind: "clusterVersion", version: "2" } as const;
    const data = encodeCommand({ request: undefined, identity: undefined, command });
    const { fatal } = await startWith(data);
    expect(fatal?.message).toMatch(
      /^entry \d+: the cluster's version is 2 from now on, this peer speaks 1: run a newer one$/,
    );
  });
});
