/** wire/link: golden bytes, round trips of every frame, and input that no peer sends. */
import { describe, expect, test } from "vitest";
import { EMPTY, hexOf, utf8 } from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";
import { WireError, decodeCbor, encodeCbor } from "../../../shared/wire/cbor.ts";
import {
  decodeCallBatch,
  decodeReplyBatch,
  encodeCallFrame,
  encodeReplyFrame,
  joinFrames,
} from "../../../shared/wire/link-codec.ts";
import type { Op, RangeOp } from "../../../shared/wire/command.ts";
import type {
  LinkAnswer,
  LinkCallFrame,
  LinkReplyFrame,
  LinkRequest,
} from "../../../shared/wire/link.ts";

const range: RangeOp = {
  kind: "range",
  key: utf8("a"),
  rangeEnd: utf8("b"),
  revision: 7,
  limit: 10,
  sortOrder: "descend",
  sortTarget: "mod",
  keysOnly: true,
  countOnly: false,
  minModRevision: 1,
  maxModRevision: 2 ** 40,
  minCreateRevision: 0,
  maxCreateRevision: 3,
};
const put = {
  kind: "put",
  key: utf8("k"),
  value: utf8("v"),
  lease: -2n,
  previousKv: true,
  ignoreValue: false,
  ignoreLease: true,
} as const satisfies Op;
const remove = {
  kind: "deleteRange",
  key: utf8("k"),
  rangeEnd: EMPTY,
  previousKv: true,
} as const satisfies Op;
const txn = {
  kind: "txn",
  compares: [
    { target: "value", result: "notEqual", key: utf8("k"), rangeEnd: EMPTY, operand: EMPTY },
    { target: "lease", result: "less", key: utf8("k"), rangeEnd: utf8("z"), operand: -1n },
  ],
  success: [put, { kind: "txn", compares: [], success: [range], failure: [] }],
  failure: [remove],
} as const satisfies Op;

const requests: readonly LinkRequest[] = [
  { method: "range", op: range, serializable: true },
  { method: "put", op: put },
  { method: "deleteRange", op: remove },
  { method: "txn", op: txn, serializable: false },
  { method: "compact", revision: 2 ** 33, physical: true },
  { method: "leaseGrant", id: 0n, ttlSeconds: 9_000_000_001n },
  { method: "leaseRevoke", id: 0x7fff_ffff_ffff_ffffn },
  { method: "leaseKeepAlive", ids: [1n, -1n, 0n] },
  { method: "leaseTimeToLive", id: 5n, keys: true },
  { method: "leases" },
  { method: "memberList", linearizable: true },
  { method: "status" },
  { method: "range", op: range, serializable: true, fresh: { atLeastRevision: 2 ** 40 } },
  {
    method: "range",
    op: range,
    serializable: true,
    fresh: { atLeastRevision: 0, maxAgeMilliseconds: 0 },
  },
];

const create = {
  key: utf8("a"),
  rangeEnd: Uint8Array.of(0),
  startRevision: -1,
  progressNotify: true,
  noPut: false,
  noDelete: true,
  previousKv: true,
  watchId: 3n,
  fragment: true,
};

const callFrames: readonly LinkCallFrame[] = [
  { kind: "hello", version: 1, role: "edge", token: "secret" },
  ...requests.map((request, position) => ({
    kind: "call" as const,
    id: position * 100_000,
    timeoutMilliseconds: 1500,
    requireLeader: position % 2 === 0,
    request,
  })),
  ...requests.map((request, id) => ({
    kind: "call" as const,
    id,
    timeoutMilliseconds: 0,
    requireLeader: false,
    request,
    identity: { client: Uint8Array.of(1, 2, 3), sequence: 2 ** 33, floor: 2 ** 34 },
  })),
  { kind: "cancel", id: 2 },
  { kind: "watchOpen", stream: 1, requireLeader: true },
  { kind: "watchCreate", stream: 1, create },
  { kind: "watchCancel", stream: 1, watchId: 3n },
  { kind: "watchProgress", stream: 1 },
  { kind: "watchClose", stream: 1 },
];

const kv = {
  key: utf8("key"),
  value: utf8("value"),
  createRevision: 2,
  modRevision: 2 ** 52,
  version: 3,
  lease: 77n,
};
const header = { revision: 9, raftTerm: 4 };
const results = [
  { kind: "put", revision: 9, previous: undefined },
  { kind: "deleteRange", revision: 9, deleted: 1, previous: [kv] },
  { kind: "range", revision: 9, result: { kvs: [kv], count: 4, more: true } },
  { kind: "txn", succeeded: false, results: [{ kind: "put", revision: 9, previous: kv }] },
] as const;
const status = {
  leader: 2n ** 63n + 1n,
  raftIndex: 10,
  raftAppliedIndex: 9,
  dbSize: 1,
  dbSizeInUse: 1,
  dbSizeQuota: 2,
  isLearner: false,
  errors: ["alarm"],
};
const member = {
  id: 2n ** 64n - 1n,
  name: "m",
  peerUrls: ["http://a"],
  clientUrls: [],
  isLearner: true,
};
const answers: readonly LinkAnswer[] = [
  { method: "range", header, kvs: [kv], count: 1, more: false },
  { method: "range", header, kvs: [], count: 0, more: false, ageMilliseconds: 12 },
  { method: "put", header, previous: kv },
  { method: "deleteRange", header, deleted: 1, previous: [kv] },
  { method: "txn", header, succeeded: true, results },
  { method: "compact", header },
  { method: "leaseGrant", header, id: 4n, ttlSeconds: 60 },
  { method: "leaseRevoke", header },
  { method: "leaseKeepAlive", header, ttlSeconds: [60, 0] },
  { method: "leaseTimeToLive", header, ttlSeconds: -1, grantedTtlSeconds: 0, keys: [kv.key] },
  { method: "leases", header, ids: [4n] },
  { method: "memberList", header, members: [member] },
  { method: "status", header, ...status },
];
const failure = {
  status: "unavailable",
  message: "no leader",
  code: "noLeader",
  outcome: "unknown",
  retryable: false,
} as const;

const replyFrames: readonly LinkReplyFrame[] = [
  { kind: "welcome", version: 1, clusterId: 2n ** 64n - 1n, memberId: 5n, appliedIndex: 2 ** 40 },
  ...answers.map((answer, id) => ({ kind: "result" as const, id, answer })),
  { kind: "error", id: 3, failure: { ...failure, code: undefined } },
  {
    kind: "watchResponse",
    stream: 1,
    response: {
      header,
      watchId: -1n,
      created: true,
      canceled: false,
      compactRevision: 0,
      cancelReason: "",
      fragment: true,
      events: [
        { type: "put", kv, previous: undefined },
        { type: "delete", kv, previous: kv },
      ],
    },
  },
  { kind: "watchEnd", stream: 1, failure },
  { kind: "bye", failure },
];

describe("link frames", () => {
  test("every frame of a caller comes back as it was sent", () => {
    expect(decodeCallBatch(joinFrames(callFrames.map(encodeCallFrame)))).toEqual(callFrames);
  });

  test("every frame of a peer comes back as it was sent", () => {
    expect(decodeReplyBatch(joinFrames(replyFrames.map(encodeReplyFrame)))).toEqual(replyFrames);
  });

  test("the layout of version 1 stays as it is (golden bytes)", () => {
    const call = (request: LinkRequest): string =>
      hexOf(
        encodeCallFrame({
          kind: "call",
          id: 1,
          timeoutMilliseconds: 500,
          requireLeader: true,
          request,
        }),
      );
    const hello = encodeCallFrame({ kind: "hello", version: 1, role: "client", token: "t" });
    expect(hexOf(joinFrames([hello]))).toBe("81840001006174");
    expect(call({ method: "put", op: put })).toBe(
      "8601011901f401018501416b417648fffffffffffffffe05",
    );
    expect(call({ method: "leaseKeepAlive", ids: [1n] })).toBe(
      "8601011901f4010781480000000000000001",
    );
    expect(
      hexOf(encodeReplyFrame({ kind: "result", id: 1, answer: answers[2] as LinkAnswer })),
    ).toBe(
      "8611010109048643" +
        "6b6579" +
        "45" +
        "76616c7565" +
        "02fb4330000000000000" +
        "03" +
        "48000000000000004d",
    );
  });

  test("decoded keys are plain arrays, whose slices are copies", () => {
    const [frame] = decodeCallBatch(joinFrames([encodeCallFrame(callFrames[2] as LinkCallFrame)]));
    if (frame?.kind !== "call" || frame.request.method !== "put") throw new Error("no put");
    expect(frame.request.op.key.constructor).toBe(Uint8Array);
  });

  test.each([
    [
      "an operation of another method",
      [[1, 1, 0, 0, 0, [1, utf8("k"), EMPTY, 0, 0]]],
      "carries a put",
    ],
    ["a method that is not known", [[1, 1, 0, 0, 99]], "method 99 is not known"],
    ["a frame that is not known", [[9, 1]], "frame kind 9 is not known"],
    ["no array", 7, "batch is no array"],
    ["a negative id", [[2, -1]], "negative"],
    ["a short lease id", [[1, 1, 0, 0, 6, Uint8Array.of(1)]], "8 bytes"],
    ["an identity without a client", [[1, 1, 0, 4, 9, [EMPTY, 1, 1]]], "1 to 32 bytes"],
    ["a client's id that is too long", [[1, 1, 0, 4, 9, [new Uint8Array(33), 1, 1]]], "1 to 32"],
    ["an identity that is none", [[1, 1, 0, 4, 9]], "identity is no array"],
    ["a fraction for a revision", [[1, 1, 0, 0, 4, 1.5]], "no safe integer"],
  ])("refuses %s", (_name, value, text) => {
    expect(() => decodeCallBatch(encodeCbor(value))).toThrow(WireError);
    expect(() => decodeCallBatch(encodeCbor(value))).toThrow(text);
  });
});

describe("the subset of CBOR", () => {
  test.each([
    ["a map", "a10101"],
    ["a tag", "c11a514b67b0"],
    ["an indefinite array", "9f01ff"],
    ["an indefinite byte string", "5f4101ff"],
    ["an array longer than the input", "9affffffff"],
    ["a byte string longer than the input", "5affffffff00"],
    ["a 64-bit length", "9b0000000000000001"],
    ["bytes after the item", "0101"],
    ["nothing", ""],
    ["half a number", "19ff"],
    ["a float16", "f93c00"],
  ])("refuses %s", (_name, hex) => {
    const bytes = Uint8Array.from(Buffer.from(hex, "hex"));
    expect(() => decodeCbor(bytes)).toThrow(WireError);
  });

  test("refuses 65 arrays in each other and takes 64", () => {
    const nested = (depth: number): Uint8Array =>
      Uint8Array.from([...Array<number>(depth).fill(0x81), 0]);
    expect(() => decodeCbor(nested(64))).not.toThrow();
    expect(() => decodeCbor(nested(65))).toThrow("nests too deeply");
  });

  test("mutated frames decode or throw WireError, nothing else (seeded)", () => {
    const seed = Number(process.env["SEED"] ?? 20261121);
    const prng = new Prng(seed);
    const sources = [
      joinFrames(callFrames.map(encodeCallFrame)),
      joinFrames(replyFrames.map(encodeReplyFrame)),
    ];
    for (let round = 0; round < 20_000; round += 1) {
      const bytes = prng.pick(sources).slice();
      for (let change = prng.between(1, 4); change > 0; change -= 1) {
        bytes[prng.below(bytes.length)] = prng.below(256);
      }
      const cut = prng.chance(0.3) ? bytes.subarray(0, prng.below(bytes.length)) : bytes;
      for (const decode of [decodeCallBatch, decodeReplyBatch]) {
        try {
          decode(cut);
        } catch (error) {
          if (error instanceof WireError) continue;
          const replay = `seed ${seed} round ${round}: ${hexOf(cut)}`;
          throw new Error(replay, { cause: error });
        }
      }
    }
  });
});
