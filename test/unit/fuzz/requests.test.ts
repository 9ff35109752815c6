/**
 * Fuzzing of what clients send: protobuf requests of every method, JSON of the gateway, HTTP/2
 * frames and header blocks. (A whole server under random frames: node-runner/http2/fuzz.test.ts.)
 */
import { create, toBinary, toJson } from "@bufbuild/protobuf";
import type { DescMessage } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createGateway } from "../../../node-runner/http/gateway.ts";
import { GATEWAY_PATHS } from "../../../node-runner/http/gateway-paths.ts";
import { JsonSplitter } from "../../../node-runner/http/json-splitter.ts";
import { FrameReader } from "../../../node-runner/http2/frame-reader.ts";
import { HeaderDecoder } from "../../../node-runner/http2/hpack-decoder.ts";
import type { HttpRequest, HttpResponse } from "../../../node-runner/http2/http-handler.ts";
import { PREFACE } from "../../../node-runner/http2/protocol.ts";
import { RpcError } from "../../../shared/api/errors.ts";
import {
  PutRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
  WatchRequestSchema,
} from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { protoServices } from "../../../shared/peer/proto/methods.ts";
import {
  deleteRangeOpOf,
  putOpOf,
  rangeOpOf,
  txnOpOf,
} from "../../../shared/peer/proto/requests.ts";
import { MemoryServices } from "../../support/memory-services.ts";
import { inputsLike, many } from "./harness.ts";

const key = utf8("key");
const put = create(PutRequestSchema, { key, value: key, lease: -1n, prevKv: true });
const range = create(RangeRequestSchema, { key, rangeEnd: key, limit: 5n, revision: -2n });
const txn = create(TxnRequestSchema, {
  compare: [{ key, targetUnion: { case: "modRevision", value: 4n } }],
  success: [{ request: { case: "requestPut", value: put } }],
  failure: [
    {
      request: {
        case: "requestTxn",
        value: { success: [{ request: { case: "requestRange", value: range } }] },
      },
    },
  ],
});
const watch = create(WatchRequestSchema, {
  requestUnion: { case: "createRequest", value: { key, rangeEnd: key, startRevision: 3n } },
});
const seeds: readonly Bytes[] = [
  toBinary(PutRequestSchema, put),
  toBinary(RangeRequestSchema, range),
  toBinary(TxnRequestSchema, txn),
  toBinary(WatchRequestSchema, watch),
];

const methods = Object.values(protoServices(new MemoryServices())).flatMap((service) =>
  Object.values(service),
);

/** protobuf-es refuses with `Error`s of several kinds; a defect shows as one of these. */
function isDefect(error: unknown): boolean {
  if (!(error instanceof Error)) return true;
  // Text that is no UTF-8 is refused by the platform's decoder.
  if (error instanceof TypeError) return !error.message.includes("utf-8");
  return error.name === "AssertionError" || error.message.includes("call stack");
}

test("protobuf: every method takes or refuses any bytes", async () => {
  expect(methods.length).toBeGreaterThan(15);
  const inputs = fc.tuple(fc.constantFrom(...methods), inputsLike(seeds));
  await many(inputs, ([method, bytes]) => {
    let message: ReturnType<typeof method.decode>;
    try {
      message = method.decode(bytes);
    } catch (error) {
      expect(isDefect(error), String(error)).toBe(false);
      return;
    }
    const encoded = toBinary(method.input, message);
    const again = method.decode(encoded);
    expect(Buffer.compare(toBinary(method.input, again), encoded)).toBe(0);
  });
});

test("protobuf: messages nested without end are refused, not followed", () => {
  let bytes: Bytes = new Uint8Array(0);
  const wrap = (tag: number, content: Bytes): Bytes => {
    const length: number[] = [];
    for (let rest = content.length; ; rest >>>= 7) {
      length.push(rest > 127 ? (rest & 127) | 128 : rest);
      if (rest <= 127) break;
    }
    return Uint8Array.of(tag, ...length, ...content);
  };
  // TxnRequest.success (2) holds RequestOp.request_txn (4), and so on.
  for (let depth = 0; depth < 500; depth += 1) bytes = wrap(0x12, wrap(0x22, bytes));
  const method = methods.find(({ input }) => input.typeName === "etcdserverpb.TxnRequest");
  expect(() => method?.decode(bytes)).toThrow(/recursion|depth|nest/i);
});

test("protobuf: what a request becomes is an operation or etcd's refusal", async () => {
  const schemas: readonly DescMessage[] = methods.map(({ input }) => input);
  expect(schemas.length).toBe(methods.length);
  await many(inputsLike(seeds), (bytes) => {
    for (const method of methods) {
      let message: unknown;
      try {
        message = method.decode(bytes);
      } catch {
        continue;
      }
      try {
        operationOf(message);
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
      }
    }
  });
});

function operationOf(message: unknown): void {
  const { $typeName } = message as { $typeName: string };
  if ($typeName === "etcdserverpb.PutRequest") putOpOf(message as Parameters<typeof putOpOf>[0]);
  if ($typeName === "etcdserverpb.RangeRequest") {
    rangeOpOf(message as Parameters<typeof rangeOpOf>[0]);
  }
  if ($typeName === "etcdserverpb.DeleteRangeRequest") {
    deleteRangeOpOf(message as Parameters<typeof deleteRangeOpOf>[0]);
  }
  if ($typeName === "etcdserverpb.TxnRequest") txnOpOf(message as Parameters<typeof txnOpOf>[0]);
}

/** One POST to the gateway: the status and the body, once it is answered. */
function post(target: string, body: Bytes): Promise<{ status: number; text: string }> {
  const gateway = createGateway(protoServices(new MemoryServices()));
  return new Promise((resolve) => {
    let [status, text, isOver] = [0, "", false];
    const request = {
      method: "POST",
      target,
      httpVersion: "1.1",
      header: () => undefined,
      receive(receiver) {
        receiver.data(Buffer.from(body));
        receiver.end();
      },
      pause: () => {},
      resume: () => {},
      hold: () => true,
    } as Partial<HttpRequest> as HttpRequest;
    const response: HttpResponse = {
      get isOver() {
        return isOver;
      },
      get hasHead() {
        return status !== 0;
      },
      writeHead(code) {
        status = code;
      },
      write(piece) {
        text += String(piece);
        // A stream stays open: its first answer will do.
        setImmediate(() => resolve({ status, text }));
        return true;
      },
      end(piece = "") {
        isOver = true;
        resolve({ status, text: text + String(piece) });
      },
      onDrain: () => {},
      onAbort: () => {},
    };
    gateway(request, response);
    setTimeout(() => resolve({ status, text }), 200);
  });
}

test("gateway: any JSON, and what is none, is answered by etcd's error or well", async () => {
  const names = ["kv/range", "kv/put", "kv/deleterange", "kv/txn", "lease/grant", "watch"];
  expect(names.filter((name) => !GATEWAY_PATHS.has(name))).toEqual([]);
  const valid = [
    JSON.stringify(toJson(PutRequestSchema, put)),
    JSON.stringify(toJson(RangeRequestSchema, range)),
    JSON.stringify(toJson(TxnRequestSchema, txn)),
    JSON.stringify(toJson(WatchRequestSchema, watch)),
    '{"TTL":"10","ID":"0"}',
    `${"[".repeat(200)}${"]".repeat(200)}`,
    '{"success":[{"request_txn":{"success":[{"request_txn":{}}]}}]}',
  ];
  const bodies = fc.oneof(
    { weight: 3, arbitrary: inputsLike(valid.map(utf8)) },
    { weight: 1, arbitrary: fc.json().map(utf8) },
  );
  await many(fc.tuple(fc.constantFrom(...names), bodies), async ([name, body]) => {
    const { status, text } = await post(`/v3/${name}`, body);
    expect([0, 200, 400, 404, 501], text).toContain(status);
  });
});

test("a stream of JSON values is cut alike however it arrives", async () => {
  const stream = fc.array(
    fc.dictionary(fc.string(), fc.jsonValue()).map((value) => JSON.stringify(value)),
    { maxLength: 4 },
  );
  await many(fc.tuple(stream, fc.nat(50)), ([values, at]) => {
    const bytes = Buffer.from(values.join(" "));
    const splitter = new JsonSplitter(1_000_000);
    const cut = Math.min(at, bytes.length);
    const found = [
      ...splitter.push(bytes.subarray(0, cut)),
      ...splitter.push(bytes.subarray(cut)),
      ...splitter.end(),
    ];
    expect(found.map((text) => text.trim())).toEqual(values);
  });
});

describe("HTTP/2", () => {
  const block = Buffer.from("828684418cf1e3c2e5f23a6ba0ab90f4ff4086a8eb10649cbf03313233", "hex");

  test("any header block is decoded or refused, and the table stays within its bound", async () => {
    const inputs = fc.array(inputsLike([block, block.subarray(0, 4)]), { maxLength: 3 });
    await many(inputs, (blocks) => {
      const decoder = new HeaderDecoder();
      for (const bytes of blocks) {
        const source = Buffer.from(bytes);
        const taken = decoder.decode(source, 0, source.length, { add: () => {} });
        if (!taken) return;
      }
    });
  });

  test("frames are the same however the bytes are cut", async () => {
    const frame = Buffer.from("000003010400000001828684", "hex");
    const stream = Buffer.concat([PREFACE, frame, frame]);
    const read = (chunks: readonly Buffer[]): unknown[] => {
      const seen: unknown[] = [];
      const reader = new FrameReader({
        frame: (header, source, start, end) => {
          seen.push({ ...header, payload: source.toString("hex", start, end) });
          return true;
        },
        unreadable: (reason) => void seen.push(reason),
      });
      for (const chunk of chunks) reader.read(chunk);
      return seen;
    };
    await many(fc.tuple(inputsLike([stream]), fc.nat(60)), ([bytes, at]) => {
      const source = Buffer.from(bytes);
      const cut = Math.min(at, source.length);
      const whole = read([source]);
      const cutUp = read([source.subarray(0, cut), source.subarray(cut)]);
      expect(cutUp).toEqual(whole);
    });
  });
});
