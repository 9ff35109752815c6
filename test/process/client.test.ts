/**
 * The TypeScript client before three real members, the leader of which is killed under it: calls go
 * on, no acknowledged write is lost or done twice, watches miss nothing, leases stay held.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RpcError, compare, connect, get, put } from "../../shared/client/index.ts";
import type { Store, WatchEvent } from "../../shared/client/index.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster, Member } from "../support/cluster.ts";

describe("the TypeScript client on three members", () => {
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

  async function leader(): Promise<Member> {
    let found: Member | undefined;
    const look = async (): Promise<Member | undefined> => (found = await leaderNow());
    await expect.poll(look).toBeDefined();
    return found as unknown as Member;
  }

  async function leaderNow(): Promise<Member | undefined> {
    for (const member of cluster.members) {
      const alone = connect({ endpoints: [`http://${member.address}`] });
      try {
        const members = await alone.members();
        const { leader: id } = await alone.status();
        const name = members.find((each) => each.id === id)?.name;
        const found = cluster.members.find((each) => each.name === name);
        if (found !== undefined) return found;
      } finally {
        alone.close();
      }
    }
    return undefined;
  }

  test("keys, ranges, transactions, leases and compaction as the peers have them", async () => {
    const part = store.namespace("basics/");
    const first = await part.put("k", "1");
    await part.put("k", "2");
    expect((await part.get("k", { revision: first.revision }))?.value).toBe("1");
    const swap = await part
      .txn()
      .if(compare("k", "value", "=", "2"), compare("k", "version", "=", 2))
      .do(put("k", "3"), get({ prefix: "" }))
      .else(get("k"))
      .commit();
    expect(swap.succeeded).toBe(true);
    expect(swap.results[1]).toMatchObject({ kind: "get", count: 1, entries: [{ value: "3" }] });
    const lease = await part.lease(60);
    await part.put("leased", "x", { lease });
    expect((await part.get("leased"))?.lease).toBe(lease.id);
    await lease.revoke();
    expect(await part.get("leased")).toBeUndefined();
    const { revision } = await part.put("k", "4");
    await part.compact(revision);
    const old = part.get("k", { revision: first.revision });
    await expect(old).rejects.toMatchObject({ code: "compacted" });
    expect((await part.members()).map((member) => member.name).sort()).toEqual(["m1", "m2", "m3"]);
  });

  test("over a leader's death: nothing acknowledged is lost, nothing done twice", async () => {
    const part = store.namespace("kill/");
    const lease = await part.lease(30);
    await part.put("session", "mine", { lease });
    const watch = part.watch({ prefix: "n/" });
    await watch.ready;
    const seen: WatchEvent<string>[] = [];
    const watching = (async () => {
      for await (const event of watch) {
        seen.push(event);
        if (event.key === "n/end") return;
      }
    })();
    const victim = await leader();
    const acknowledged = new Map<string, number>();
    const unknown: string[] = [];
    let longestGap = 0;
    let last = performance.now();
    for (let n = 0; n < 600; n += 1) {
      if (n === 200) await victim.kill();
      try {
        acknowledged.set(`n/${n}`, (await part.put(`n/${n}`, `${n}`)).revision);
      } catch (error) {
        if (!(error instanceof RpcError) || error.outcome !== "unknown") throw error;
        unknown.push(`n/${n}`);
      }
      const now = performance.now();
      longestGap = Math.max(longestGap, now - last);
      last = now;
    }
    await part.put("n/end", "");
    await watching;
    console.log(
      `client over a kill: ${acknowledged.size} acknowledged, ${unknown.length} unknown, ` +
        `longest gap ${Math.round(longestGap)} ms`,
    );
    // Writes go one by one: only the one that was under way at the kill may be in doubt.
    expect(unknown.length).toBeLessThanOrEqual(1);
    const { entries } = await part.list({ prefix: "n/" });
    const stored = new Map(entries.map((entry) => [entry.key, entry]));
    for (const [key, revision] of acknowledged) {
      expect(stored.get(key)).toMatchObject({ modRevision: revision, version: 1 });
    }
    const revisions = seen.map((event) => event.revision);
    expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
    expect(seen.map((event) => event.key).sort()).toEqual([...stored.keys()].sort());
    expect(lease.signal.aborted).toBe(false);
    expect((await part.get("session"))?.lease).toBe(lease.id);
    await lease.revoke();
    await victim.start();
  });
});
