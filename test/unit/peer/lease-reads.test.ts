/** Reads under a leader's lease, of whole peers: what they save, and when there are none. */
import { expect, test } from "vitest";
import { serverlessOf } from "../../../worker/durable/serverless-config.ts";
import type { InProcessMember } from "../../support/in-process-cluster.ts";
import { get, put, startDriven, valueOf, type Driven } from "./driven-cluster.ts";

/** Time for the version to be agreed on and for heartbeats to be answered. */
const SETTLED_MILLISECONDS = 5000;

async function start(config: { leaseReads?: boolean; version?: number }): Promise<Driven> {
  const driven = await startDriven({ members: 3, config });
  const until = driven.clock.now() + SETTLED_MILLISECONDS;
  await driven.clock.until(() => driven.clock.now() >= until);
  return driven;
}

function leaseReads({ peer }: InProcessMember): number {
  return peer.raftStatus().leaseReads;
}

test("a read of the leader or a follower needs no round of heartbeats", async () => {
  const driven = await start({ leaseReads: true });
  const leader = await driven.leader();
  await driven.settled(put(leader, "key", "value"));
  const before = leaseReads(leader);
  let rounds = 0;
  driven.cluster.network.filter = (message) => {
    if (message.type === "heartbeat") rounds = Math.max(rounds, message.round);
    return true;
  };
  for (const member of driven.cluster.members) {
    expect(valueOf(await driven.settled(get(member, "key")))).toBe("value");
  }
  expect(leaseReads(leader)).toBe(before + 3);
  const passed = driven.clock.now() + 500;
  await driven.clock.until(() => driven.clock.now() >= passed);
  const all = rounds;
  await driven.settled(get(leader, "key"));
  expect(rounds).toBe(all);
});

test.each([
  ["unless asked for", {}],
  ["while the cluster's version is too old for its messages", { leaseReads: true, version: 1 }],
])("none are served %s", async (_when, config) => {
  const driven = await start(config);
  const leader = await driven.leader();
  let stamped = 0;
  driven.cluster.network.filter = (message) => {
    if (message.type === "heartbeat" && message.sentAt !== undefined) stamped += 1;
    return true;
  };
  await driven.settled(put(leader, "key", "value"));
  expect(valueOf(await driven.settled(get(leader, "key")))).toBe("value");
  expect([leaseReads(leader), stamped]).toEqual([0, 0]);
});

test("a leader that hears nobody answers no read once its lease is over", async () => {
  const driven = await start({ leaseReads: true });
  const leader = await driven.leader();
  driven.cluster.network.filter = ({ from, to }) => from !== leader.nodeId && to !== leader.nodeId;
  const until = driven.clock.now() + 900;
  await driven.clock.until(() => driven.clock.now() >= until);
  const before = leaseReads(leader);
  const error = await driven.settled(get(leader, "key").catch((reason: unknown) => reason));
  expect(error).toMatchObject({ code: expect.stringMatching(/timeout|leader/i) as string });
  expect(leaseReads(leader)).toBe(before);
});

test("Durable Objects refuse them: they have no clock for it", () => {
  expect(() => serverlessOf({ QUORATE_LEASE_READS: "true" })).toThrow(/QUORATE_LEASE_READS/);
  expect(serverlessOf({}).voters).toBe(3);
});
