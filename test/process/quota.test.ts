/**
 * The space quota from end to end, at the smallest that etcd's tools use: puts until NOSPACE, then
 * compaction, defragmentation and the alarm's end make room again.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  AlarmRequest_AlarmAction as Action,
  AlarmType,
  Maintenance,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { RpcError } from "../../shared/api/errors.ts";
import { utf8 } from "../../shared/base/bytes.ts";
import { startQuorate, type Cluster } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

let cluster: Cluster;
let client: EtcdClient;

beforeAll(async () => {
  cluster = await startQuorate({ flags: ["--quota-backend-bytes=53248"] });
  client = new EtcdClient(new GrpcChannel(cluster.addresses[0] ?? ""));
});

afterAll(async () => {
  client.close();
  await cluster.stop();
});

const put = (value: string) => client.put({ key: utf8("key"), value: utf8(value) });
const alarms = async () =>
  (await client.channel.unary(Maintenance.method.alarm, { action: Action.GET })).alarms;
const health = async () => {
  const response = await fetch(`http://${cluster.addresses[0]}/health`);
  return `${response.status} ${await response.text()}`;
};

/** Puts until one is refused; how many weren't. */
async function fill(): Promise<number> {
  for (let count = 0; count < 100; count += 1) {
    try {
      await put("v".repeat(4096));
    } catch (error) {
      if (!(error instanceof RpcError) || error.code !== undefined) throw error;
      expect(error.message).toBe("etcdserver: mvcc: database space exceeded");
      return count;
    }
  }
  throw new Error("100 puts of 4 KiB fit into 52 KiB");
}

async function makeRoom(): Promise<void> {
  const { header } = await client.range({ key: utf8("key") });
  await client.compact({ revision: header?.revision ?? 0n, physical: true });
  await client.channel.unary(Maintenance.method.defragment, {});
  for (const { memberID, alarm } of await alarms()) {
    await client.channel.unary(Maintenance.method.alarm, {
      action: Action.DEACTIVATE,
      memberID,
      alarm,
    });
  }
}

test("some puts fit, then NOSPACE; compaction, defragmentation and disarming clear it, twice", async () => {
  await put("small");
  for (let round = 0; round < 2; round += 1) {
    expect(await fill()).toBeGreaterThan(0);
    await expect.poll(alarms).toMatchObject([{ alarm: AlarmType.NOSPACE }]);
    await expect(put("small")).rejects.toThrow("database space exceeded");
    expect(await health()).toContain("503");
    expect((await client.status()).errors.join()).toContain("NOSPACE");
    expect((await client.range({ key: utf8("key") })).kvs.length).toBe(1);
    const before = await client.status();
    await makeRoom();
    const after = await client.status();
    expect(after.dbSizeInUse).toBeLessThan(before.dbSizeInUse);
    expect(await alarms()).toEqual([]);
    expect(await health()).toContain("200");
    await put("small");
  }
});
