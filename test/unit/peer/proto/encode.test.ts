/** The hand-written encoders write the very bytes that protobuf-es writes, for random answers of all shapes. */
import { create, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  DeleteRangeResponseSchema,
  LeaseKeepAliveResponseSchema,
  PutResponseSchema,
  RangeResponseSchema,
  TxnResponseSchema,
  WatchResponseSchema,
} from "../../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import type { KeyValue } from "../../../../shared/mvcc/types.ts";
import {
  encodeKeepAliveResponse,
  encodePutResponse,
  encodeRangeResponse,
  encodeWatchResponse,
} from "../../../../shared/peer/proto/encode.ts";
import {
  encodeDeleteRangeResponse,
  encodeTxnResponse,
} from "../../../../shared/peer/proto/encode-txn.ts";
import {
  headerMessage,
  keyValueMessage,
  opResultMessage,
  rangeMessage,
  watchMessage,
} from "../../../../shared/peer/proto/replies.ts";
import type { OpResult, WatchResponse } from "../../../../shared/peer/services.ts";

const count = fc.oneof(fc.constantFrom(0, 1, 127, 128, 2 ** 32, Number.MAX_SAFE_INTEGER), fc.nat());
const id = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const int64 = fc.oneof(fc.constant(0n), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
const bytes = fc.uint8Array({ maxLength: 300 });
const header = fc.record({ clusterId: id, memberId: id, revision: count, raftTerm: count });
const keyValue: fc.Arbitrary<KeyValue> = fc.record({
  key: bytes,
  value: bytes,
  createRevision: count,
  modRevision: count,
  version: count,
  lease: int64,
});

function agree(ours: Uint8Array, theirs: Uint8Array): void {
  expect(Buffer.from(ours).toString("hex")).toBe(Buffer.from(theirs).toString("hex"));
}

test("put", () => {
  const answers = fc.record({ header, previous: fc.option(keyValue, { nil: undefined }) });
  fc.assert(
    fc.property(answers, (answer) => {
      const message = create(PutResponseSchema, {
        header: headerMessage(answer.header),
        ...(answer.previous === undefined ? {} : { prevKv: keyValueMessage(answer.previous) }),
      });
      agree(encodePutResponse(answer), toBinary(PutResponseSchema, message));
    }),
  );
});

test("range", () => {
  const answers = fc.record({ header, kvs: fc.array(keyValue), count, more: fc.boolean() });
  fc.assert(
    fc.property(answers, (answer) => {
      const message = create(
        RangeResponseSchema,
        rangeMessage(headerMessage(answer.header), answer),
      );
      agree(encodeRangeResponse(answer), toBinary(RangeResponseSchema, message));
    }),
  );
});

test("delete range", () => {
  const answers = fc.record({ header, deleted: count, previous: fc.array(keyValue) });
  fc.assert(
    fc.property(answers, (answer) => {
      const message = create(DeleteRangeResponseSchema, {
        header: headerMessage(answer.header),
        deleted: BigInt(answer.deleted),
        prevKvs: answer.previous.map(keyValueMessage),
      });
      agree(encodeDeleteRangeResponse(answer), toBinary(DeleteRangeResponseSchema, message));
    }),
  );
});

test("transactions, nested ones too", () => {
  const kvs = fc.array(keyValue, { maxLength: 4 });
  const { result } = fc.letrec<{ result: OpResult }>((tie) => ({
    result: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.record({
        kind: fc.constant("put" as const),
        revision: count,
        previous: fc.option(keyValue, { nil: undefined }),
      }),
      fc.record({
        kind: fc.constant("deleteRange" as const),
        revision: count,
        deleted: count,
        previous: kvs,
      }),
      fc.record({
        kind: fc.constant("range" as const),
        revision: count,
        result: fc.record({ kvs, count, more: fc.boolean() }),
      }),
      fc.record({
        kind: fc.constant("txn" as const),
        succeeded: fc.boolean(),
        results: fc.array(tie("result"), { maxLength: 4 }),
      }),
    ),
  }));
  const answers = fc.record({ header, succeeded: fc.boolean(), results: fc.array(result) });
  fc.assert(
    fc.property(answers, (answer) => {
      const message = create(TxnResponseSchema, {
        header: headerMessage(answer.header),
        succeeded: answer.succeeded,
        responses: answer.results.map(opResultMessage),
      });
      agree(encodeTxnResponse(answer), toBinary(TxnResponseSchema, message));
    }),
  );
});

test("lease keepalive", () => {
  fc.assert(
    fc.property(fc.record({ header, id: int64, ttlSeconds: count }), (answer) => {
      const message = create(LeaseKeepAliveResponseSchema, {
        header: headerMessage(answer.header),
        ID: answer.id,
        TTL: BigInt(answer.ttlSeconds),
      });
      agree(encodeKeepAliveResponse(answer), toBinary(LeaseKeepAliveResponseSchema, message));
    }),
  );
});

test("watch, the first watcher's events and those of later ones that share them", () => {
  const events = fc.array(
    fc.record({
      type: fc.constantFrom("put" as const, "delete" as const),
      kv: keyValue,
      previous: fc.option(keyValue, { nil: undefined }),
    }),
  );
  const responses = fc.record({
    header,
    watchId: int64,
    created: fc.boolean(),
    canceled: fc.boolean(),
    compactRevision: count,
    cancelReason: fc.string(),
    fragment: fc.boolean(),
    events,
  });
  fc.assert(
    fc.property(responses, id, (shape, otherId) => {
      const first: WatchResponse = { ...shape, encoded: new Map() };
      const second: WatchResponse = { ...first, watchId: BigInt.asIntN(64, otherId) };
      for (const response of [first, second]) {
        const message = create(WatchResponseSchema, watchMessage(response));
        agree(encodeWatchResponse(response), toBinary(WatchResponseSchema, message));
      }
    }),
  );
});
