/**
 * Corruption checks over real members: one's database is changed while it is stopped. With the initial
 * check it doesn't start; without, the leader finds it and raises CORRUPT for it.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { NodeFiles } from "../../node-runner/files/node-files.ts";
import { LmdbBackend } from "../../node-runner/lmdb/lmdb-backend.ts";
import {
  AlarmRequest_AlarmAction as Action,
  AlarmType,
  Maintenance,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { utf8 } from "../../shared/base/bytes.ts";
import { startQuorate, type Cluster, type Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startQuorate({
    members: 3,
    flags: ["--corrupt-check-time=1s", "--feature-gates=InitialCorruptCheck=true"],
  });
});

afterAll(() => cluster.stop());

/** Changes the last byte of the newest value that a stopped member has. */
async function damage(member: Member): Promise<void> {
  const directory = `${member.dataDir}/member/db`;
  const backend = LmdbBackend.open({ files: new NodeFiles(), directory });
  let found: [Uint8Array, Uint8Array] | undefined;
  backend.scan("key", {}, (row, value) => {
    found = [row, value.slice()];
    return false;
  });
  const [row, value] = found ?? [];
  if (row === undefined || value === undefined) throw new Error("nothing to damage");
  value[value.length - 1] = (value.at(-1) ?? 0) ^ 1;
  backend.apply(backend.visibleIndex, (writer) => writer.put("key", row, value));
  await backend.close();
}

test("a changed row keeps a member from starting, or raises CORRUPT for it", async () => {
  const [first, , odd] = cluster.members as [Member, Member, Member];
  const client = new EtcdClient(new GrpcChannel(first.address));
  try {
    await client.put({ key: utf8("a"), value: utf8("value") });
    await odd.stop();
    await odd.start(); // Sound, it passes its check.
    await odd.stop();
    await damage(odd);
    await expect(odd.start()).rejects.toThrow("found data inconsistency with peers");
    const place = odd.flags.findIndex((flag) => flag.startsWith("--feature-gates="));
    (odd.flags as string[])[place] = "--feature-gates=";
    await odd.start();
    const alarms = async () =>
      (await client.channel.unary(Maintenance.method.alarm, { action: Action.GET })).alarms;
    await expect.poll(alarms, { timeout: 60_000 }).toMatchObject([{ alarm: AlarmType.CORRUPT }]);
    const { members } = await client.memberList();
    const id = members.find(({ name }) => name === odd.name)?.ID;
    expect((await alarms())[0]?.memberID).toBe(id);
    await expect(client.put({ key: utf8("a") })).rejects.toThrow("corrupt cluster");
    expect((await client.range({ key: utf8("a") })).kvs.length).toBe(1);
  } finally {
    client.close();
  }
});
