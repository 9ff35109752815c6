/**
 * The lease hub in workerd, before peers that count what reaches them: many clients' renewals
 * become few messages, and nothing but the peers' answer is ever told.
 */
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createTestHarness } from "wrangler";
import { attachLink } from "../../node-runner/link/link-door.ts";
import type { LinkDoor } from "../../node-runner/link/link-door.ts";
import { rpcError } from "../../shared/api/errors.ts";
import { connect } from "../../shared/client/index.ts";
import { startEdge } from "../../node-runner/start/edge.ts";
import { freePorts } from "../support/ports.ts";
import { PATIENT_CALL } from "../support/in-process-cluster.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { MemoryServices } from "../support/memory-services.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const HUB = { name: "leases:0" };

/** Peers of one map, on a socket. */
class FakeCluster {
  readonly services = new MemoryServices();
  readonly #server: Server = createServer();
  readonly #door: LinkDoor;

  constructor() {
    const options = {
      clusterId: 1n,
      memberId: 2n,
      secret: undefined,
      knowsCallers: false,
      origins: [],
    };
    this.#door = attachLink(this.#server, this.services, options);
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async grant(): Promise<string> {
    const { id } = await this.services.lease.grant({ id: 0n, ttlSeconds: 30n }, PATIENT_CALL);
    return `${id}`;
  }

  stop(): void {
    this.#door.close();
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

interface Renewal {
  readonly status: number;
  readonly ttl?: number;
  readonly title?: string;
}

/** Renews over HTTP. Fails loudly when no answer comes. */
async function keep(url: string, id: string): Promise<Renewal> {
  const init = { method: "POST", signal: AbortSignal.timeout(20_000) };
  const response = await fetch(`${url}/lease/${id}/keepalive`, init);
  return { ...((await response.json()) as object), status: response.status };
}

const statusesOf = (answers: readonly Renewal[]): Set<number> =>
  new Set(answers.map(({ status }) => status));

describe("the lease hub in workerd", () => {
  const cluster = new FakeCluster();
  const { services } = cluster;
  const dataDir = makeTempDir("hub");
  let edge: Awaited<ReturnType<typeof startEdge>> | undefined;
  let url: string;

  beforeAll(async () => {
    const peer = await cluster.listen();
    const [port = 0] = await freePorts(1);
    edge = await startEdge({ port, peers: [peer], dataDir });
    url = `http://127.0.0.1:${port}`;
  });
  afterAll(async () => {
    await edge?.stop();
    cluster.stop();
    removeTempDir(dataDir);
  });
  beforeEach(() => {
    services.fault = {};
    services.keepAliveBatches.length = 0;
  });

  test("renewals of many clients reach the peers as few messages", async () => {
    const ids = await Promise.all(Array.from({ length: 100 }, () => cluster.grant()));
    const renewals = 500;
    const answers = await Promise.all(
      Array.from({ length: renewals }, (_, n) => keep(url, ids[n % ids.length] as string)),
    );
    expect(statusesOf(answers)).toEqual(new Set([200]));
    expect(new Set(answers.map(({ ttl }) => ttl))).toEqual(new Set([30]));
    const messages = services.keepAliveBatches.length;
    console.log(`lease hub: ${renewals} renewals of 100 leases in ${messages} messages`);
    expect(messages).toBeLessThan(renewals / 5);
  });

  test("a lease that the peers don't know is told as lost, beside one that lives", async () => {
    const [lost, alive] = [await cluster.grant(), await cluster.grant()];
    services.expire(BigInt(lost));
    const answers = await Promise.all([keep(url, lost), keep(url, alive)]);
    expect(answers.map(({ status }) => status)).toEqual([404, 200]);
  });

  test("no success is invented when the peers refuse, and the next renewal counts", async () => {
    const id = await cluster.grant();
    services.fault = {
      before: (method) => {
        if (method === "leaseKeepAlive") throw rpcError("notPrimaryLessor");
      },
    };
    const answers = await Promise.all([keep(url, id), keep(url, id), keep(url, id)]);
    expect(statusesOf(answers)).toEqual(new Set([500]));
    expect(answers[0]?.title).toBe("not a primary lessor");
    services.fault = {};
    expect(await keep(url, id)).toMatchObject({ status: 200, ttl: 30 });
  });

  test("renewals on links go through the hub as well, other calls pass by it", async () => {
    const stores = Array.from({ length: 8 }, () => connect({ edge: url }));
    try {
      const leases = await Promise.all(stores.map((store) => store.lease(3)));
      await stores[0]?.put("on a link", "v");
      const renewed = (): number => services.keepAliveBatches.reduce((sum, size) => sum + size, 0);
      await expect.poll(renewed, { timeout: 10_000 }).toBeGreaterThanOrEqual(leases.length);
      expect(leases.every((lease) => !lease.signal.aborted)).toBe(true);
      expect(services.keepAliveBatches.length).toBeLessThan(leases.length);
    } finally {
      for (const store of stores) store.close();
    }
  });
});

test("an evicted hub answers nobody wrongly, and its successor goes on", async () => {
  process.env["WRANGLER_SEND_METRICS"] = "false";
  const cluster = new FakeCluster();
  const vars = { QUORATE_PEERS: await cluster.listen() };
  const harness = createTestHarness({
    root: ROOT,
    workers: [{ configPath: "wrangler.toml", vars }],
  });
  try {
    const url = (await harness.listen()).url.origin;
    const id = await cluster.grant();
    expect(await keep(url, id)).toMatchObject({ status: 200, ttl: 30 });
    await harness.getWorker().evictDurableObject("LEASE_HUB", HUB);
    expect(await keep(url, id)).toMatchObject({ status: 200, ttl: 30 });
    expect(cluster.services.keepAliveBatches).toEqual([1, 1]);
  } finally {
    await harness.close();
    cluster.stop();
  }
});
