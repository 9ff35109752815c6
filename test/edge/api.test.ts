/**
 * The API suite through the Worker in local workerd: its JSON gateway before one peer, and before
 * three, where calls may go to any of them.
 */
import { describe } from "vitest";
import { GATEWAY_SUITES } from "../api/all-suites.ts";
import { PROGRESS_NOTIFY, runApiSuites, type Target } from "../api/api-suite.ts";
import { startQuorate } from "../support/cluster.ts";
import { GatewayChannel } from "../support/gateway-channel.ts";
import { startWorkerd } from "./edge.ts";
import { urlsOf } from "./proxy-suite.ts";

const flags = [`--watch-progress-notify-interval=${PROGRESS_NOTIFY}`];

async function start(members: number): Promise<Target> {
  const cluster = await startQuorate({ members, flags });
  // What is tested is what the answers say: a slow machine may take its time for them.
  const edge = await startWorkerd(urlsOf(cluster), { QUORATE_TIMEOUT_MS: "60000" });
  const channel = new GatewayChannel(new URL(edge.url ?? "").host);
  // What is asked of a certain member is asked at its own gateway.
  const own = cluster.addresses.map((address) => new GatewayChannel(address));
  return {
    channel,
    members: own,
    addresses: [],
    async stop() {
      for (const each of [channel, ...own]) each.close();
      await edge.stop();
      await cluster.stop();
    },
  };
}

for (const members of [1, 3]) {
  describe(`API on the edge in workerd, ${members} peer(s)`, () => {
    const options = { label: "edge", door: "gateway", members };
    runApiSuites({ ...options, start: () => start(members) }, GATEWAY_SUITES);
  });
}
