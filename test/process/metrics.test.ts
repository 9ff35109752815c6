/**
 * etcd's metrics that tools read by name and value: counts of operations, and the number of keys,
 * which is right after a restart and on a member that got the state as a snapshot.
 */
import { afterEach, expect, test } from "vitest";
import { startQuorate, type Cluster, type Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { errorLines } from "../support/process-log.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { prefixEnd, utf8 } from "../../shared/base/bytes.ts";

let cluster: Cluster;
const clients: EtcdClient[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await cluster?.stop();
});

function clientOf(member: Member): EtcdClient {
  const client = new EtcdClient(new GrpcChannel(member.address));
  clients.push(client);
  return client;
}

/** The metrics without labels, by name. */
async function metricsOf(member: Member): Promise<Map<string, number>> {
  const text = await (await fetch(`http://${member.address}/metrics`)).text();
  const values = new Map<string, number>();
  for (const [, name, value] of text.matchAll(/^(\w+) (\S+)$/gm)) {
    values.set(name as string, Number(value));
  }
  return values;
}

const metric = async (member: Member, name: string): Promise<number | undefined> =>
  (await metricsOf(member)).get(name);

test("the disk's times are histograms that grow with writes", async () => {
  cluster = await startQuorate({});
  const [member] = cluster.members as [Member];
  const client = clientOf(member);
  const log = "etcd_disk_wal_fsync_duration_seconds";
  const commits = "etcd_disk_backend_commit_duration_seconds";
  const bytes = "etcd_disk_wal_write_bytes_total";
  const before = await metricsOf(member);
  for (const name of [`${log}_count`, `${commits}_count`, bytes]) {
    expect(before.get(name)).toBeGreaterThanOrEqual(0);
  }
  await client.put({ key: utf8("a"), value: new Uint8Array(1000) });
  const after = await metricsOf(member);
  expect(after.get(`${log}_count`)).toBeGreaterThan(before.get(`${log}_count`) as number);
  expect(after.get(`${log}_sum`)).toBeGreaterThan(before.get(`${log}_sum`) as number);
  expect(after.get(bytes)).toBeGreaterThanOrEqual((before.get(bytes) as number) + 1000);
  // Batches are committed behind the answers.
  await expect
    .poll(() => metric(member, `${commits}_sum`), { timeout: 60_000 })
    .toBeGreaterThan(before.get(`${commits}_sum`) as number);
  const text = await (await fetch(`http://${member.address}/metrics`)).text();
  expect(text).toContain(`${log}_bucket{le="0.001"}`);
  expect(text).toContain(`${log}_bucket{le="8.192"}`);
});

test("operations are counted one by one, keys as they come and go, also over a restart", async () => {
  cluster = await startQuorate({});
  const [member] = cluster.members as [Member];
  const client = clientOf(member);
  const before = await metricsOf(member);
  const grew = async (): Promise<Record<string, number>> => {
    const now = await metricsOf(member);
    const names = ["put", "delete", "range", "txn"].map((each) => `etcd_mvcc_${each}_total`);
    return Object.fromEntries(
      names.map((name) => [name, (now.get(name) ?? NaN) - (before.get(name) ?? NaN)]),
    );
  };
  const put = (key: string) => client.put({ key: utf8(key) });
  for (const key of ["a", "b", "b", "c"]) await put(key);
  await client.deleteRange({ key: utf8("c") });
  await client.deleteRange({ key: utf8("c") });
  await client.range({ key: utf8("a") });
  await client.range({ key: utf8("a"), rangeEnd: utf8("z"), serializable: true });
  await client.txn({
    success: [
      { request: { case: "requestPut", value: { key: utf8("d") } } },
      { request: { case: "requestRange", value: { key: utf8("d") } } },
    ],
  });
  await expect(client.put({})).rejects.toThrow();
  expect(await grew()).toEqual({
    etcd_mvcc_put_total: 5,
    etcd_mvcc_delete_total: 2,
    etcd_mvcc_range_total: 3,
    etcd_mvcc_txn_total: 1,
  });
  const keys = "etcd_debugging_mvcc_keys_total";
  expect(await metric(member, keys)).toBe(3);
  for (const stop of [() => member.stop(), () => member.kill()]) {
    await stop();
    await member.start();
    expect(await metric(member, keys)).toBe(3);
  }
  const lease = 7n;
  const other = clientOf(member);
  await other.leaseGrant({ ID: lease, TTL: 100n });
  for (const key of ["l1", "l2"]) await other.put({ key: utf8(key), lease });
  expect(await metric(member, keys)).toBe(5);
  await other.leaseRevoke(lease);
  await other.deleteRange({ key: utf8("a"), rangeEnd: utf8("b") });
  expect(await metric(member, keys)).toBe(2);
});

test("a member that gets a snapshot has the number of keys, and counts go on (3 members)", async () => {
  const flags = ["--snapshot-count=50", "--snapshot-catchup-entries=5"];
  cluster = await startQuorate({ members: 3, flags });
  const [lagging, other] = cluster.members as [Member, Member];
  const keys = "etcd_debugging_mvcc_keys_total";
  const client = clientOf(other);
  await lagging.kill();
  const write = async (count: number, prefix: string): Promise<void> => {
    for (let at = 0; at < count; at += 1) await client.put({ key: utf8(`${prefix}${at % 90}`) });
  };
  // It may have led: then the others elect one first.
  await expect.poll(() => write(1, "k")).toBeUndefined();
  await write(400, "k");
  await client.deleteRange({ key: utf8("k1"), rangeEnd: prefixEnd(utf8("k1")) ?? utf8("") });
  expect(await metric(other, keys)).toBe(79);
  await lagging.start();
  await expect.poll(() => metric(lagging, keys)).toBe(79);
  // It applied only what the snapshot didn't bring.
  expect(await metric(lagging, "etcd_mvcc_put_total")).toBeLessThan(300);
  expect(errorLines(lagging.child.log)).toEqual([]);
  await write(3, "after");
  await expect.poll(() => metric(lagging, keys)).toBe(82);
});

test("leadership and proposals: pending and failed ones, changes seen (3 members)", async () => {
  cluster = await startQuorate({ members: 3 });
  const metricsBefore = await Promise.all(cluster.members.map(metricsOf));
  const at = metricsBefore.findIndex((each) => each.get("etcd_server_is_leader") === 1);
  const leader = cluster.members[at] as Member;
  const others = cluster.members.filter((member) => member !== leader);
  for (const each of metricsBefore) {
    expect(each.get("etcd_server_has_leader")).toBe(1);
    expect(each.get("etcd_server_is_learner")).toBe(0);
    expect(each.get("etcd_server_leader_changes_seen_total")).toBeGreaterThanOrEqual(1);
    expect(each.get("etcd_mvcc_db_total_size_in_bytes")).toBeGreaterThan(0);
    expect(each.get("etcd_mvcc_db_total_size_in_use_in_bytes")).toBeGreaterThan(0);
    const committed = each.get("etcd_server_proposals_committed_total") ?? 0;
    expect(each.get("etcd_server_proposals_applied_total")).toBeLessThanOrEqual(committed);
  }
  const seen = (member: Member) => metric(member, "etcd_server_leader_changes_seen_total");
  const termOf = async (member: Member) => Number((await clientOf(member).status()).raftTerm);
  const pending = (member: Member) => metric(member, "etcd_server_proposals_pending");
  for (const member of cluster.members) await expect.poll(() => pending(member)).toBe(0);
  for (const other of others) {
    expect(await metric(other, "etcd_server_has_leader")).toBe(1);
  }
  const [before, terms] = await Promise.all([
    Promise.all(others.map(seen)),
    Promise.all(others.map(termOf)),
  ]);
  await leader.kill();
  // One change, or several where the first elections are lost: at most one a term.
  for (const [at, other] of others.entries()) {
    await expect.poll(() => seen(other)).toBeGreaterThan(before[at] ?? 0);
    const changes = ((await seen(other)) ?? 0) - (before[at] ?? 0);
    expect(changes).toBeLessThanOrEqual((await termOf(other)) - (terms[at] ?? 0));
  }
  await (others[0] as Member).kill();
  const alone = others[1] as Member;
  await expect.poll(() => metric(alone, "etcd_server_has_leader")).toBe(0);
  await expect.poll(() => pending(alone)).toBe(0);
  const failed = (await metric(alone, "etcd_server_proposals_failed_total")) ?? 0;
  const write = clientOf(alone)
    .put({ key: utf8("x") })
    .catch(() => "failed");
  await expect.poll(() => pending(alone), { interval: 20 }).toBe(1);
  expect(await write).toBe("failed");
  expect(await metric(alone, "etcd_server_proposals_failed_total")).toBe(failed + 1);
  expect(await pending(alone)).toBe(0);
});

test("the peer port tells members and version, and nothing of clients", async () => {
  cluster = await startQuorate({});
  const [member] = cluster.members as [Member];
  const peerUrl = member.flags
    .find((flag) => flag.startsWith("--listen-peer-urls="))
    ?.replace(/^[^=]*=/, "");
  const [id] = (await clientOf(member).memberList()).members.map(({ ID }) => ID);
  const members = await fetch(`${peerUrl}/members`);
  expect(members.headers.get("x-etcd-cluster-id")).toMatch(/^[0-9a-f]+$/);
  const text = await members.text();
  expect(JSON.parse(text)).toMatchObject([
    { name: member.name, peerURLs: [peerUrl], clientURLs: [`http://${member.address}`] },
  ]);
  expect(/"id":(\d+)/.exec(text)?.[1]).toBe(String(id));
  const version: unknown = await (await fetch(`${peerUrl}/version`)).json();
  expect(version).toMatchObject({ etcdserver: "3.7.1", etcdcluster: "3.7.0" });
  for (const path of ["/v3/kv/range", "/health", "/metrics", "/debug/vars"]) {
    expect((await fetch(`${peerUrl}${path}`)).status).toBe(404);
  }
});
