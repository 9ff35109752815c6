/** quorate/testing: an app's store over production peers in memory, with the faults it offers. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { Sha256 } from "../../../shared/base/sha256.ts";
import { startTestCluster } from "../../../shared/testing/index.ts";

test("one member serves at once: keys, watches, leases", async () => {
  await using cluster = await startTestCluster();
  const store = cluster.connect({ namespace: "app/" });
  const watch = store.watch({ prefix: "" });
  await watch.ready;
  await store.put("k", "v");
  for await (const event of watch) {
    expect(event).toMatchObject({ type: "put", key: "k", entry: { value: "v" } });
    break;
  }
  const lease = await store.lease(10);
  await store.put("mine", "1", { lease });
  await cluster.expireLease(lease);
  expect(await store.get("mine")).toBeUndefined();
});

test("a range may be bounded by revisions", async () => {
  await using cluster = await startTestCluster();
  const store = cluster.connect();
  const { revision } = await store.put("a", "1");
  for (const name of ["b", "c"]) await store.put(name, "1");
  await store.put("a", "2");
  const early = await store.list({ prefix: "" }, { created: { to: revision + 1 }, limit: 10 });
  expect(early.entries.map((entry) => entry.key)).toEqual(["a", "b"]);
  const late = await store.list({ prefix: "" }, { modified: { from: revision + 2 } });
  expect(late.entries.map((entry) => entry.key)).toEqual(["a", "c"]);
});

test("three members: a leader's death loses nothing, and it comes back with what it held", async () => {
  await using cluster = await startTestCluster({ members: 3 });
  const store = cluster.connect();
  for (let n = 0; n < 20; n += 1) await store.put(`k${n}`, `${n}`);
  const { leader } = cluster;
  leader?.kill();
  await store.put("after", "1");
  expect(await store.count({ prefix: "k" })).toBe(20);
  leader?.start();
  await cluster.ready();
  expect(cluster.members.every((member) => member.running)).toBe(true);
});

test("a link that is cut is dialled anew; a watch goes on where it was", async () => {
  await using cluster = await startTestCluster();
  const store = cluster.connect();
  const watch = store.watch({ prefix: "w/" });
  await watch.ready;
  const seen: string[] = [];
  const watching = (async () => {
    for await (const event of watch) {
      seen.push(event.key);
      if (seen.length === 10) return;
    }
  })();
  for (let n = 0; n < 10; n += 1) {
    await store.put(`w/${n}`, "x");
    if (n % 3 === 1) cluster.member(0).cutClients();
  }
  await watching;
  expect(seen).toEqual(Array.from({ length: 10 }, (_, n) => `w/${n}`));
});

test("session reads see the client's own writes on a member that lags, serializable ones don't", async () => {
  await using cluster = await startTestCluster({ members: 3 });
  const behind = cluster.members.findIndex((member) => !member.leads);
  const writer = cluster.connect({ to: [0, 1, 2].filter((place) => place !== behind) });
  const reader = cluster.connect({ to: [behind] });
  await writer.put("k", "old");
  expect((await reader.get("k"))?.value).toBe("old");
  const before = writer.sessionToken;
  cluster.isolate(behind);
  await writer.put("k", "new");
  expect((await reader.get("k", { consistency: "serializable" }))?.value).toBe("old");
  reader.observe(before);
  expect((await reader.get("k", { consistency: "session" }))?.value).toBe("old");
  reader.observe(writer.sessionToken);
  const late = reader.get("k", { consistency: "session", timeoutMilliseconds: 300 });
  await expect(late).rejects.toMatchObject({ outcome: "none" });
  cluster.heal();
  expect((await reader.get("k", { consistency: "session" }))?.value).toBe("new");
  expect(() => reader.observe("x")).toThrow("no session token");
});

test.each([0, 1, 55, 56, 63, 64, 65, 1000])("SHA-256 of %d bytes is the platform's", (length) => {
  const bytes = Uint8Array.from({ length }, (_, n) => (n * 31) & 255);
  const hash = new Sha256();
  hash.update(bytes.subarray(0, length / 3));
  hash.update(bytes.subarray(length / 3));
  expect(Buffer.from(hash.digest()).toString("hex")).toBe(
    createHash("sha256").update(bytes).digest("hex"),
  );
});
