/** The codec of log entries: golden bytes, round trips of random commands, refusal of what can't be read. */
import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hexOf, utf8 } from "../../../shared/base/bytes.ts";
import type { Bytes } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import {
  CommandError,
  commandOf,
  decodeCommand,
  encodeCommand,
  ownSequence,
  proposerBytes,
} from "../../../shared/wire/command-codec.ts";
import type { Command, LogCommand, Op, TxnOp } from "../../../shared/wire/command.ts";

const request = { member: 0x8e9e05c52164694dn, incarnation: 0x0123456789ab, sequence: 300 };

function entry(command: Command, withRequest = true): LogCommand {
  return { request: withRequest ? request : undefined, identity: undefined, command };
}

const put = (key: string, value: string, lease = 0n) =>
  ({
    kind: "put",
    key: utf8(key),
    value: utf8(value),
    lease,
    previousKv: false,
    ignoreValue: false,
    ignoreLease: false,
  }) as const;

describe("golden bytes (a change here breaks every log that was ever written)", () => {
  const golden: readonly [string, LogCommand, string][] = [
    [
      "put",
      entry(put("foo", "bar", 0x2an)),
      "010101" +
        "8e9e05c52164694d00000123456789ab000000000000012c" +
        "0803666f6f03626172000000000000002a",
    ],
    ["put without request or lease", entry(put("k", ""), false), "01010000016b00"],
    [
      "deleteRange",
      entry(
        { kind: "deleteRange", key: utf8("a"), rangeEnd: Uint8Array.of(0), previousKv: true },
        false,
      ),
      "0102000101610100",
    ],
    ["compact", entry({ kind: "compact", revision: 1000 }, false), "010400e807"],
    [
      "leaseGrant",
      entry({ kind: "leaseGrant", id: -1n, ttlSeconds: 60 }, false),
      "010500ffffffffffffffff3c",
    ],
    [
      "leaseRevoke with a term",
      entry({ kind: "leaseRevoke", ids: [5n], term: 7 }, false),
      "01060008010000000000000005",
    ],
    [
      "leaseRevoke of a client",
      entry({ kind: "leaseRevoke", ids: [5n], term: undefined }, false),
      "01060000010000000000000005",
    ],
    [
      "alarm",
      entry({ kind: "alarm", action: "activate", member: 3n, alarm: "nospace" }, false),
      "010700030000000000000003",
    ],
    [
      "memberAttributes",
      entry({ kind: "memberAttributes", member: 3n, name: "n1", clientUrls: ["http://a"] }, false),
      "0108000000000000000003026e310108687474703a2f2f61",
    ],
    ["clusterVersion", entry({ kind: "clusterVersion", version: "3.7" }, false), "01090003332e37"],
    [
      "memberAdd",
      entry(
        {
          kind: "memberAdd",
          member: 3n,
          peerUrls: ["http://a:1"],
          isLearner: true,
          learnersMax: 2,
        },
        false,
      ),
      "010a0000000000000000030102010a687474703a2f2f613a31",
    ],
    ["memberRemove", entry({ kind: "memberRemove", member: 3n }, false), "010b000000000000000003"],
    [
      "memberPromote",
      entry({ kind: "memberPromote", member: 3n }, false),
      "010c000000000000000003",
    ],
    [
      "memberUpdate",
      entry({ kind: "memberUpdate", member: 3n, peerUrls: ["http://a:1"] }, false),
      "010d000000000000000003010a687474703a2f2f613a31",
    ],
    [
      "memberChange",
      entry(
        {
          kind: "memberChange",
          steps: [
            { kind: "memberRemove", member: 2n },
            { kind: "memberPromote", member: 3n },
          ],
        },
        false,
      ),
      "010e00020b00000000000000020c0000000000000003",
    ],
  ];
  test.each(golden)("%s", (_name, command, hex) => {
    expect(hexOf(encodeCommand(command))).toBe(hex);
    expect(decodeCommand(encodeCommand(command))).toEqual(command);
  });

  test("txn with a compare, a put, a range and a nested txn", () => {
    const range = {
      kind: "range",
      key: utf8("r"),
      rangeEnd: utf8(""),
      revision: 0,
      limit: 0,
      sortOrder: "none",
      sortTarget: "key",
      keysOnly: false,
      countOnly: true,
      minModRevision: 0,
      maxModRevision: 0,
      minCreateRevision: 0,
      maxCreateRevision: 0,
    } as const;
    const command = entry(
      {
        kind: "txn",
        compares: [
          { target: "mod", result: "equal", key: utf8("k"), rangeEnd: utf8(""), operand: 0n },
          {
            target: "value",
            result: "less",
            key: utf8("k"),
            rangeEnd: utf8(""),
            operand: utf8("v"),
          },
        ],
        success: [put("k", "v")],
        failure: [range, { kind: "txn", compares: [], success: [], failure: [] }],
      },
      false,
    );
    const bytes = encodeCommand(command);
    expect(hexOf(bytes)).toBe(
      "010300" +
        "02" +
        "0200016b000000000000000000" +
        "0302016b000176" +
        "01" +
        "0100016b0176" +
        "02" +
        "03060172" +
        "00" +
        "04000000",
    );
    expect(decodeCommand(bytes)).toEqual(command);
  });
});

const bytes: fc.Arbitrary<Bytes> = fc.uint8Array({ maxLength: 40 });
const id = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const memberId = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n });
const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const signed = fc.integer({ min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER });
const putArbitrary = fc.record({
  kind: fc.constant("put" as const),
  key: bytes,
  value: bytes,
  lease: fc.oneof(fc.constant(0n), id),
  previousKv: fc.boolean(),
  ignoreValue: fc.boolean(),
  ignoreLease: fc.boolean(),
});
const deleteArbitrary = fc.record({
  kind: fc.constant("deleteRange" as const),
  key: bytes,
  rangeEnd: bytes,
  previousKv: fc.boolean(),
});
const rangeArbitrary = fc.record({
  kind: fc.constant("range" as const),
  key: bytes,
  rangeEnd: bytes,
  revision: signed,
  limit: signed,
  sortOrder: fc.constantFrom("none" as const, "ascend" as const, "descend" as const),
  sortTarget: fc.constantFrom("key", "version", "create", "mod", "value" as const),
  keysOnly: fc.boolean(),
  countOnly: fc.boolean(),
  minModRevision: signed,
  maxModRevision: signed,
  minCreateRevision: signed,
  maxCreateRevision: signed,
}) as fc.Arbitrary<Op>;
const compareFields = {
  result: fc.constantFrom("equal", "greater", "less", "notEqual" as const),
  key: bytes,
  rangeEnd: bytes,
};
const compareArbitrary = fc.oneof(
  fc.record({ target: fc.constant("value" as const), operand: bytes, ...compareFields }),
  fc.record({
    target: fc.constantFrom("version", "create", "mod", "lease" as const),
    operand: id,
    ...compareFields,
  }),
);
const txnArbitrary = fc.letrec<{ txn: TxnOp; op: Op }>((tie) => ({
  op: fc.oneof({ maxDepth: 3 }, putArbitrary, deleteArbitrary, rangeArbitrary, tie("txn")),
  txn: fc.record({
    kind: fc.constant("txn" as const),
    compares: fc.array(compareArbitrary, { maxLength: 3 }) as fc.Arbitrary<TxnOp["compares"]>,
    success: fc.array(tie("op"), { maxLength: 3 }),
    failure: fc.array(tie("op"), { maxLength: 3 }),
  }),
})).txn;
const commandArbitrary = fc.oneof<fc.Arbitrary<Command>[]>(
  putArbitrary,
  deleteArbitrary,
  txnArbitrary,
  fc.record({ kind: fc.constant("compact" as const), revision: count }),
  fc.record({ kind: fc.constant("leaseGrant" as const), id, ttlSeconds: count }),
  fc.record({
    kind: fc.constant("leaseRevoke" as const),
    ids: fc.array(id, { maxLength: 5 }),
    term: fc.option(fc.integer({ min: 0, max: 2 ** 40 }), { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant("alarm" as const),
    action: fc.constantFrom("activate" as const, "deactivate" as const),
    member: memberId,
    alarm: fc.constantFrom("nospace" as const, "corrupt" as const),
  }),
  fc.record({
    kind: fc.constant("memberAttributes" as const),
    member: memberId,
    name: fc.string(),
    clientUrls: fc.array(fc.webUrl(), { maxLength: 3 }),
  }),
);
const entryArbitrary: fc.Arbitrary<LogCommand> = fc.record({
  request: fc.option(fc.record({ member: memberId, incarnation: count, sequence: count }), {
    nil: undefined,
  }),
  identity: fc.option(fc.record({ client: bytes, sequence: count, floor: count }), {
    nil: undefined,
  }),
  command: commandArbitrary,
});

/** Byte strings of a decoded entry are views, which `toEqual` tells apart by nothing but their content. */
test("random entries come back as they were", () => {
  fc.assert(
    fc.property(entryArbitrary, (command) => {
      const data = encodeCommand(command);
      expect(decodeCommand(data)).toEqual(command);
      expect(commandOf(data)).toEqual(command.command);
    }),
    { numRuns: 300 },
  );
});

test("ownSequence finds its own requests and no others", () => {
  const data = encodeCommand(entry(put("a", "b")));
  const own = proposerBytes(request);
  expect(ownSequence(data, own)).toBe(300);
  expect(ownSequence(data, proposerBytes({ ...request, member: 1n }))).toBeUndefined();
  expect(ownSequence(data, proposerBytes({ ...request, incarnation: 7 }))).toBeUndefined();
  expect(ownSequence(encodeCommand(entry(put("a", "b"), false)), own)).toBeUndefined();
  expect(ownSequence(utf8(""), own)).toBeUndefined();
});

describe("what can't be read stops the reader with a CommandError", () => {
  test("a newer version, an unknown kind, unknown flags, trailing bytes", () => {
    const good = encodeCommand(entry({ kind: "compact", revision: 5 }, false));
    const changed = (position: number, value: number) => {
      const copy = good.slice();
      copy[position] = value;
      return copy;
    };
    expect(() => decodeCommand(changed(0, 2))).toThrow("format 2");
    expect(() => decodeCommand(changed(1, 77))).toThrow("unknown kind 77");
    expect(() => decodeCommand(changed(2, 128))).toThrow("unknown flags");
    expect(() => decodeCommand(Uint8Array.of(...good, 0))).toThrow("ends at");
  });

  test("transactions that nest deeper than the limit", () => {
    let txn: TxnOp = { kind: "txn", compares: [], success: [], failure: [] };
    for (let depth = 1; depth <= LIMITS.txnDepthMax; depth += 1) {
      txn = { kind: "txn", compares: [], success: [txn], failure: [] };
    }
    expect(() => decodeCommand(encodeCommand(entry(txn)))).toThrow("nest past");
    expect(decodeCommand(encodeCommand(entry(txn.success[0] as TxnOp)))).toBeDefined();
  });

  test("random bytes and cut entries never throw anything else", () => {
    const attempt = (data: Bytes) => {
      try {
        decodeCommand(data);
      } catch (error) {
        expect(error).toBeInstanceOf(CommandError);
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (data) => {
        attempt(data);
        attempt(Uint8Array.of(1, (data[0] ?? 0) % 10, 0, ...data));
      }),
      { numRuns: 1000 },
    );
    fc.assert(
      fc.property(entryArbitrary, fc.nat(200), (command, cut) => {
        const data = encodeCommand(command);
        if (cut < data.length)
          expect(() => decodeCommand(data.subarray(0, cut))).toThrow(CommandError);
      }),
      { numRuns: 300 },
    );
  });
});

test("entries that share memory don't touch each other, whatever their sizes", () => {
  const sizes = [10, 3000, 5000, 1, 4096, 60_000, 20, 4000, 70_000, 300];
  const commands = Array.from({ length: 60 }, (_, place) =>
    entry(
      put(`key${place}`, String.fromCharCode(97 + (place % 26)).repeat(sizes[place % 10] ?? 1)),
    ),
  );
  const encoded = commands.map((command) => encodeCommand(command));
  for (const [place, data] of encoded.entries()) {
    // The runtime's own comparison: the test framework's takes seconds over so many bytes.
    expect(isDeepStrictEqual(decodeCommand(data), commands[place])).toBe(true);
  }
});
