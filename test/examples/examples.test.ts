/** The examples, run: each shows what its header promises. (The presence list runs in test/browser.) */
import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Services, connect, json } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";
import { startTestCluster } from "../../shared/testing/index.ts";
import { Child } from "../support/child.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { greet, startGreeter } from "./discovery.ts";
import { RateLimiter } from "./rate-limiter.ts";

let cluster: Cluster;
let endpoints: string[];
let store: Store<string>;

beforeAll(async () => {
  cluster = await startQuorate();
  endpoints = cluster.addresses.map((address) => `http://${address}`);
  store = connect({ endpoints });
});
afterAll(async () => {
  store?.close();
  await cluster?.stop();
});

test("rate limiter: exactly so many a window, whoever asks, and again in the next", async () => {
  await using memory = await startTestCluster();
  const limiters = [1, 2, 3].map(
    () => new RateLimiter(memory.connect(), { limit: 5, windowSeconds: 4 }),
  );
  const ask = async (): Promise<number> => {
    const asked = limiters.flatMap((limiter) =>
      Array.from({ length: 6 }, () => limiter.allow("ada")),
    );
    return (await Promise.all(asked)).filter(Boolean).length;
  };
  expect(await ask()).toBe(5);
  expect(await limiters[0]?.allow("grace")).toBe(true);
  await expect.poll(() => limiters[1]?.allow("ada")).toBe(true);
});

test("leader election: when the working process is killed another goes on", async () => {
  interface Progress {
    readonly done: number;
    readonly by: string;
    readonly token: number;
  }
  const progress = store.namespace("elected/").as(json<Progress>());
  const script = join(import.meta.dirname, "elected-worker.ts");
  const start = (name: string): Promise<Child> =>
    Child.start({ command: process.execPath, args: [script, name, ...endpoints] });
  const workers = new Map<string, Child>();
  for (const name of ["one", "two", "three"]) workers.set(name, await start(name));
  try {
    const done = async (): Promise<number> => (await progress.get("progress"))?.value.done ?? 0;
    await expect.poll(done, { timeout: 60_000 }).toBeGreaterThan(3);
    const before = (await progress.get("progress"))?.value;
    workers.get(before?.by ?? "")?.kill("SIGKILL");
    const by = async (): Promise<string | undefined> => (await progress.get("progress"))?.value.by;
    await expect.poll(by, { timeout: 60_000 }).not.toBe(before?.by);
    const after = (await progress.get("progress"))?.value;
    expect(after?.token).toBeGreaterThan(before?.token ?? 0);
    expect(after?.done).toBeGreaterThan(before?.done ?? 0);
  } finally {
    await Promise.all([...workers.values()].map((worker) => worker.stop()));
  }
});

test("discovery: calls are spread, a crashed server is passed over, then forgotten", async () => {
  const servers = await Promise.all(["a", "b", "c"].map((name) => startGreeter(store, name)));
  const services = new Services(store, "greeter");
  await services.ready;
  const answers = new Set<string>();
  for (let n = 0; n < 6; n += 1) answers.add(await greet(services));
  expect([...answers].sort()).toEqual(["hello from a", "hello from b", "hello from c"]);
  servers[0]?.crash();
  for (let n = 0; n < 6; n += 1) expect(await greet(services)).not.toBe("hello from a");
  await Promise.all(servers.map((server) => server.stop()));
  await expect.poll(() => services.current).toEqual([]);
  services.close();
});

test("config in a Worker: a Durable Object follows the key over a service binding", async () => {
  const bundle = async (entry: string): Promise<string> => {
    const { outputFiles } = await build({
      entryPoints: [join(import.meta.dirname, entry)],
      bundle: true,
      write: false,
      format: "esm",
      target: "es2022",
      conditions: ["workerd"],
      external: ["cloudflare:*", "node:*"],
      logLevel: "error",
    });
    return outputFiles[0]?.text ?? "";
  };
  const module = async (entry: string): Promise<object> => ({
    modules: [{ type: "ESModule", path: "index.js", contents: await bundle(entry) }],
    compatibilityDate: "2026-11-02",
    compatibilityFlags: ["nodejs_compat"],
  });
  const workers = new Miniflare(
    convertV4MiniflareOptions({
      cf: false,
      workers: [
        {
          ...(await module("worker/config-worker.ts")),
          name: "app",
          serviceBindings: { STORE: "edge" },
          durableObjects: { SETTINGS: "SettingsHolder" },
        },
        {
          ...(await module("../../worker/index.ts")),
          name: "edge",
          bindings: { QUORATE_PEERS: endpoints.join(",") },
          durableObjects: { LEASE_HUB: "LeaseHub" },
        },
      ],
    } as unknown as Parameters<typeof convertV4MiniflareOptions>[0]),
  );
  try {
    const url = await workers.ready;
    const banner = async (): Promise<string> => (await fetch(url)).text();
    expect(await banner()).toBe("none");
    const settings = store.as(json<{ banner: string }>());
    await settings.put("settings", { banner: "hello" });
    await expect.poll(banner).toBe("hello");
    const put = await fetch(url, { method: "PUT", body: "goodbye" });
    const { revision } = (await put.json()) as { revision: number };
    expect((await settings.get("settings"))?.modRevision).toBe(revision);
    await expect.poll(banner).toBe("goodbye");
    await store.delete("settings");
    await expect.poll(banner).toBe("none");
  } finally {
    await workers.dispose();
  }
});
