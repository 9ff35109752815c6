/**
 * A cluster without servers: three voters in Durable Objects of the Worker itself, in local workerd.
 * The suites of the HTTP API, leases, watches and the link are those that run before Node peers.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { consistencySuite } from "./consistency-suite.ts";
import {
  FAST,
  PATIENT,
  jsonOf,
  problemOf,
  startServerless,
  untilHealthy,
  withClient,
} from "./edge.ts";
import type { Edge } from "./edge.ts";
import { kvSuite } from "./kv-suite.ts";
import { leaseSuite, watchSuite } from "./lease-suite.ts";
import { linkSuite } from "./link-suite.ts";

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
