/**
 * The hand-written decoders agree with protobuf-es: on requests of all shapes, on fields that are
 * unknown, repeated or out of order, and on bytes that are no message.
 */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  CompareSchema,
  DeleteRangeRequestSchema,
  LeaseKeepAliveRequestSchema,
  PutRequestSchema,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  RangeRequestSchema,
  type RequestOp,
  RequestOpSchema,
  TxnRequestSchema,
} from "../../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import {
  decodeKeepAliveRequest,
  decodePutRequest,
  decodeRangeRequest,
} from "../../../../shared/peer/proto/decode.ts";
import { decodeTxnRequest } from "../../../../shared/peer/proto/decode-txn.ts";

const int64 = fc.oneof(
  fc.constantFrom(0n, 1n, 127n, 128n, 2n ** 28n, 2n ** 56n, -1n, 2n ** 63n - 1n, -(2n ** 63n)),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
);
const bytes = fc.uint8Array({ maxLength: 300 });
const flag = fc.boolean();

const puts = fc.record({
  key: bytes,
  value: bytes,
  lease: int64,
  prevKv: flag,
  ignoreValue: flag,
  ignoreLease: flag,
});
const ranges = fc.record(
  {
    key: bytes,
    rangeEnd: bytes,
    limit: int64,
    revision: int64,
    sortOrder: fc.constantFrom(
      RangeRequest_SortOrder.NONE,
      RangeRequest_SortOrder.ASCEND,
      RangeRequest_SortOrder.DESCEND,
    ),
    sortTarget: fc.constantFrom(
      RangeRequest_SortTarget.KEY,
      RangeRequest_SortTarget.MOD,
      RangeRequest_SortTarget.VALUE,
    ),
    serializable: flag,
    keysOnly: flag,
    countOnly: flag,
    minModRevision: int64,
    maxCreateRevision: int64,
  },
  { requiredKeys: ["key"] },
);

const { EQUAL, GREATER, LESS, NOT_EQUAL } = Compare_CompareResult;
const { VERSION, CREATE, MOD, VALUE, LEASE } = Compare_CompareTarget;
const compares = fc
  .record({
    result: fc.constantFrom(EQUAL, GREATER, LESS, NOT_EQUAL),
    target: fc.constantFrom(VERSION, CREATE, MOD, VALUE, LEASE),
    key: bytes,
    rangeEnd: fc.oneof({ weight: 9, arbitrary: fc.constant(new Uint8Array(0)) }, bytes),
    targetUnion: fc.oneof(
      fc.constant({ case: undefined }),
      fc.record({ case: fc.constant("value" as const), value: bytes }),
      fc.record({
        case: fc.constantFrom("version", "createRevision", "modRevision", "lease"),
        value: int64,
      }),
    ),
  })
  .map((fields) => create(CompareSchema, fields));
const operations: fc.Arbitrary<RequestOp["request"]> = fc.oneof(
  puts.map((put) => ({ case: "requestPut" as const, value: create(PutRequestSchema, put) })),
  ranges.map((range) => ({
    case: "requestRange" as const,
    value: create(RangeRequestSchema, range),
  })),
  fc.record({ key: bytes, rangeEnd: bytes, prevKv: flag }).map((deletion) => ({
    case: "requestDeleteRange" as const,
    value: create(DeleteRangeRequestSchema, deletion),
  })),
  fc.constantFrom<RequestOp["request"]>(
    { case: "requestTxn", value: create(TxnRequestSchema, {}) },
    { case: undefined },
  ),
);
const lists = fc.array(
  operations.map((request) => create(RequestOpSchema, { request })),
  { maxLength: 3 },
);
const txns = fc.record({
  compare: fc.array(compares, { maxLength: 3 }),
  success: lists,
  failure: lists,
});

/** What comes of decoding: the fields, or the error's text. */
function outcome(decode: () => object): unknown {
  try {
    return plain(decode());
  } catch (error) {
    return String(error);
  }
}

/** Bytes as text, whichever array holds them, and unknown fields left out: they may be kept or not. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).filter(([name]) => name !== "$unknown");
  return Object.fromEntries(fields.map(([name, field]) => [name, plain(field)]));
}

function describeDecoder<Schema extends DescMessage>(
  schema: Schema,
  decode: (source: Uint8Array) => MessageShape<Schema> | undefined,
  messages: fc.Arbitrary<MessageInitShape<Schema>>,
): void {
  const agree = (source: Uint8Array): void => {
    // Requests lie within a larger chunk of a connection's input.
    const chunk = Buffer.concat([Buffer.from([1, 2, 3]), source, Buffer.from([4])]);
    const request = chunk.subarray(3, 3 + source.length);
    expect(outcome(() => decode(request) ?? fromBinary(schema, request))).toEqual(
      outcome(() => fromBinary(schema, source)),
    );
  };
  const encoded = messages.map((message) => toBinary(schema, create(schema, message)));

  describe(schema.name, () => {
    test("requests of all shapes", () => {
      fc.assert(fc.property(encoded, agree), { numRuns: 500 });
    });

    test("two requests in a row, which protobuf merges, and a cut or changed one", () => {
      fc.assert(
        fc.property(encoded, encoded, fc.nat(), fc.nat(255), (first, second, place, byte) => {
          const both = Uint8Array.from([...first, ...second]);
          agree(both);
          agree(both.subarray(0, place % (both.length + 1)));
          if (both.length > 0) both[place % both.length] = byte;
          agree(both);
        }),
        { numRuns: 500 },
      );
    });

    test("any bytes, most of them no request", () => {
      fc.assert(fc.property(fc.uint8Array({ maxLength: 30 }), agree), { numRuns: 1000 });
    });
  });
}

describeDecoder(PutRequestSchema, decodePutRequest, puts);
describeDecoder(RangeRequestSchema, decodeRangeRequest, ranges);
describeDecoder(TxnRequestSchema, decodeTxnRequest, txns);
describeDecoder(LeaseKeepAliveRequestSchema, decodeKeepAliveRequest, fc.record({ ID: int64 }));

test("usual requests don't fall back on protobuf-es, whose outcome they would only repeat", () => {
  const put = create(PutRequestSchema, { key: Uint8Array.of(1), lease: -1n, prevKv: true });
  const range = create(RangeRequestSchema, { key: Uint8Array.of(1), limit: 5n });
  const keepAlive = create(LeaseKeepAliveRequestSchema, { ID: 2n ** 62n });
  const txn = create(TxnRequestSchema, {
    compare: [
      { target: MOD, key: Uint8Array.of(1), targetUnion: { case: "modRevision", value: 7n } },
    ],
    success: [{ request: { case: "requestPut", value: put } }],
    failure: [{ request: { case: "requestRange", value: range } }],
  });
  expect(decodeTxnRequest(toBinary(TxnRequestSchema, txn))).toBeDefined();
  expect(decodePutRequest(toBinary(PutRequestSchema, put))).toBeDefined();
  expect(decodeRangeRequest(toBinary(RangeRequestSchema, range))).toBeDefined();
  expect(decodeKeepAliveRequest(toBinary(LeaseKeepAliveRequestSchema, keepAlive))).toBeDefined();
});
