/** The benchmark's hand-written messages against protobuf-es: a generator that misreads replies measures nothing. */
import { Event_EventType } from "../../../shared/api/gen/mvccpb/kv_pb.js";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  RangeResponseSchema,
  LeaseKeepAliveRequestSchema,
  LeaseKeepAliveResponseSchema,
  TxnRequestSchema,
  TxnResponseSchema,
  WatchRequestSchema,
  WatchResponseSchema,
} from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import {
  eventRevisions,
  isWholeRangeReply,
  keepAliveRequest,
  KEY_BYTES,
  KEY_OFFSET,
  putTemplate,
  rangeTemplate,
  remainingTtl,
  revisionOfReply,
  succeededRevision,
  txnTemplate,
  VALUE_BYTES,
  watchRequest,
  writeKey,
  writeModRevision,
} from "../../bench/messages.ts";

const header = {
  clusterId: 0xffff_ffff_ffff_fff0n,
  memberId: 0x8000_0000_0000_0001n,
  revision: 1n << 40n,
  raftTerm: 7n,
};
const keyOf = (message: Buffer) => message.subarray(KEY_OFFSET, KEY_OFFSET + KEY_BYTES);

describe("requests", () => {
  test("a put template is a framed PutRequest with the key written into it", () => {
    const value = Uint8Array.from({ length: VALUE_BYTES }, (_, at) => at);
    const message = putTemplate(value);
    writeKey(message, KEY_OFFSET, 5, 9);
    expect(message.readUInt32BE(1)).toBe(message.length - 5);
    const request = fromBinary(PutRequestSchema, message.subarray(5));
    expect([...request.value]).toEqual([...value]);
    expect([...request.key]).toEqual([...keyOf(message)]);
    expect(request.key.length).toBe(KEY_BYTES);
  });

  test("a range template differs in serializable only", () => {
    for (const serializable of [false, true]) {
      const request = fromBinary(RangeRequestSchema, rangeTemplate(serializable).subarray(5));
      expect(request).toMatchObject({ serializable, limit: 0n, revision: 0n });
      expect(request.key.length).toBe(KEY_BYTES);
    }
  });

  test("keys of distinct numbers are distinct", () => {
    const key = Buffer.alloc(KEY_BYTES);
    const seen = new Set<string>();
    for (let number = 0; number < 20_000; number += 1) {
      writeKey(key, 0, 77, number);
      seen.add(key.toString("latin1"));
    }
    expect(seen.size).toBe(20_000);
  });
});

describe("requests of the other workloads", () => {
  test("a txn template compares the mod revision that is written into it", () => {
    const message = txnTemplate(new Uint8Array(VALUE_BYTES).fill(1), { seed: 5, number: 9 });
    for (const revision of [0, 1, 127, 128, 2 ** 31, 2 ** 35 - 1]) {
      writeModRevision(message, revision);
      const { compare, success, failure } = fromBinary(TxnRequestSchema, message.subarray(5));
      expect(compare).toMatchObject([
        { result: 0, target: 2, targetUnion: { case: "modRevision", value: BigInt(revision) } },
      ]);
      expect([success[0]?.request.case, failure[0]?.request.case]).toEqual([
        "requestPut",
        "requestRange",
      ]);
      const put = success[0]?.request.value;
      expect(put).toMatchObject({ key: compare[0]?.key });
    }
    expect(() => writeModRevision(message, 2 ** 35)).toThrow("doesn't fit");
  });

  test("keepalive and watch requests carry the lease and the key", () => {
    const id = 0x7fff_ffff_ffff_fff1n;
    const renewal = fromBinary(LeaseKeepAliveRequestSchema, keepAliveRequest(id).subarray(5));
    expect(renewal.ID).toBe(id);
    const key = Uint8Array.of(1, 2, 3);
    const watch = fromBinary(WatchRequestSchema, new Uint8Array(watchRequest(key).subarray(5)));
    expect(watch.requestUnion).toMatchObject({ case: "createRequest", value: { key } });
  });
});

describe("replies", () => {
  test("a txn's revision counts only when it succeeded", () => {
    for (const succeeded of [true, false]) {
      const reply = Buffer.from(
        toBinary(TxnResponseSchema, create(TxnResponseSchema, { header, succeeded })),
      );
      expect(succeededRevision(reply, 0, reply.length)).toBe(succeeded ? 2 ** 40 : 0);
    }
  });

  test("a renewal's time and a watch's revisions are read in place", () => {
    const renewal = create(LeaseKeepAliveResponseSchema, { header, ID: 7n, TTL: 3600n });
    const bytes = Buffer.from(toBinary(LeaseKeepAliveResponseSchema, renewal));
    expect(remainingTtl(bytes, 0, bytes.length)).toBe(3600);
    const kv = (modRevision: bigint) => ({
      key: Uint8Array.of(1),
      createRevision: 4n,
      modRevision,
    });
    const events = [{ kv: kv(300n) }, { type: Event_EventType.DELETE, kv: kv(2n ** 40n) }];
    const watch = create(WatchResponseSchema, { header, watchId: 3n, events });
    const message = Buffer.from(toBinary(WatchResponseSchema, watch));
    expect(eventRevisions(message, 0, message.length)).toEqual([300, 2 ** 40]);
  });

  const request = rangeTemplate(false);
  writeKey(request, KEY_OFFSET, 1, 2);
  const kv = { key: keyOf(request), value: new Uint8Array(VALUE_BYTES), modRevision: 3n };
  const judge = (init: Parameters<typeof create<typeof RangeResponseSchema>>[1]) => {
    const bytes = toBinary(RangeResponseSchema, create(RangeResponseSchema, init));
    const source = Buffer.concat([Buffer.of(1, 2, 3), bytes, Buffer.of(9)]);
    return isWholeRangeReply(source, 3, 3 + bytes.length, request);
  };

  test("the revision of a put reply is read past 64-bit ids", () => {
    const bytes = Buffer.from(toBinary(PutResponseSchema, create(PutResponseSchema, { header })));
    expect(revisionOfReply(bytes, 0, bytes.length)).toBe(2 ** 40);
    expect(revisionOfReply(bytes, 0, 0)).toBe(0);
  });

  test("a range reply counts only with the asked key, a whole value and count 1", () => {
    expect(judge({ header, kvs: [kv], count: 1n })).toBe(true);
    expect(judge({ header, kvs: [], count: 1n })).toBe(false);
    expect(judge({ header, kvs: [kv], count: 0n })).toBe(false);
    expect(judge({ kvs: [kv], count: 1n })).toBe(false);
    expect(judge({ header, kvs: [{ ...kv, value: new Uint8Array(8) }], count: 1n })).toBe(false);
    expect(judge({ header, kvs: [{ ...kv, key: new Uint8Array(16) }], count: 1n })).toBe(false);
  });
});
