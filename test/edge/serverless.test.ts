/**
 * A cluster without servers: three voters in Durable Objects of the Worker itself, in local workerd.
 * The suites of the HTTP API, leases, watches and the link are those that run before Node peers.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createTestHarness } from "wrangler";
import { Prng } from "../../shared/base/prng.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { consistencySuite } from "./consistency-suite.ts";
import { PATIENT, answered, jsonOf, problemOf, startServerless, withClient } from "./edge.ts";
import type { Edge } from "./edge.ts";
import { kvSuite } from "./kv-suite.ts";
import { leaseSuite, watchSuite } from "./lease-suite.ts";
import { linkSuite } from "./link-suite.ts";

const ROOT = join(import.meta.dirname, "..", "..");

/** Voters that elect and beat faster than those that are paid for. */
const FAST = { QUORATE_TICK_MS: "50" };

describe("a serverless cluster", () => {
  const dataDir = makeTempDir("serverless");
  let edge: Edge;
  beforeAll(async () => {
    edge = await startServerless(dataDir, { ...FAST, ...PATIENT });
    await untilHealthy(edge);
  });
  afterAll(async () => {
    await edge?.stop();
    removeTempDir(dataDir);
  });
  const edgeOf = (): Edge => edge;

  kvSuite(edgeOf);
  describe("leases", () => leaseSuite(edgeOf));
  describe("watches by server-sent events", () => watchSuite(edgeOf));
  describe("consistency", () => consistencySuite(edgeOf));
  describe("the link", () => linkSuite(edgeOf));

  /** Above what a row of the storage holds, once its zeros are escaped. */
  const longKey = "\0".repeat(1_200_000);
  const largeValue = "x".repeat(1_400_000);

  test("keys and values may be as large as on Node peers", async () => {
    await withClient(edge, async (store) => {
      await store.put(longKey, "long");
      await store.put("large", largeValue);
      expect((await store.get(longKey))?.value).toBe("long");
    });
    expect(await (await edge.fetch("/kv/large")).text()).toBe(largeValue);
    const body = "x".repeat(1_600_000);
    const answer = await edge.fetch("/kv/too-large", { method: "PUT", body });
    expect(await problemOf(answer, 413)).toMatchObject({ outcome: "none" });
    await problemOf(await edge.fetch("/kv/too-large"), 404);
  });

  test("etcd's JSON gateway says that it needs a Node peer", async () => {
    const answer = await edge.fetch("/v3/kv/range", { method: "POST", body: '{"key":"YQ=="}' });
    expect(answer.status).toBe(501);
    expect(await answer.text()).toContain("Node peer");
  });

  test("after a restart of the Worker everything is there", async () => {
    const put = await edge.fetch("/kv/lasting", { method: "PUT", body: "still here" });
    const { revision } = await jsonOf<{ revision: number }>(put);
    await edge.stop();
    edge = await startServerless(dataDir, { ...FAST, ...PATIENT });
    await untilHealthy(edge);
    const got = await edge.fetch("/kv/lasting");
    expect([got.status, await got.text(), got.headers.get("etag")]).toEqual([
      200,
      "still here",
      `"${revision}"`,
    ]);
    expect(await (await edge.fetch("/kv/large")).text()).toBe(largeValue);
    await withClient(edge, async (store) => {
      expect((await store.get(longKey))?.value).toBe("long");
    });
  });
});

test("voters that are aborted over and over lose nothing that was acknowledged", async () => {
  process.env["WRANGLER_SEND_METRICS"] = "false";
  const seed = Date.now() % 1_000_000;
  console.log(`restarts: seed ${seed}`);
  const prng = new Prng(seed);
  const harness = createTestHarness({
    root: ROOT,
    workers: [{ configPath: "wrangler.toml", env: "serverless", vars: FAST }],
  });
  try {
    const url = (await harness.listen()).url.origin;
    const fetchAt: Edge["fetch"] = (path, init = {}) =>
      fetch(url + path, { signal: AbortSignal.timeout(60_000), ...init });
    await untilHealthy({ fetch: fetchAt });
    const { PEER } = await harness.getWorker<RestartableEnv>().getEnv();
    const over = new AbortController();
    const storm = async (): Promise<void> => {
      for (let restarts = 0; restarts < RESTARTS; restarts += 1) {
        const name = `quorate/${prng.below(3)}`;
        // It dies in the middle of the call.
        await PEER.getByName(name)
          .restart()
          .catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 50 + prng.below(400)));
      }
    };
    const acknowledged = new Map<string, string>();
    const writer = async (own: number): Promise<void> => {
      for (let round = 0; !over.signal.aborted; round += 1) {
        const key = `storm-${own}-${round % 10}`;
        const value = `${round}`;
        const put = fetchAt(`/kv/${key}`, { method: "PUT", body: value });
        // One that failed may still have happened, and is not known any more.
        const answer = await put.catch(() => undefined);
        await answer?.body?.cancel();
        if (answer?.status === 200) acknowledged.set(key, value);
        else acknowledged.delete(key);
      }
    };
    const storming = storm().finally(() => over.abort());
    await Promise.all([storming, ...Array.from({ length: 4 }, (_, own) => writer(own))]);
    await untilHealthy({ fetch: fetchAt });
    expect(acknowledged.size).toBeGreaterThan(0);
    for (const [key, value] of acknowledged) {
      const got = await answered(() => fetchAt(`/kv/${key}`));
      expect([key, await got.text()]).toEqual([key, value]);
    }
  } finally {
    await harness.close();
  }
});

/** What the storm needs of the Worker's bindings. */
interface RestartableEnv {
  readonly PEER: { getByName(name: string): { restart(): Promise<void> } };
}

const RESTARTS = 30;

/** While voters elect one of them the edge is not healthy; they do so within seconds. */
async function untilHealthy(edge: Pick<Edge, "fetch">): Promise<void> {
  const health = async (): Promise<void> => {
    const answer = await edge.fetch("/healthz");
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`not healthy: ${text}`);
  };
  await vi.waitFor(health, { timeout: 60_000, interval: 200 });
}
