/** The load generator against servers that lie: each lie must be found, and an honest server must pass. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createServer } from "node:http";
import { afterEach, expect, test } from "vitest";
import { RpcError } from "../../../shared/api/errors.ts";
import {
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  RangeResponseSchema,
} from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { hexOf } from "../../../shared/base/bytes.ts";
import { GrpcServer } from "../../../node-runner/grpc/server.ts";
import type { Services, UnaryMethod } from "../../../node-runner/grpc/service.ts";
import { Http2Server } from "../../../node-runner/http2/server.ts";
import { runLoad, type Workload } from "../../bench/load.ts";

/** A store in memory; the lies are its options. */
interface Lies {
  /** The revision that the n-th put answers with. */
  revisionOf?(put: number): number;
  /** Puts that are acknowledged and not counted in the store's revision. */
  losesPut?(put: number): boolean;
  /** Puts that are refused. */
  refusesPut?(put: number): boolean;
  valueFor?(value: Bytes): Bytes;
}

const header = (revision: number) => ({
  clusterId: 1n,
  memberId: 2n,
  revision: BigInt(revision),
  raftTerm: 3n,
});

function services(lies: Lies): Services {
  const store = new Map<string, Bytes>();
  let [puts, revision] = [0, 1];
  const put: UnaryMethod<Bytes, Bytes> = {
    kind: "unary",
    decode: (bytes) => bytes.slice(),
    encode: (bytes) => bytes,
    handle(bytes) {
      const request = fromBinary(PutRequestSchema, bytes);
      const number = puts;
      puts += 1;
      if (lies.refusesPut?.(number) ?? false) throw new RpcError("unavailable", "refused");
      store.set(hexOf(request.key), request.value);
      if (!(lies.losesPut?.(number) ?? false)) revision += 1;
      const answered = lies.revisionOf?.(number) ?? revision;
      const response = create(PutResponseSchema, { header: header(answered) });
      return toBinary(PutResponseSchema, response);
    },
  };
  const range: UnaryMethod<Bytes, Bytes> = {
    ...put,
    handle(bytes) {
      const { key } = fromBinary(RangeRequestSchema, bytes);
      const value = store.get(hexOf(key));
      const kvs = value === undefined ? [] : [{ key, value: lies.valueFor?.(value) ?? value }];
      const init = { header: header(revision), kvs, count: BigInt(kvs.length) };
      return toBinary(RangeResponseSchema, create(RangeResponseSchema, init));
    },
  };
  return { "etcdserverpb.KV": { Put: put, Range: range } };
}

const servers: Http2Server[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close(0)));
});

async function load(workload: Workload, lies: Lies) {
  const grpc = new GrpcServer({ services: services(lies) });
  const server = new Http2Server({
    onStream: (stream, connection) => grpc.accept(stream, connection),
    http1: createServer(),
  });
  servers.push(server);
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  return runLoad({
    addresses: [`127.0.0.1:${port}`],
    clients: 20,
    connections: 2,
    workload,
    seed: 1,
    keys: 500,
    warmupMilliseconds: 20,
    measureMilliseconds: 50,
    onWindow: () => undefined,
  });
}

test.each(["put", "range", "serializable"] as const)(
  "an honest server passes (%s)",
  async (name) => {
    const result = await load(name, {});
    expect([result.errors, result.firstError]).toEqual([0, ""]);
    expect(result.calls).toBeGreaterThan(0);
    expect(result.p99Milliseconds).toBeGreaterThanOrEqual(result.p50Milliseconds);
  },
);

test("two puts with one revision are found", async () => {
  const result = await load("put", { revisionOf: (put) => 2 + Math.floor(put / 2) });
  expect(result.firstError).toMatch(/revisions were given to two writes/);
});

test("an acknowledged put that the store doesn't count is found", async () => {
  const lies = { losesPut: (put: number) => put === 7, revisionOf: (put: number) => put + 2 };
  const result = await load("put", lies);
  expect(result.firstError).toMatch(/writes, but the revision grew by/);
});

test("a reply without a revision, and a refused put, are errors", async () => {
  expect((await load("put", { revisionOf: () => 0 })).errors).toBeGreaterThan(0);
  const refused = await load("put", { refusesPut: (put) => put === 3 });
  expect([refused.errors, refused.firstError]).toEqual([1, expect.stringContaining("refused")]);
});

test("a range reply with half a value is an error", async () => {
  const result = await load("range", { valueFor: (value) => value.subarray(128) });
  expect(result.firstError).toContain("no good reply");
});
