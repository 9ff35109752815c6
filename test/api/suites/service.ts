/** Headers, members, status, health, and requests that no client should send. */
import { expect } from "vitest";
import { LIMITS } from "../../../shared/base/limits.ts";
import { Compare_CompareTarget as CompareTarget } from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { HealthCheckResponse_ServingStatus as Serving } from "../../../shared/api/gen/grpc/health/v1/health_pb.js";
import { EtcdClient } from "../../support/etcd-client.ts";
import { GrpcChannel } from "../../support/rpc-channel.ts";
import {
  expectRefused,
  failureOf,
  first,
  headerOf,
  revisionOf,
  type ApiSuite,
  type Case,
} from "../api-suite.ts";

export const headers: ApiSuite = (test) => {
  test("header: every KV and lease response names cluster, member, revision, term", async (c) => {
    const ID = await c.grant();
    const put = await c.put("a", "1");
    const answers = [
      put,
      await c.range("a"),
      await c.range("a", { serializable: true }),
      await c.deleteRange("none"),
      await c.client.txn({}),
      await c.client.leaseTimeToLive({ ID }),
      await c.client.leaseLeases(),
      await c.client.leaseRevoke(ID),
      await c.client.status(),
      await c.client.compact({ revision: revisionOf(put) }),
    ];
    const { clusterId, memberId, raftTerm } = headerOf(put);
    expect(clusterId !== 0n && memberId !== 0n && raftTerm > 0n).toBe(true);
    let term = raftTerm;
    for (const answer of answers) {
      expect(headerOf(answer)).toMatchObject({ clusterId, memberId });
      expect(revisionOf(answer)).toBe(revisionOf(put));
      // An election in between makes it grow.
      expect(headerOf(answer).raftTerm).toBeGreaterThanOrEqual(term);
      term = headerOf(answer).raftTerm;
    }
  });
};

export const members: ApiSuite = (test, options) => {
  test("member list: names every member with its URLs; its header has no revision", async (c) => {
    for (const linearizable of [false, true]) {
      const list = await c.client.memberList({ linearizable });
      expect(list.members.length).toBe(options.members);
      expect(headerOf(list).revision).toBe(0n);
      expect(list.members.map((member) => member.ID)).toContain(headerOf(list).memberId);
      for (const member of list.members) {
        expect(member.name).not.toBe("");
        expect(member.isLearner).toBe(false);
        expect(first(member.peerURLs)).toMatch(/^\w+:./);
        expect(first(member.clientURLs)).toMatch(/^\w+:./);
      }
    }
  });

  test("auth: who sends a password is told that authentication is not enabled", async (c) => {
    await expectRefused(
      c.client.authenticate({ name: "root", password: "secret" }),
      "authNotEnabled",
    );
  });

  test("auth: its status is that it is not enabled", async (c) => {
    const status = await c.client.authStatus();
    expect(status).toMatchObject({ enabled: false, authRevision: 1n });
    expect(revisionOf(status)).toBeGreaterThan(0n);
  });

  test("status: shows version, sizes, leader, term and indexes", async (c) => {
    await c.put("a", "1");
    const status = await c.client.status();
    expect(status.version).toMatch(/^3\.\d+\.\d+/);
    expect(status.dbSize > 0n && status.dbSizeInUse > 0n).toBe(true);
    expect(status.dbSizeInUse <= status.dbSize).toBe(true);
    expect(status.raftTerm).toBe(headerOf(status).raftTerm);
    expect(status.raftIndex >= status.raftAppliedIndex).toBe(true);
    expect(status.raftAppliedIndex > 0n).toBe(true);
    const ids = (await c.client.memberList()).members.map((member) => member.ID);
    expect(ids).toContain(status.leader);
    expect([status.errors, status.isLearner]).toEqual([[], false]);
  });

  test("status: is etcd 3.7.1 with its storage version and quota", async (c) => {
    const status = await c.client.status();
    expect(status.version).toBe("3.7.1");
    expect(status.storageVersion).toBe("3.7.0");
    expect(status.dbSizeQuota).toBe(BigInt(LIMITS.quotaBytes));
  });

  test("status: a linearizable read writes nothing to the log", async (c) => {
    await c.put("a", "1");
    const grown = async (): Promise<bigint> => {
      const before = (await c.client.status()).raftIndex;
      for (let reads = 0; reads < 5; reads += 1) await c.range("a");
      return (await c.client.status()).raftIndex - before;
    };
    // Others may write meanwhile (a new leader does); reads that write would always.
    await expect.poll(grown).toBe(0n);
  });
};

export const health: ApiSuite = (test) => {
  test("health: the server as a whole is serving, an unknown service is not found", async (c) => {
    expect((await c.client.healthCheck()).status).toBe(Serving.SERVING);
    const error = await failureOf(c.client.healthCheck({ service: "nobody" }));
    expect(error.status).toBe("notFound");
  });
};

export const badRequests: ApiSuite = (test) => {
  function grpc(c: Case): GrpcChannel {
    const channel = new GrpcChannel(first(c.target.addresses));
    c.later(() => channel.close());
    return channel;
  }

  test("bad request: unknown services and methods are unimplemented", async (c) => {
    const none = new Uint8Array(0);
    for (const path of ["/etcdserverpb.KV/Nothing", "/no.Service/Range"]) {
      expect((await failureOf(grpc(c).unaryBytes(path, none))).status).toBe("unimplemented");
    }
  });

  test("bad request: a path without a method is unimplemented", async (c) => {
    const failure = await failureOf(grpc(c).unaryBytes("/x", new Uint8Array(0)));
    expect(failure.status).toBe("unimplemented");
  });

  test("bad request: malformed protobuf is an internal error and the connection lives", async (c) => {
    const channel = grpc(c);
    const broken = Uint8Array.of(0x0a, 0xff, 0xff, 0xff, 0x7f, 1);
    const methods = ["KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "Lease/LeaseGrant"];
    for (const method of methods) {
      const error = await failureOf(channel.unaryBytes(`/etcdserverpb.${method}`, broken));
      expect(error.status).toBe("internal");
    }
    await new EtcdClient(channel).put({ key: c.key("a") });
  });

  test("bad request: unknown fields are ignored", async (c) => {
    const key = c.key("a");
    const request = Uint8Array.of(0x0a, key.length, ...key, 0xfa, 0x06, 2, 1, 2);
    await grpc(c).unaryBytes("/etcdserverpb.KV/Put", request);
    expect((await c.range("a")).count).toBe(1n);
  });

  test("bad request: an unset lease id, revision or limit means its default", async (c) => {
    await c.client.put({ key: c.key("a"), lease: 0n });
    expect((await c.range("a", { limit: 0n, revision: 0n })).count).toBe(1n);
  });

  test("bad request: metadata that the server doesn't know is ignored", async (c) => {
    const metadata = { "x-unknown": "1", hasleader: "true", "client-api-version": "3.7" };
    await c.client.put({ key: c.key("a") }, { metadata });
    expect((await c.client.range({ key: c.key("a") }, { metadata })).count).toBe(1n);
  });

  test("bad request: a message over the transport's limit is resource-exhausted", async (c) => {
    const value = new Uint8Array(LIMITS.requestBytesMax + LIMITS.requestOverheadBytes);
    const error = await failureOf(c.client.put({ key: c.key("a"), value }));
    expect(error.status).toBe("resourceExhausted");
    expect((await c.range("a")).count).toBe(0n);
  });
};

export const clusterWide: ApiSuite = (test, options) => {
  if (options.members === 1) return;

  test("cluster: a write on one member is read, watched and leased on every other", async (c) => {
    const clients = c.target.members.map((channel) => new EtcdClient(channel));
    for (const [index, writer] of clients.entries()) {
      const key = c.key(String(index));
      const watches = clients.map((client) => client.watch());
      for (const watch of watches) await watch.created({ key });
      const granted = await writer.leaseGrant({ TTL: 100n });
      const put = await writer.put({ key, lease: granted.ID });
      for (const reader of clients) {
        const read = await reader.range({ key });
        expect(read.kvs.map((kv) => [kv.modRevision, kv.lease])).toEqual([
          [revisionOf(put), granted.ID],
        ]);
        const stream = reader.leaseKeepAlive();
        stream.send({ ID: granted.ID });
        expect((await stream.next()).TTL).toBe(100n);
        stream.cancel();
        expect((await reader.leaseTimeToLive({ ID: granted.ID, keys: true })).keys).toEqual([key]);
      }
      await first(clients).leaseRevoke(granted.ID);
      for (const watch of watches) {
        expect((await watch.next()).events.length).toBe(1);
        expect((await watch.next()).events.length).toBe(1);
        watch.cancel();
      }
    }
  });

  test("cluster: members agree on cluster, leader and term, and differ in member id", async (c) => {
    const clients = c.target.members.map((channel) => new EtcdClient(channel));
    const distinct = (values: bigint[]) => new Set(values).size;
    const views = async (): Promise<number[]> => {
      const answers = await Promise.all(clients.map((client) => client.status()));
      return [
        distinct(answers.map((answer) => headerOf(answer).clusterId)),
        distinct(answers.map((answer) => answer.leader)),
        distinct(answers.map((answer) => answer.raftTerm)),
        distinct(answers.map((answer) => headerOf(answer).memberId)),
      ];
    };
    // While a leader is elected they needn't.
    await expect.poll(views).toEqual([1, 1, 1, options.members]);
  });

  test("cluster: concurrent increments through every member lose nothing", async (c) => {
    const clients = c.target.members.map((channel) => new EtcdClient(channel));
    const key = c.key("counter");
    await c.put("counter", "");
    const increment = async (client: EtcdClient): Promise<void> => {
      for (;;) {
        const kv = first((await client.range({ key })).kvs);
        const value = Uint8Array.of(...kv.value, 1);
        const done = await client.txn({
          compare: [
            {
              key,
              target: CompareTarget.MOD,
              targetUnion: { case: "modRevision", value: kv.modRevision },
            },
          ],
          success: [{ request: { case: "requestPut", value: { key, value } } }],
        });
        if (done.succeeded) return;
      }
    };
    await Promise.all(
      clients.map(async (client) => {
        for (let times = 0; times < 10; times += 1) await increment(client);
      }),
    );
    const kv = first((await c.range("counter")).kvs);
    expect(kv.version).toBe(BigInt(1 + 10 * options.members));
    expect(kv.value.length).toBe(10 * options.members);
  });
};
