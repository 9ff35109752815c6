/**
 * Histories taken through the edge are linearizable, while leaders are killed and answers are lost
 * on the way to it; and the checker sees when they are not: when retried writes lose their
 * identities, and when reads come from wherever.
 */
import { afterEach, describe, expect, test } from "vitest";
import { Prng } from "../../shared/base/prng.ts";
import { checkLinearizable } from "../sim/linearizability.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { startOnNode, startWorkerd } from "./edge.ts";
import { takeHistory } from "./edge-history.ts";
import type { Edge, StartEdge } from "./edge.ts";
import { lossyPeer } from "./fake-peer.ts";
import type { Loss } from "./fake-peer.ts";

const open: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each.stop();
});

async function startLossy(start: StartEdge, loss: Loss): Promise<{ cluster: Cluster; edge: Edge }> {
  const cluster = await startQuorate({ members: 3 });
  open.push(cluster);
  const peers = [];
  for (const address of cluster.addresses) {
    const peer = await lossyPeer(`http://${address}`, loss);
    open.push(peer);
    peers.push(peer.url);
  }
  const edge = await start(peers, { QUORATE_TIMEOUT_MS: "8000" });
  open.push(edge);
  return { cluster, edge };
}

/** Kills each member in turn, and starts it again; answers are lost all the while. */
async function storm(cluster: Cluster, loss: Loss, prng: Prng): Promise<void> {
  for (const member of cluster.members) {
    for (let burst = 0; burst < 4; burst += 1) {
      loss.answers += 1 + prng.below(3);
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    await member.kill();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await member.start();
  }
}

describe.each<[string, StartEdge]>([
  ["in workerd", startWorkerd],
  ["on Node", startOnNode],
])("the edge %s", (_, start) => {
  test("a history over leader kills and lost answers is linearizable", async () => {
    const seed = 20_261_121;
    const loss: Loss = { answers: 0, stripsIdentities: false, writes: 0 };
    const { cluster, edge } = await startLossy(start, loss);
    let over = false;
    const storming = storm(cluster, loss, new Prng(seed)).finally(() => {
      over = true;
    });
    const how = { seed, until: () => over, operationsEach: 400 };
    const [history] = await Promise.all([takeHistory(edge, how), storming]);
    const answered = history.filter(({ outcome }) => typeof outcome === "object").length;
    const unknown = history.filter(({ outcome }) => outcome === "unknown").length;
    console.log(`seed ${seed}: ${history.length} asked, ${answered} answered, ${unknown} unknown`);
    expect(answered).toBeGreaterThan(40);
    expect(loss.writes).toBeGreaterThan(10);
    expect(checkLinearizable(history)).toMatchObject({ ok: true });
  });
});

describe("negative controls, which the checker must refuse", () => {
  test("retried writes without their identities", async () => {
    const loss: Loss = { answers: 40, stripsIdentities: true, writes: 0 };
    const { edge } = await startLossy(startOnNode, loss);
    const history = await takeHistory(edge, { seed: 7, until: () => false, operationsEach: 30 });
    const verdict = checkLinearizable(history);
    expect(verdict.ok).toBe(false);
  });

  test("a read that an edge answers from what it remembers", async () => {
    const loss: Loss = { answers: 0, stripsIdentities: false, writes: 0 };
    const { edge } = await startLossy(startOnNode, loss);
    const remembered = new Map<string, Response>();
    const caching: Edge = {
      ...edge,
      fetch: async (path, init = {}) => {
        const read = init.method === undefined && !path.includes("serializable");
        const kept = read ? remembered.get(path) : undefined;
        if (kept !== undefined) return kept.clone();
        const response = await edge.fetch(path, init);
        if (read) remembered.set(path, response.clone());
        return response;
      },
    };
    const history = await takeHistory(caching, { seed: 9, until: () => false, operationsEach: 20 });
    const verdict = checkLinearizable(history);
    expect(verdict.ok ? "" : verdict.reason).toContain("was answered before it began");
  });
});
