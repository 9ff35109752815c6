/** Recipes that hold: mutex, read-write lock, semaphore, election, barriers, over a cluster in memory. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  Barrier,
  DoubleBarrier,
  Election,
  Mutex,
  ReadWriteLock,
  Semaphore,
  openSession,
} from "../../../../shared/client/index.ts";
import type { Leader, Store } from "../../../../shared/client/index.ts";
import { startTestCluster } from "../../../../shared/testing/index.ts";
import type { TestCluster } from "../../../../shared/testing/index.ts";

let cluster: TestCluster;
let store: Store<string>;
let count = 0;

beforeAll(async () => {
  cluster = await startTestCluster();
});
afterAll(() => cluster.stop());
beforeEach(() => {
  count += 1;
  store = cluster.connect({ namespace: `case-${count}/` });
});

/** Lets everything that can happen without time happen. */
const settle = (): Promise<void> => new Promise((done) => setTimeout(done, 30));

/** Of all lines of the test, by holders and waiters. */
const placesTaken = (count: number) => expect.poll(() => store.count({ prefix: "" })).toBe(count);

describe("mutex", () => {
  test("one holds it at a time; tokens grow; a waiter goes on when it is released", async () => {
    const mutex = new Mutex(store, "m");
    let inside = 0;
    const tokens: number[] = [];
    const work = async (): Promise<void> => {
      await using lock = await mutex.lock();
      inside += 1;
      expect(inside).toBe(1);
      tokens.push(lock.token);
      await settle();
      inside -= 1;
    };
    await Promise.all([work(), work(), work(), work()]);
    expect(tokens).toEqual([...tokens].sort((a, b) => a - b));
    expect(new Set(tokens).size).toBe(4);
    expect(await store.count({ prefix: "m/" })).toBe(0);
  });

  test("tryLock takes it or not, at once", async () => {
    const mutex = new Mutex(store, "m");
    const held = await mutex.tryLock();
    expect(held).toBeDefined();
    expect(await mutex.tryLock()).toBeUndefined();
    await held?.release();
    const again = await mutex.tryLock();
    expect(again).toBeDefined();
    await again?.release();
  });

  test("a wait that is given up leaves the line", async () => {
    const mutex = new Mutex(store, "m");
    const held = await mutex.lock();
    const aborter = new AbortController();
    const waiting = mutex.lock({ signal: aborter.signal });
    await placesTaken(2);
    aborter.abort("enough");
    await expect(waiting).rejects.toMatchObject({ code: "canceled" });
    expect(await store.count({ prefix: "m/" })).toBe(1);
    await held.release();
  });

  test("a waiter whose lease ends is told so; the next one gets the lock", async () => {
    const mutex = new Mutex(store, "m", { ttl: 1 });
    const held = await mutex.lock();
    const session = await openSession(store, { ttl: 1 });
    const waiting = new Mutex(store, "m", { session }).lock();
    await placesTaken(2);
    const next = mutex.lock();
    await cluster.expireLease(session.lease);
    await expect(waiting).rejects.toMatchObject({ code: "leaseNotFound" });
    await held.release();
    await (await next).release();
  });

  test("a session shared by two lockers holds one place", async () => {
    await using session = await openSession(store);
    const mutex = new Mutex(store, "m", { session });
    const held = await mutex.lock();
    await expect(mutex.lock()).rejects.toMatchObject({ status: "alreadyExists" });
    await held.release();
    expect(session.signal.aborted).toBe(false);
    await (await mutex.lock()).release();
  });
});

test("a read-write lock: readers together, writers alone, nobody overtakes", async () => {
  const lock = new ReadWriteLock(store, "rw");
  const first = await lock.read();
  const second = await lock.read();
  const order: string[] = [];
  const writing = lock.write().then((holding) => {
    order.push("writer");
    return holding;
  });
  await placesTaken(3);
  const third = lock.read().then((holding) => {
    order.push("reader");
    return holding;
  });
  await settle();
  expect(order).toEqual([]);
  await first.release();
  await second.release();
  const writer = await writing;
  await settle();
  expect(order).toEqual(["writer"]);
  await writer.release();
  await (await third).release();
  expect(order).toEqual(["writer", "reader"]);
});

test("a semaphore has its permits", async () => {
  const semaphore = new Semaphore(store, "s", { permits: 3 });
  let inside = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    await using _permit = await semaphore.acquire();
    inside += 1;
    most = Math.max(most, inside);
    await expect.poll(() => most).toBe(3);
    await settle();
    inside -= 1;
  };
  await Promise.all(Array.from({ length: 10 }, work));
  expect(most).toBe(3);
  expect(() => new Semaphore(store, "s", { permits: 0 })).toThrow("1 permit");
});

describe("election", () => {
  test("one leads, proclaims, resigns; observers see each leader and proclamation", async () => {
    const election = new Election(store, "e");
    expect(await election.leader()).toBeUndefined();
    const seen: Leader[] = [];
    const done = new AbortController();
    const observing = (async () => {
      for await (const leader of election.observe({ signal: done.signal })) seen.push(leader);
    })();
    const first = await election.campaign("a");
    const second = election.campaign("b");
    await expect.poll(() => seen.map(({ value }) => value)).toEqual(["a"]);
    await first.proclaim("a2");
    await expect.poll(() => seen.map(({ value }) => value)).toEqual(["a", "a2"]);
    expect(await election.leader()).toMatchObject({ value: "a2", token: first.token });
    await first.resign();
    const leadership = await second;
    expect(leadership.token).toBeGreaterThan(first.token);
    await expect.poll(() => seen.map(({ value }) => value)).toEqual(["a", "a2", "b"]);
    await expect(first.proclaim("late")).rejects.toMatchObject({ status: "aborted" });
    await leadership.resign();
    done.abort();
    await observing;
  });

  test("when the leader falls silent another follows", async () => {
    const election = new Election(store, "e", { ttl: 1 });
    const session = await openSession(store, { ttl: 1 });
    const first = await new Election(store, "e", { session }).campaign("silent");
    session.lease.close();
    const second = await election.campaign("next");
    expect(second.token).toBeGreaterThan(first.token);
    await second.resign();
  });
});

test("a barrier holds everybody until it is opened", async () => {
  const barrier = new Barrier(store, "b");
  await barrier.wait();
  await barrier.close();
  await expect(barrier.close()).rejects.toMatchObject({ status: "alreadyExists" });
  const passed: number[] = [];
  const waiting = [1, 2, 3].map((n) => barrier.wait().then(() => passed.push(n)));
  await settle();
  expect(passed).toEqual([]);
  await barrier.open();
  await Promise.all(waiting);
});

test("a double barrier: all enter, all leave, and again", async () => {
  for (const round of [1, 2]) {
    const events: string[] = [];
    const walk = async (n: number): Promise<void> => {
      const barrier = new DoubleBarrier(store, "d", { count: 3 });
      await barrier.enter();
      events.push("in");
      if (n === 0) await settle();
      await barrier.leave();
      events.push("out");
    };
    const early = [walk(0), walk(1)];
    await settle();
    expect([round, events]).toEqual([round, []]);
    await Promise.all([...early, walk(2)]);
    expect(events).toEqual(["in", "in", "in", "out", "out", "out"]);
  }
});
