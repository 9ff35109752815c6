/** client leases: renewal in batches, and what an owner may believe, on a clock of the test's. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { rpcError } from "../../../shared/api/errors.ts";
import { connect } from "../../../shared/client/index.ts";
import type { Store } from "../../../shared/client/index.ts";
import { Endpoint, memoryPlatform } from "../../support/memory-link.ts";
import { MemoryServices } from "../../support/memory-services.ts";

let services: MemoryServices;
let endpoint: Endpoint;
let store: Store<string>;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  services = new MemoryServices();
  endpoint = new Endpoint(services);
  store = connect({
    endpoints: ["http://a"],
    platform: memoryPlatform({ "http://a": endpoint }),
  });
});
afterEach(() => {
  store.close();
  vi.useRealTimers();
});

/** Moves the clock, letting what becomes due travel. */
async function pass(milliseconds: number): Promise<void> {
  for (let left = milliseconds; left > 0; left -= 100) {
    await vi.advanceTimersByTimeAsync(Math.min(100, left));
    for (let turn = 0; turn < 6; turn += 1) await new Promise((done) => setImmediate(done));
  }
}

test("a lease is renewed at a third of its ttl for as long as its client lives", async () => {
  const lease = await store.lease(9);
  await store.put("k", "v", { lease });
  expect((await store.get("k"))?.lease).toBe(lease.id);
  await pass(30_000);
  expect(lease.signal.aborted).toBe(false);
  expect(lease.remainingMilliseconds()).toBeGreaterThan(5000);
  expect(services.keepAliveBatches.length).toBeGreaterThanOrEqual(9);
  expect(services.keepAliveBatches.length).toBeLessThanOrEqual(11);
});

test("many leases are renewed in few messages", async () => {
  await Promise.all(Array.from({ length: 200 }, () => store.lease(30)));
  await pass(31_000);
  expect(services.keepAliveBatches).toEqual([200, 200, 200]);
});

test("belief ends at the last renewal's send time plus ttl, less the margin", async () => {
  const lease = await store.lease(10);
  endpoint.state = "silent";
  await pass(9_800);
  expect(lease.signal.aborted).toBe(false);
  await pass(200);
  expect(lease.signal.aborted).toBe(true);
  expect(lease.remainingMilliseconds()).toBe(0);
});

test("a renewal that took long counts from when it was sent", async () => {
  const lease = await store.lease(10);
  let free = (): void => undefined;
  services.fault = { before: () => new Promise<void>((resolve) => (free = resolve)) };
  await pass(3_400);
  services.fault = {};
  await pass(2_000);
  free();
  await pass(100);
  expect(lease.remainingMilliseconds()).toBeLessThan(10_000 - 2_000);
});

test("a lease that the peer doesn't know is lost at once", async () => {
  const lease = await store.lease(9);
  const lost = vi.fn();
  lease.signal.addEventListener("abort", lost);
  services.expire(lease.id);
  await pass(3_100);
  expect(lost).toHaveBeenCalledOnce();
  expect(lease.signal.reason).toMatchObject({ code: "leaseNotFound" });
});

test("renewals that fail are tried again, and success restores belief", async () => {
  const lease = await store.lease(9);
  services.fault = {
    before: () => {
      throw rpcError("requestTooManyRequests");
    },
  };
  await pass(6_000);
  services.fault = {};
  await pass(6_000);
  expect(lease.signal.aborted).toBe(false);
});

test("revoke ends it at the peer; one that is gone already is no error", async () => {
  const lease = await store.lease(9);
  await store.put("k", "v", { lease });
  await lease.revoke();
  expect(lease.signal.aborted).toBe(true);
  expect(await store.get("k")).toBeUndefined();
  await lease.revoke();
});

test("a ttl is whole seconds from 1 on", async () => {
  await expect(store.lease(0.5)).rejects.toThrow("whole seconds");
});

test("`await using` revokes at the scope's end; `lost` tells why", async () => {
  let id = 0n;
  let lost: Promise<Error> | undefined;
  {
    await using lease = await store.lease({ ttl: 9 });
    ({ id, lost } = lease);
    await store.put("k", "v", { lease });
  }
  expect(services.leaseIds).not.toContain(id);
  expect(await store.get("k")).toBeUndefined();
  expect((await lost)?.message).toContain("revoked by its owner");
});

test("a short lease's belief ends 100 ms early, not a hundredth", async () => {
  const lease = await store.lease(2);
  endpoint.state = "silent";
  await pass(1_800);
  expect(lease.signal.aborted).toBe(false);
  await pass(100);
  expect(lease.signal.aborted).toBe(true);
  expect(await lease.lost).toMatchObject({ code: "leaseNotFound" });
});

test("an aborted signal stops a grant", async () => {
  const signal = AbortSignal.abort("no longer wanted");
  await expect(store.lease({ ttl: 9, signal })).rejects.toMatchObject({ status: "canceled" });
});
