/** Recipes over data: queues, transactional memory, live values, services, over a cluster in memory. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  LiveRange,
  LiveValue,
  PriorityQueue,
  Queue,
  Services,
  atomically,
  json,
  register,
} from "../../../../shared/client/index.ts";
import type { Store } from "../../../../shared/client/index.ts";
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

describe("queues", () => {
  test("items come out in their order, each to one taker", async () => {
    const queue = new Queue(store.as(json<number>()), "q");
    const takers = Array.from({ length: 4 }, async () => {
      const taken: number[] = [];
      for (let n = 0; n < 5; n += 1) taken.push((await queue.dequeue()).value);
      return taken;
    });
    for (let n = 0; n < 20; n += 1) await queue.enqueue(n);
    const taken = await Promise.all(takers);
    for (const mine of taken) expect(mine).toEqual([...mine].sort((a, b) => a - b));
    expect(taken.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(await queue.tryDequeue()).toBeUndefined();
  });

  test("a priority goes before age, and age counts among equals", async () => {
    const queue = new PriorityQueue(store, "p");
    await queue.enqueue("late, second", 7);
    await queue.enqueue("early", 3);
    await queue.enqueue("late, third", 7);
    await queue.enqueue("first of all", 0);
    const values: (string | undefined)[] = [];
    for (let n = 0; n < 4; n += 1) values.push((await queue.tryDequeue())?.value);
    expect(values).toEqual(["first of all", "early", "late, second", "late, third"]);
    await expect(queue.enqueue("x", -1)).rejects.toThrow("a priority is");
  });

  test("a take that waits can be given up", async () => {
    const signal = AbortSignal.timeout(50);
    await expect(new Queue(store, "q").dequeue({ signal })).rejects.toMatchObject({
      code: "canceled",
    });
  });
});

describe("transactional memory", () => {
  test("concurrent transfers keep the sum, and each run sees one state", async () => {
    const accounts = store.as(json<number>());
    const names = ["a", "b", "c"];
    for (const name of names) await accounts.put(name, 100);
    let runs = 0;
    const transfer = (n: number): Promise<unknown> =>
      atomically(accounts, async (run) => {
        runs += 1;
        const balances = [];
        for (const name of names) balances.push((await run.get(name)) ?? 0);
        expect(balances.reduce((sum, each) => sum + each, 0)).toBe(300);
        const [from, to] = [names[n % 3], names[(n + 1) % 3]] as [string, string];
        run.put(from, ((await run.get(from)) ?? 0) - 1);
        run.put(to, ((await run.get(to)) ?? 0) + 1);
        expect(await run.get(to)).toBeGreaterThan(0);
      });
    await Promise.all(Array.from({ length: 12 }, (_, n) => transfer(n)));
    expect(runs).toBeGreaterThan(12);
    const { entries } = await accounts.list({ all: true });
    expect(entries.map((entry) => entry.value)).toEqual([100, 100, 100]);
  });

  test("what is written unread is guarded by the snapshot; deletes and errors", async () => {
    await store.put("read", "1");
    let tries = 0;
    const { result, revision } = await atomically(store, async (run) => {
      tries += 1;
      await run.get("read");
      if (tries === 1) await store.put("written", "by somebody else");
      run.put("written", "by us");
      run.delete("read");
      expect(await run.get("read")).toBeUndefined();
      return tries;
    });
    expect(result).toBe(2);
    expect(await store.get("written")).toMatchObject({ value: "by us", modRevision: revision });
    expect(await store.get("read")).toBeUndefined();
    const failing = atomically(store, (run) => {
      run.put("never", "x");
      throw new Error("changed my mind");
    });
    await expect(failing).rejects.toThrow("changed my mind");
    expect(await store.get("never")).toBeUndefined();
  });
});

describe("live state", () => {
  test("a value follows its key, over cuts and compaction, and passes over what is invalid", async () => {
    const typed = store.as(json<{ level: string }>());
    const live = new LiveValue(typed, "config", { fallback: { level: "info" } });
    await live.ready;
    expect(live.current).toEqual({ level: "info" });
    await typed.put("config", { level: "debug" });
    await expect.poll(() => live.current?.level).toBe("debug");
    await store.put("config", "{");
    await expect.poll(() => live.invalid).toBeDefined();
    expect(live.current?.level).toBe("debug");
    cluster.member(0).cutClients();
    const { revision } = await typed.put("config", { level: "warn" });
    await store.compact(revision);
    await expect.poll(() => live.current?.level).toBe("warn");
    expect(live.invalid).toBeUndefined();
    await store.delete("config");
    await expect.poll(() => live.current?.level).toBe("info");
    live.close();
  });

  test("a range is iterated state by state; a slow reader skips to the newest", async () => {
    const live = new LiveRange(store, { prefix: "r/" });
    const states: string[] = [];
    for await (const entries of live) {
      states.push([...entries.keys()].join(","));
      if (states.length === 1) await store.put("r/a", "1");
      if (states.length === 2) {
        await store.put("r/b", "1");
        await store.put("r/c", "1");
        await store.delete("r/a");
        await expect.poll(() => live.current.has("r/a")).toBe(false);
      }
      if (states.length === 3) break;
    }
    live.close();
    expect(states).toEqual(["", "r/a", "r/b,r/c"]);
  });

  test("what can't be read is told", async () => {
    const live = new LiveRange(store, "");
    await expect(live.ready).rejects.toMatchObject({ status: "invalidArgument" });
  });
});

describe("services", () => {
  test("registered endpoints are seen, balanced, rested and taken away", async () => {
    const one = await register(store, "api", { address: "10.0.0.1:80", metadata: { zone: "a" } });
    const two = await register(store, "api", { address: "10.0.0.2:80" });
    expect((await store.get("api/10.0.0.1:80"))?.value).toBe(
      '{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"zone":"a"}}',
    );
    const services = new Services(store, "api");
    await services.ready;
    expect(services.current).toHaveLength(2);
    const asked: string[] = [];
    for (let n = 0; n < 4; n += 1) {
      await services.use(({ address }) => Promise.resolve(asked.push(address)));
    }
    expect(new Set(asked.slice(0, 2)).size).toBe(2);
    expect(asked.slice(0, 2)).toEqual(asked.slice(2));
    const failing = services.use(() => Promise.reject(new Error("down")));
    await expect(failing).rejects.toThrow("down");
    const after = await Promise.all(
      [1, 2, 3].map(() => services.use(({ address }) => Promise.resolve(address))),
    );
    expect(new Set(after).size).toBe(1);
    await one.unregister();
    await two.unregister();
    await expect.poll(() => services.current).toEqual([]);
    await expect(services.use(() => Promise.resolve())).rejects.toThrow("nobody offers");
    services.close();
  });

  test("leastBusy prefers whoever has less to do", async () => {
    await using _one = await register(store, "api", { address: "a" });
    await using _two = await register(store, "api", { address: "b" });
    const services = new Services(store, "api", { balance: "leastBusy" });
    await services.ready;
    const never = new Promise<void>(() => undefined);
    let held = "";
    void services.use(({ address }) => {
      held = address;
      return never;
    });
    const picked = Array.from({ length: 200 }, () => services.pick()?.address);
    const free = picked.filter((address) => address !== held).length;
    expect(free).toBeGreaterThan(100);
    services.close();
  });

  test("an endpoint whose lease was lost is offered anew", async () => {
    await using _registration = await register(store, "api", { address: "a" }, { ttl: 1 });
    const before = await store.get("api/a");
    await cluster.expireLease({ id: before?.lease ?? 0n });
    await expect
      .poll(async () => (await store.get("api/a"))?.lease, { timeout: 5000 })
      .not.toBe(before?.lease);
    await expect.poll(async () => (await store.get("api/a")) !== undefined).toBe(true);
  });
});
