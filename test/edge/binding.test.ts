/** The store as a service binding: another Worker in the same workerd calls it by name. */
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, expect, test } from "vitest";
import { attachLink } from "../../node-runner/link/link-door.ts";
import type { LinkDoor } from "../../node-runner/link/link-door.ts";
import { bundle } from "../../node-runner/start/edge.ts";
import { MemoryServices } from "../support/memory-services.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const COMPATIBILITY_DATE = "2026-11-02";

const services = new MemoryServices();
let server: Server;
let door: LinkDoor;
let workers: Miniflare;
let url: URL;

beforeAll(async () => {
  server = createServer();
  const options = {
    clusterId: 1n,
    memberId: 2n,
    secret: undefined,
    origins: [],
    knowsCallers: false,
  };
  door = attachLink(server, services, options);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const peer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const moduleOf = async (path: string) => ({
    type: "ESModule" as const,
    path: "index.js",
    contents: await bundle(join(ROOT, path)),
  });
  const entrypoint = { name: "edge", entrypoint: "StoreEntrypoint" };
  const limited = { read: ["mine/"], write: ["mine/"], tenant: "app" };
  workers = new Miniflare(
    convertV4MiniflareOptions({
      workers: [
        {
          name: "app",
          compatibilityDate: COMPATIBILITY_DATE,
          modules: [await moduleOf("test/worker/binding-app.ts")],
          serviceBindings: { STORE: entrypoint, LIMITED: { ...entrypoint, props: limited } },
        },
        {
          name: "edge",
          compatibilityDate: COMPATIBILITY_DATE,
          compatibilityFlags: ["nodejs_compat"],
          modules: [await moduleOf("worker/index.ts")],
          bindings: { QUORATE_PEERS: peer },
        },
      ],
    }),
  );
  url = await workers.ready;
});
afterAll(async () => {
  await workers?.dispose();
  door?.close();
  server?.closeAllConnections();
  server?.close();
});

const ask = async (path: string): Promise<unknown> => {
  const response = await fetch(new URL(path, url), { signal: AbortSignal.timeout(60_000) });
  const text = await response.text();
  if (!response.ok) throw new Error(text);
  return JSON.parse(text) as unknown;
};

test("get, put, list, compare-and-set, delete and leases by name", async () => {
  expect(await ask("/")).toEqual({
    missing: true,
    value: "hello",
    modRevision: true,
    taken: false,
    set: true,
    listed: [["app/greeting", "changed"]],
    ttl: 30,
    gone: true,
    deleted: 1,
  });
});

test("a binding whose props name permissions has those alone", async () => {
  const refused: unknown = expect.stringContaining("permission denied");
  expect(await ask("/limited")).toEqual({
    read: "x",
    foreignRead: refused,
    foreignWrite: refused,
    everything: refused,
  });
});

test("a watch is an async iterator: each change once, resumed by id, ended with its loop", async () => {
  expect(await ask("/watch")).toEqual({
    seen: [
      ["ready", null, null],
      ["put", "w/a", "1"],
      ["put", "w/b", "2"],
      ["delete", "w/a", ""],
    ],
    resumed: [
      ["ready", null],
      ["put", "w/b"],
      ["delete", "w/a"],
    ],
    refused: expect.stringContaining("permission denied") as unknown,
  });
  await expect.poll(() => services.openStreams, { timeout: 30_000 }).toBe(0);
});

test("a watch whose caller is behind loses nothing", async () => {
  expect(await ask("/watch-many")).toEqual({ same: true, count: 40 });
});
