/** The API suite on peers in this process, with memory for disks and links: no socket, no file. */
import { describe } from "vitest";
import { startInProcessCluster } from "../support/in-process-cluster.ts";
import { ServicesChannel } from "../support/services-channel.ts";
import { SERVICE_SUITES } from "./all-suites.ts";
import { runApiSuites, type Target } from "./api-suite.ts";

async function start(members: number): Promise<Target> {
  const config = { progressNotifyMilliseconds: 200 };
  const cluster = startInProcessCluster({ members, config });
  await cluster.ready();
  const channels = cluster.members.map(({ peer }) => new ServicesChannel(peer.services));
  // With several members the tests talk to a follower: the longer way.
  const follower = cluster.members.findIndex((member) => member !== cluster.leader);
  const channel = channels[Math.max(0, follower)];
  if (channel === undefined) throw new Error("a cluster has members");
  return { channel, members: channels, addresses: [], stop: () => cluster.stop() };
}

for (const members of [1, 3]) {
  describe(`API in process, ${members} member(s)`, () => {
    runApiSuites({ label: "in process", members, start: () => start(members) }, SERVICE_SUITES);
  });
}
