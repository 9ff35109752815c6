/**
 * Recipes on three real members under faults: whoever holds a lock hears of its loss before anybody
 * else can hold it, and a leader's death breaks neither locks nor elections.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Election, Mutex, connect, openSession } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";

describe("recipes on three members", () => {
  let cluster: Cluster;
  let store: Store<string>;

  beforeAll(async () => {
    cluster = await startQuorate({ members: 3 });
    const endpoints = cluster.addresses.map((address) => `http://${address}`);
    // An election may take a slow machine long: a call goes on over it.
    store = connect({ endpoints, timeoutMilliseconds: 60_000 });
  });
  afterAll(async () => {
    store?.close();
    await cluster?.stop();
  });

  test("a holder that is cut off stops believing before another gets the lock", async () => {
    const proxy = await TcpProxy.start(cluster.addresses[0] ?? "");
    const cutOff = connect({ endpoints: [`http://127.0.0.1:${proxy.port}`] });
    try {
      const session = await openSession(cutOff, { ttl: 5 });
      const lock = await new Mutex(cutOff, "cut", { session }).lock();
      const waiting = new Mutex(store, "cut").lock();
      // It is renewed at least once, so that what is believed isn't the lease's first time.
      let left = session.lease.remainingMilliseconds();
      const isRenewed = (): boolean => {
        const before = left;
        left = session.lease.remainingMilliseconds();
        return left > before;
      };
      await expect.poll(isRenewed).toBe(true);
      proxy.silence();
      const next = await waiting;
      // By the clock, whatever held this process up: its timer, which aborts, may be late with it.
      expect(session.lease.remainingMilliseconds()).toBe(0);
      await expect.poll(() => lock.signal.aborted).toBe(true);
      expect(next.token).toBeGreaterThan(lock.token);
      await next.release();
    } finally {
      cutOff.close();
      await proxy.stop();
    }
  });

  test("a leader's death: the lock stays held, the line goes on, one candidate leads", async () => {
    await using session = await openSession(store, { ttl: 30 });
    const mutex = new Mutex(store, "kill", { ttl: 30 });
    const lock = await mutex.lock();
    const waiting = mutex.lock();
    const election = new Election(store, "race", { session });
    const leadership = await election.campaign("first");
    const { leader } = await store.status();
    const members = await store.members();
    const name = members.find(({ id }) => id === leader)?.name;
    const victim = cluster.members.find((member) => member.name === name);
    await victim?.kill();
    await leadership.proclaim("still here");
    expect((await election.leader())?.value).toBe("still here");
    expect(lock.signal.aborted).toBe(false);
    expect(session.signal.aborted).toBe(false);
    await lock.release();
    const next = await waiting;
    expect(next.token).toBeGreaterThan(lock.token);
    await next.release();
    await victim?.start();
  });
});
