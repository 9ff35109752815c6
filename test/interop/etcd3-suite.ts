/** npm etcd3, unchanged, against a target: what a Node application does. */
import { Etcd3, EtcdLockFailedError, type Watcher } from "etcd3";
import { afterAll, expect, test } from "vitest";
import type { Cluster } from "../support/cluster.ts";
import { clusterForSuite } from "./interop-suite.ts";

/** After a restart of its member the client waits longer from try to try: up to half a minute. */
const WAIT_MILLISECONDS = 90_000;

/** The next event of this name; rejects when none comes in time. */
function nextEvent<Value>(
  emitter: { once(name: string, listener: (value: Value) => void): unknown },
  name: string,
): Promise<Value> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no "${name}" in ${WAIT_MILLISECONDS} ms`)),
      WAIT_MILLISECONDS,
    );
    emitter.once(name, (value: Value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

const eventsOf = (watcher: Watcher) =>
  watcher as unknown as { once(name: string, listener: (value: never) => void): unknown };

export function etcd3Suite(start: () => Promise<Cluster>): void {
  const cluster = clusterForSuite(start);
  const clients: Etcd3[] = [];
  const connect = (hosts = cluster().addresses.map((address) => `http://${address}`)) => {
    const client = new Etcd3({ hosts });
    clients.push(client);
    return client;
  };
  afterAll(() => {
    for (const client of clients) client.close();
  });

  test("put, get, get all, delete, and their options", async () => {
    const client = connect();
    await client.put("kv/a").value("1");
    await client.put("kv/b").value("2");
    expect(await client.get("kv/a").string()).toBe("1");
    expect(await client.get("kv/b").number()).toBe(2);
    expect(await client.get("kv/none")).toBeNull();
    expect(await client.getAll().prefix("kv/").strings()).toEqual({ "kv/a": "1", "kv/b": "2" });
    const newest = client.getAll().prefix("kv/").sort("Create", "Descend").limit(1);
    expect(await newest.keys()).toEqual(["kv/b"]);
    expect(await client.getAll().prefix("kv/").count()).toBe(2);
    expect(await client.get("kv/a").exists()).toBe(true);
    const gone = await client.delete().prefix("kv/").getPrevious();
    expect(gone.map((kv) => kv.value.toString())).toEqual(["1", "2"]);
  });

  test("transactions: if, and, then, else", async () => {
    const client = connect();
    const swap = (from: string, to: string) =>
      client
        .if("txn/a", "Value", "==", from)
        .and("txn/a", "Version", ">", 0)
        .then(client.put("txn/a").value(to))
        .else(client.get("txn/a"))
        .commit();
    await client.put("txn/a").value("1");
    expect((await swap("1", "2")).succeeded).toBe(true);
    expect((await swap("1", "3")).succeeded).toBe(false);
    expect(await client.get("txn/a").string()).toBe("2");
  });

  test("namespaces put their prefix before every key", async () => {
    const client = connect();
    const space = client.namespace("space/");
    await space.put("a").value("1");
    expect(await client.get("space/a").string()).toBe("1");
    expect(await space.getAll().strings()).toEqual({ a: "1" });
    const watcher = await space.watch().key("a").create();
    const event = nextEvent<{ key: Buffer }>(eventsOf(watcher), "put");
    await client.put("space/a").value("2");
    expect((await event).key.toString()).toBe("a");
    await watcher.cancel();
    await space.delete().all();
    expect(await client.get("space/a")).toBeNull();
  });

  test("watchers get puts and deletes, of keys and prefixes, and history", async () => {
    const client = connect();
    const first = await client.put("watch/a").value("0");
    const watcher = await client.watch().prefix("watch/").withPreviousKV().create();
    const single = await client
      .watch()
      .key("watch/a")
      .startRevision(first.header.revision)
      .create();
    const put = nextEvent<{ value: Buffer }>(eventsOf(watcher), "put");
    await client.put("watch/a").value("1");
    expect((await put).value.toString()).toBe("1");
    const gone = nextEvent<{ key: Buffer }>(eventsOf(watcher), "delete");
    await client.delete().key("watch/a");
    expect((await gone).key.toString()).toBe("watch/a");
    await watcher.cancel();
    await single.cancel();
  });

  test("a watcher from a past revision replays it", async () => {
    const client = connect();
    const put = await client.put("history/a").value("old");
    await client.put("history/a").value("new");
    const values: string[] = [];
    const watcher = client.watch().key("history/a").startRevision(put.header.revision).watcher();
    const both = new Promise<void>((resolve) => {
      watcher.on("put", (kv) => {
        if (values.push(kv.value.toString()) === 2) resolve();
      });
    });
    await both;
    expect(values).toEqual(["old", "new"]);
    await watcher.cancel();
  });

  test("leases keep their keys alive, and revoking deletes them", async () => {
    const client = connect();
    const lease = client.lease(10);
    await lease.put("lease/a").value("1");
    await lease.keepaliveOnce();
    expect(await client.get("lease/a").string()).toBe("1");
    expect((await client.leaseClient.leaseLeases()).leases.map(({ ID }) => ID)).toContain(
      await lease.grant(),
    );
    await lease.revoke();
    expect(await client.get("lease/a")).toBeNull();
  });

  test("a lost lease is reported to its owner", async () => {
    const client = connect();
    const lease = client.lease(5);
    const id = await lease.grant();
    const lost = nextEvent<Error>(lease, "lost");
    await client.leaseClient.leaseRevoke({ ID: id });
    expect((await lost).message).toMatch(/lease/i);
  });

  test("a lock has one holder and is free after release", async () => {
    const [one, two] = [connect(), connect()];
    const held = await one.lock("mutex").ttl(30).acquire();
    await expect(two.lock("mutex").acquire()).rejects.toBeInstanceOf(EtcdLockFailedError);
    await held.release();
    const again = await two.lock("mutex").acquire();
    await again.release();
  });

  test("an election elects one, is observed, and passes on", async () => {
    const [one, two] = [connect(), connect()];
    const first = one.election("race", 30).campaign("first");
    await nextEvent(first, "elected");
    const second = two.election("race", 30).campaign("second");
    const observer = await two.election("race", 30).observe();
    expect(observer.leader()).toBe("first");
    const elected = nextEvent(second, "elected");
    const changed = nextEvent<string>(observer, "change");
    await first.resign();
    await elected;
    await changed;
    expect(await two.election("race", 30).leader()).toBe("second");
    await observer.cancel();
    await second.resign();
  });

  test("a client and its watcher go on after the member restarts", async () => {
    const [member] = cluster().members;
    if (member === undefined) throw new Error("no member");
    const client = connect([`http://${member.address}`]);
    const watcher = await client.watch().key("again").create();
    await member.stop();
    await member.start();
    const event = nextEvent<{ value: Buffer }>(eventsOf(watcher), "put");
    const put = async (): Promise<void> => {
      await connect([`http://${member.address}`])
        .put("again")
        .value("1");
    };
    await put();
    expect((await event).value.toString()).toBe("1");
    expect(await client.get("again").string()).toBe("1");
    await watcher.cancel();
  });

  test("refusals arrive as the client's own errors", async () => {
    const client = connect();
    await expect(client.get("a").revision(1_000_000).exec()).rejects.toThrow(/future revision/);
    const value = "x".repeat(1024 * 1024 * 1.6);
    await expect(client.put("big").value(value).exec()).rejects.toThrow(/too large/);
  });

  test("maintenance: status and members", async () => {
    const client = connect();
    expect((await client.maintenance.status()).version).toMatch(/^3\./);
    const list = await client.cluster.memberList({});
    expect(list.members.length).toBe(cluster().members.length);
  });
}
