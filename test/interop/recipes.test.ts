/** The client's locks and elections beside etcdctl's: they stand in one line. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Election, Mutex, connect } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";
import { Child } from "../support/child.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { describeWithTools } from "../support/tools.ts";

describeWithTools(["etcdctl"], "the client's recipes beside etcdctl", () => {
  let cluster: Cluster;
  let store: Store<string>;
  const children: Child[] = [];

  beforeAll(async () => {
    cluster = await startQuorate();
    store = connect({ endpoints: cluster.addresses.map((address) => `http://${address}`) });
  });
  afterAll(async () => {
    await Promise.all(children.map((child) => child.stop()));
    store?.close();
    await cluster?.stop();
  });

  async function etcdctl(...args: string[]): Promise<Child> {
    const child = await Child.start({
      command: "etcdctl",
      args: [`--endpoints=${cluster.addresses.join(",")}`, ...args],
      env: { ETCDCTL_API: "3" },
    });
    children.push(child);
    return child;
  }
  const standing = (prefix: string, count: number): Promise<void> =>
    expect.poll(() => store.count({ prefix })).toBe(count);

  test("a lock of ours keeps etcdctl waiting, and its lock keeps us waiting", async () => {
    const mutex = new Mutex(store, "mutex");
    const ours = await mutex.lock();
    const theirs = await etcdctl("lock", "mutex");
    await standing("mutex/", 2);
    expect(theirs.log).toBe("");
    const again = mutex.lock();
    await standing("mutex/", 3);
    await ours.release();
    await theirs.logged("mutex/");
    expect(await mutex.tryLock()).toBeUndefined();
    await theirs.stop();
    const held = await again;
    expect(held.token).toBeGreaterThan(ours.token);
    await held.release();
  });

  test("candidates of both kinds follow each other, and see each other's proclamations", async () => {
    const election = new Election(store, "race");
    const observer = await etcdctl("elect", "race", "--listen");
    const ours = await election.campaign("ours");
    await observer.logged("ours");
    const theirs = await etcdctl("elect", "race", "theirs");
    await standing("race/", 2);
    await ours.proclaim("ours, still");
    await observer.logged("ours, still");
    await ours.resign();
    await theirs.logged("theirs");
    expect((await election.leader())?.value).toBe("theirs");
    const next = election.campaign("ours again");
    await standing("race/", 2);
    await theirs.stop();
    await (await next).resign();
  });
});
