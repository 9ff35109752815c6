/**
 * `quorate make-mirror` from a real etcd and from Quorate: copies, follows, goes on after the source
 * was away, after its own end, and after what it needed was compacted.
 */
import { afterEach, expect, test } from "vitest";
import { textOf, utf8 } from "../../shared/base/bytes.ts";
import { Child } from "../support/child.ts";
import { MAIN, startEtcd, startQuorate } from "../support/cluster.ts";
import type { Cluster, Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { describeWithTools } from "../support/tools.ts";

const WAIT = { timeout: 60_000, interval: 50 };
/** More than a page of the copy. */
const KEYS = 700;

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function clientOf(member: Member): EtcdClient {
  const client = new EtcdClient(new GrpcChannel(member.address));
  closing.push(() => client.close());
  return client;
}

async function started(cluster: Promise<Cluster>): Promise<Member> {
  const running = await cluster;
  closing.push(() => running.stop());
  return running.members[0] as Member;
}

async function mirror(source: Member, destination: Member, ...flags: string[]): Promise<Child> {
  const urls = [source, destination].map(({ address }) => `http://${address}`);
  const args = [MAIN, "make-mirror", ...urls, ...flags];
  const child = await Child.start({ command: process.execPath, args });
  closing.push(() => child.stop());
  return child;
}

/** Ends it as an operator does; returns the revision that it says to go on from. */
async function interrupt(child: Child): Promise<string> {
  child.kill("SIGINT");
  await child.ended();
  expect(child.exitCode, child.log).toBe(0);
  return /go on with --rev=(\d+)/.exec(child.log)?.[1] ?? "";
}

async function contents(client: EtcdClient, prefix: string): Promise<Record<string, string>> {
  const end = `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
  const { kvs } = await client.range({ key: utf8(prefix), rangeEnd: utf8(end) });
  return Object.fromEntries(
    kvs.map(({ key, value }) => [textOf(key).slice(prefix.length), textOf(value)]),
  );
}

function put(client: EtcdClient, key: string, value: string): Promise<unknown> {
  return client.put({ key: utf8(key), value: utf8(value) });
}

async function fill(client: EtcdClient): Promise<void> {
  for (let at = 0; at < KEYS; at += 100) {
    const success = Array.from({ length: 100 }, (_, place) => {
      const key = utf8(`app/${at + place}`);
      const value = { key, value: utf8("v") };
      return { request: { case: "requestPut" as const, value } };
    });
    await client.txn({ success });
  }
}

async function followsFrom(start: () => Promise<Cluster>): Promise<void> {
  const source = await started(start());
  const destination = await started(startQuorate());
  const [from, to] = [clientOf(source), clientOf(destination)];
  await fill(from);
  await put(from, "other/1", "not of the prefix");
  await put(to, "copy/own", "stays");
  const first = await mirror(source, destination, "--prefix=app/", "--dest-prefix=copy/");
  const same = async (): Promise<boolean> => {
    const [a, { own: _own, ...b }] = await Promise.all([
      contents(from, "app/"),
      contents(to, "copy/"),
    ]);
    return JSON.stringify(a) === JSON.stringify(b);
  };
  await expect.poll(same, WAIT).toBe(true);
  // It follows: puts, deletions, and several of both in one transaction.
  await put(from, "app/new", "1");
  await from.deleteRange({ key: utf8("app/1"), rangeEnd: utf8("app/2") });
  await expect.poll(same, WAIT).toBe(true);
  expect(await contents(to, "copy/")).toMatchObject({ new: "1", own: "stays" });
  const revision = await interrupt(first);
  expect(Number(revision)).toBeGreaterThan(1);
  expect(first.log).toMatch(/\d+ changes, in step at revision \d+/);

  // While nobody mirrors; and it isn't copied anew.
  await put(from, "app/new", "2");
  await to.deleteRange({ key: utf8("copy/2") });
  const flags = ["--prefix=app/", "--dest-prefix=copy/"];
  const second = await mirror(source, destination, ...flags, `--rev=${revision}`);
  await expect.poll(async () => (await contents(to, "copy/"))["new"], WAIT).toBe("2");
  expect(await contents(to, "copy/")).not.toHaveProperty("2");
  await interrupt(second);

  // What it would need is gone: everything is copied, and what the source lacks is removed.
  await from.deleteRange({ key: utf8("app/300") });
  const { header } = (await put(from, "app/last", "3")) as { header: { revision: bigint } };
  await from.compact({ revision: header.revision });
  await to.deleteRange({ key: utf8("copy/own") });
  const third = await mirror(source, destination, ...flags, `--rev=${revision}`);
  await expect.poll(same, WAIT).toBe(true);
  await interrupt(third);
}

test("from Quorate", () => followsFrom(() => startQuorate()));

describeWithTools(["etcd"], "from etcd", () => {
  test("copies and follows", () => followsFrom(() => startEtcd()));
});

test("a source that goes away is asked again, and nothing is missed", async () => {
  const source = await started(startQuorate());
  const destination = await started(startQuorate());
  await put(clientOf(source), "a", "1");
  const child = await mirror(source, destination);
  const to = clientOf(destination);
  const value = async (): Promise<string> => {
    return textOf((await to.range({ key: utf8("a") })).kvs[0]?.value ?? new Uint8Array(0));
  };
  await expect.poll(value, WAIT).toBe("1");
  await source.kill();
  await child.logged("trying again");
  await source.start();
  await put(clientOf(source), "a", "2");
  await expect.poll(value, WAIT).toBe("2");
});

test("wrong usage is told", async () => {
  const args = [MAIN, "make-mirror", "http://127.0.0.1:1"];
  const child = await Child.start({ command: process.execPath, args });
  await child.ended();
  expect(child.exitCode).toBe(2);
  expect(child.log).toContain("usage: quorate make-mirror SOURCE DESTINATION");
});
