/** KV.Txn: section 1.2 of etcd's semantics. */
import { expect } from "vitest";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  Compare_CompareResult as Is,
  Compare_CompareTarget as Of,
  type CompareSchema,
  type RequestOpSchema,
} from "../../../shared/api/gen/etcdserverpb/rpc_pb.js";
import type { ErrorCode } from "../../../shared/api/errors.ts";
import { utf8, type Bytes } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { EtcdClient, type RangeInit, type TxnInit } from "../../support/etcd-client.ts";
import {
  expectRefused,
  first,
  headerOf,
  revisionOf,
  type ApiSuite,
  type Case,
} from "../api-suite.ts";

type Op = MessageInitShape<typeof RequestOpSchema>;
type Condition = MessageInitShape<typeof CompareSchema>;

const putOp = (key: Bytes, value = "x", options: { lease?: bigint } = {}): Op => ({
  request: { case: "requestPut", value: { key, value: utf8(value), ...options } },
});
const rangeOp = (key: Bytes, options: RangeInit = {}): Op => ({
  request: { case: "requestRange", value: { key, ...options } },
});
const deleteOp = (key: Bytes, rangeEnd: Bytes = new Uint8Array(0)): Op => ({
  request: { case: "requestDeleteRange", value: { key, rangeEnd } },
});
const txnOp = (value: TxnInit): Op => ({ request: { case: "requestTxn", value } });

const versionIs = (key: Bytes, result: Is, version: bigint): Condition => ({
  key,
  result,
  target: Of.VERSION,
  targetUnion: { case: "version", value: version },
});
const valueIs = (key: Bytes, result: Is, value: string): Condition => ({
  key,
  result,
  target: Of.VALUE,
  targetUnion: { case: "value", value: utf8(value) },
});

const holds = async (c: Case, ...compare: Condition[]) =>
  (await c.client.txn({ compare })).succeeded;

export const txnCompares: ApiSuite = (test) => {
  test("txn: no compares take the success branch", async (c) => {
    const response = await c.client.txn({
      success: [putOp(c.key("a"))],
      failure: [putOp(c.key("b"))],
    });
    expect(response.succeeded).toBe(true);
    expect(c.names(await c.list())).toEqual(["a"]);
  });

  test("txn: all compares must hold, else the failure branch runs", async (c) => {
    await c.put("a", "1");
    const compare = [versionIs(c.key("a"), Is.EQUAL, 1n), versionIs(c.key("a"), Is.GREATER, 1n)];
    const failure = [putOp(c.key("no"))];
    const response = await c.client.txn({ compare, success: [putOp(c.key("yes"))], failure });
    expect(response.succeeded).toBe(false);
    expect(c.names(await c.list())).toEqual(["a", "no"]);
  });

  test("txn: every numeric target compares equal, greater, less and not equal", async (c) => {
    const lease = await c.grant();
    await c.put("a", "1");
    await c.put("a", "2", { lease });
    const key = c.key("a");
    const kv = first((await c.range("a")).kvs);
    const targets = [
      [Of.VERSION, "version", kv.version],
      [Of.CREATE, "createRevision", kv.createRevision],
      [Of.MOD, "modRevision", kv.modRevision],
      [Of.LEASE, "lease", kv.lease],
    ] as const;
    for (const [target, name, actual] of targets) {
      for (const given of [actual - 1n, actual, actual + 1n]) {
        const against = (result: Is): Condition => ({
          key,
          result,
          target,
          targetUnion: { case: name, value: given },
        });
        expect(await holds(c, against(Is.EQUAL))).toBe(actual === given);
        expect(await holds(c, against(Is.GREATER))).toBe(actual > given);
        expect(await holds(c, against(Is.LESS))).toBe(actual < given);
        expect(await holds(c, against(Is.NOT_EQUAL))).toBe(actual !== given);
      }
    }
  });

  test("txn: values compare as bytes", async (c) => {
    await c.put("a", "m");
    const key = c.key("a");
    expect(await holds(c, valueIs(key, Is.EQUAL, "m"))).toBe(true);
    expect(await holds(c, valueIs(key, Is.EQUAL, "mm"))).toBe(false);
    expect(await holds(c, valueIs(key, Is.GREATER, "l"))).toBe(true);
    expect(await holds(c, valueIs(key, Is.LESS, "ma"))).toBe(true);
    expect(await holds(c, valueIs(key, Is.LESS, ""))).toBe(false);
    expect(await holds(c, valueIs(key, Is.NOT_EQUAL, "n"))).toBe(true);
  });

  test("txn: an absent key compares as zeros, and its value never holds", async (c) => {
    const key = c.key("none");
    expect(await holds(c, versionIs(key, Is.EQUAL, 0n))).toBe(true);
    expect(await holds(c, versionIs(key, Is.LESS, 1n))).toBe(true);
    expect(await holds(c, versionIs(key, Is.NOT_EQUAL, 0n))).toBe(false);
    for (const [target, name] of [
      [Of.CREATE, "createRevision"],
      [Of.MOD, "modRevision"],
      [Of.LEASE, "lease"],
    ] as const) {
      const zero: Condition = { key, target, targetUnion: { case: name, value: 0n } };
      expect(await holds(c, zero)).toBe(true);
    }
    for (const result of [Is.EQUAL, Is.GREATER, Is.LESS, Is.NOT_EQUAL]) {
      expect(await holds(c, valueIs(key, result, ""))).toBe(false);
    }
  });

  test("txn: a compare without a value compares with zero", async (c) => {
    await c.put("a", "1");
    expect(await holds(c, { key: c.key("a"), target: Of.VERSION })).toBe(false);
    expect(await holds(c, { key: c.key("b"), target: Of.VERSION })).toBe(true);
    const empty: Condition = { key: c.key("a"), target: Of.VALUE, result: Is.GREATER };
    expect(await holds(c, empty)).toBe(true);
  });

  test("txn: a compare with range_end must hold for every key of the range", async (c) => {
    await c.put("a", "1");
    await c.put("b", "1");
    const all = (value: string): Condition => ({
      ...valueIs(c.key("a"), Is.EQUAL, value),
      rangeEnd: c.everything.rangeEnd,
    });
    expect(await holds(c, all("1"))).toBe(true);
    await c.put("b", "2");
    expect(await holds(c, all("1"))).toBe(false);
    const none = { ...versionIs(c.key("x"), Is.EQUAL, 0n), rangeEnd: c.key("y") };
    expect(await holds(c, none)).toBe(true);
    expect(await holds(c, { ...valueIs(c.key("x"), Is.EQUAL, ""), rangeEnd: c.key("y") })).toBe(
      false,
    );
  });

  test("txn: an empty compare key is refused", async (c) => {
    await expectRefused(c.client.txn({ compare: [versionIs(utf8(""), Is.EQUAL, 0n)] }), "emptyKey");
  });
};

export const txnEffects: ApiSuite = (test) => {
  test("txn: its writes are one revision, and the header names it", async (c) => {
    const before = await c.revision();
    const success = [putOp(c.key("a")), putOp(c.key("b")), deleteOp(c.key("none"))];
    const response = await c.client.txn({ success });
    expect(revisionOf(response)).toBe(before + 1n);
    const kvs = (await c.list()).kvs;
    expect(kvs.map((kv) => kv.modRevision)).toEqual([before + 1n, before + 1n]);
  });

  test("txn: nothing changed leaves the revision as it is", async (c) => {
    const before = await c.revision();
    const success = [deleteOp(c.key("none")), rangeOp(c.key("none"))];
    expect(revisionOf(await c.client.txn({ success }))).toBe(before);
    expect(revisionOf(await c.client.txn({}))).toBe(before);
    expect(await c.revision()).toBe(before);
  });

  test("txn: a range sees the writes before it and not those after", async (c) => {
    await c.put("a", "old");
    const response = await c.client.txn({
      success: [
        rangeOp(c.key("a")),
        putOp(c.key("a"), "new"),
        rangeOp(c.key("a")),
        deleteOp(c.key("b"), c.key("c")),
        putOp(c.key("d"), "4"),
        rangeOp(c.everything.key, { rangeEnd: c.everything.rangeEnd }),
      ],
    });
    const seen = response.responses.map(({ response: { value } }) =>
      value?.$typeName === "etcdserverpb.RangeResponse" ? c.pairs(value) : [],
    );
    expect(seen[0]).toEqual([["a", "old"]]);
    expect(seen[2]).toEqual([["a", "new"]]);
    expect(seen[5]).toEqual([
      ["a", "new"],
      ["d", "4"],
    ]);
  });

  test("txn: responses stand in the order of the operations, each of its kind", async (c) => {
    await c.put("a", "1");
    const response = await c.client.txn({
      success: [rangeOp(c.key("a")), putOp(c.key("b")), deleteOp(c.key("a")), txnOp({})],
    });
    expect(response.responses.map((part) => part.response.case)).toEqual([
      "responseRange",
      "responsePut",
      "responseDeleteRange",
      "responseTxn",
    ]);
  });

  test("txn: inner headers hold a revision only, a nested one's is empty", async (c) => {
    const response = await c.client.txn({
      success: [putOp(c.key("a")), txnOp({ success: [rangeOp(c.key("a"))] })],
    });
    expect(headerOf(response)).toMatchObject({ revision: expect.any(BigInt) });
    expect(headerOf(response).memberId).not.toBe(0n);
    const [put, nested] = response.responses.map((part) => part.response.value);
    expect(put?.header).toMatchObject({ clusterId: 0n, memberId: 0n, raftTerm: 0n });
    expect(put?.header?.revision).toBe(revisionOf(response));
    expect(nested?.header).toMatchObject({ clusterId: 0n, memberId: 0n, revision: 0n });
  });

  test("txn: prev_kv works inside", async (c) => {
    await c.put("a", "1");
    await c.put("b", "2");
    const response = await c.client.txn({
      success: [
        { request: { case: "requestPut", value: { key: c.key("a"), prevKv: true } } },
        { request: { case: "requestDeleteRange", value: { key: c.key("b"), prevKv: true } } },
      ],
    });
    const [put, gone] = response.responses.map((part) => part.response);
    if (put?.case !== "responsePut" || gone?.case !== "responseDeleteRange") {
      throw new Error("other responses");
    }
    expect(c.nameOf(put.value.prevKv?.key ?? utf8(""))).toBe("a");
    expect(c.pairs({ kvs: gone.value.prevKvs })).toEqual([["b", "2"]]);
  });

  test("txn: its events keep the order of the operations in one response", async (c) => {
    await c.put("z", "1");
    const watch = c.watch();
    await watch.created(c.everything);
    const success = [putOp(c.key("b")), deleteOp(c.key("z")), putOp(c.key("a"))];
    const revision = revisionOf(await c.client.txn({ success }));
    const response = await watch.next();
    expect(response.events.map((event) => c.nameOf(event.kv?.key ?? utf8("")))).toEqual([
      "b",
      "z",
      "a",
    ]);
    expect(new Set(response.events.map((event) => event.kv?.modRevision))).toEqual(
      new Set([revision]),
    );
  });

  test("txn: read-only and serializable ones are answered", async (c) => {
    await c.put("a", "1");
    const linear = await c.client.txn({ success: [rangeOp(c.key("a"))] });
    const local = await c.client.txn({ success: [rangeOp(c.key("a"), { serializable: true })] });
    expect(local.responses[0]?.response.value).toEqual(linear.responses[0]?.response.value);
  });

  test("txn: nested compares see the state before any operation", async (c) => {
    const nested = txnOp({
      compare: [versionIs(c.key("a"), Is.EQUAL, 0n)],
      success: [putOp(c.key("was-absent"))],
      failure: [putOp(c.key("was-there"))],
    });
    const response = await c.client.txn({ success: [putOp(c.key("a")), nested] });
    expect(c.names(await c.list())).toEqual(["a", "was-absent"]);
    const inner = response.responses[1]?.response;
    expect(inner?.case === "responseTxn" && inner.value.succeeded).toBe(true);
  });

  test("txn: a nested one three deep runs its branches and shares the revision", async (c) => {
    const fails = versionIs(c.key("none"), Is.GREATER, 0n);
    const deep = txnOp({ compare: [fails], failure: [putOp(c.key("deep"))] });
    const response = await c.client.txn({
      success: [txnOp({ success: [deep, putOp(c.key("middle"))] }), putOp(c.key("outer"))],
    });
    const kvs = (await c.list()).kvs;
    expect(c.names({ kvs })).toEqual(["deep", "middle", "outer"]);
    expect(new Set(kvs.map((kv) => kv.modRevision))).toEqual(new Set([revisionOf(response)]));
  });
};

/**
 * Stands last among the suites: etcd 3.4 drops a transaction's ranges on members that need no result, so its members
 * differ after this test.
 */
export const txnRefusedRange: ApiSuite = (test, options) => {
  const setting = options.members === 1 ? "" : " on every member";
  test(`txn: a future revision aborts the whole without effect${setting}`, async (c) => {
    const now = await c.revision();
    const range = rangeOp(c.key("a"), { revision: now + 5n });
    await expectRefused(c.client.txn({ success: [putOp(c.key("a")), range] }), "futureRev");
    for (const channel of c.target.members) {
      const response = await new EtcdClient(channel).range(c.everything);
      expect([revisionOf(response), response.count]).toEqual([now, 0n]);
    }
  });
};

export const txnRefusals: ApiSuite = (test) => {
  const many = (c: Case, count: number) =>
    Array.from({ length: count }, (_, index) => rangeOp(c.key(String(index))));

  test("txn: more than the limit of compares, successes or failures is refused", async (c) => {
    const over = LIMITS.txnOpsMax + 1;
    const compare = Array.from({ length: over }, () => versionIs(c.key("a"), Is.EQUAL, 0n));
    await expectRefused(c.client.txn({ compare }), "tooManyOps");
    await expectRefused(c.client.txn({ success: many(c, over) }), "tooManyOps");
    await expectRefused(c.client.txn({ failure: many(c, over) }), "tooManyOps");
    const most = await c.client.txn({ success: many(c, over - 1), failure: many(c, over - 1) });
    expect(most.responses.length).toBe(LIMITS.txnOpsMax);
  });

  test("txn: a nested one gets what the outer one left of the limit", async (c) => {
    const nested = (count: number) => txnOp({ success: many(c, count) });
    const left = LIMITS.txnOpsMax - 28;
    await c.client.txn({ success: [...many(c, 27), nested(left)] });
    const over = { success: [...many(c, 27), nested(left + 1)] };
    await expectRefused(c.client.txn(over), "tooManyOps");
  });

  test("txn: an operation without a request is refused", async (c) => {
    await expectRefused(c.client.txn({ success: [{}] }), "keyNotFound");
    await expectRefused(c.client.txn({ failure: [{}] }), "keyNotFound");
  });

  test("txn: both branches are validated, taken or not", async (c) => {
    const before = await c.revision();
    const good = [putOp(c.key("a"))];
    for (const bad of [putOp(utf8("")), rangeOp(utf8("")), deleteOp(utf8(""))]) {
      await expectRefused(c.client.txn({ success: good, failure: [bad] }), "emptyKey");
      await expectRefused(c.client.txn({ success: [txnOp({ failure: [bad] })] }), "emptyKey");
    }
    const lying: Op = {
      request: {
        case: "requestPut",
        value: { key: c.key("a"), value: utf8("x"), ignoreValue: true },
      },
    };
    await expectRefused(c.client.txn({ failure: [lying] }), "valueProvided");
    expect(await c.revision()).toBe(before);
  });

  test("txn: duplicate puts, and puts inside a delete, are refused per branch", async (c) => {
    const [a, b, end] = [c.key("a"), c.key("b"), c.key("z")];
    const refused = (success: Op[]) => expectRefused(c.client.txn({ success }), "duplicateKey");
    await refused([putOp(a), putOp(b), putOp(a)]);
    await refused([putOp(a), deleteOp(a)]);
    await refused([deleteOp(a), putOp(a)]);
    await refused([deleteOp(a, end), putOp(b)]);
    await expectRefused(c.client.txn({ failure: [putOp(a), putOp(a)] }), "duplicateKey");
    await c.client.txn({ success: [putOp(a)], failure: [putOp(a)] });
    await c.client.txn({ success: [deleteOp(a, b), putOp(b)] });
    await c.client.txn({ success: [deleteOp(a, end), deleteOp(a), deleteOp(b, end)] });
  });

  test("txn: a put inside a delete without an end is not taken for a duplicate", async (c) => {
    const key = Uint8Array.of(255, 255, 255, 2);
    const success = [putOp(key), deleteOp(key, Uint8Array.of(0))];
    await c.client.txn({ success });
    expect((await c.client.range({ key })).count).toBe(0n);
  });

  test("txn: duplicates of nested transactions", async (c) => {
    const [a, b, end] = [c.key("a"), c.key("b"), c.key("z")];
    const refused = (success: Op[]) => expectRefused(c.client.txn({ success }), "duplicateKey");
    const either = txnOp({ success: [putOp(a)], failure: [putOp(a)] });
    await c.client.txn({ success: [either] });
    await refused([either, putOp(a)]);
    await refused([putOp(a), either]);
    await refused([either, txnOp({ failure: [putOp(a)] })]);
    await refused([deleteOp(a, end), txnOp({ success: [putOp(b)] })]);
    await refused([txnOp({ success: [putOp(b)] }), deleteOp(a, end)]);
    await refused([txnOp({ success: [deleteOp(a, end)] }), txnOp({ success: [putOp(b)] })]);
    await c.client.txn({
      success: [txnOp({ success: [putOp(b)] }), txnOp({ success: [deleteOp(a, end)] })],
    });
  });

  const failing: [string, ErrorCode, (c: Case) => Op][] = [
    [
      "an unknown lease",
      "leaseNotFound",
      (c) => putOp(c.key("b"), "x", { lease: 0x7fff_0000_4321n }),
    ],
    [
      "ignore_value of an absent key",
      "keyNotFound",
      (c) => ({ request: { case: "requestPut", value: { key: c.key("b"), ignoreValue: true } } }),
    ],
  ];
  for (const [what, code, operation] of failing) {
    test(`txn: ${what} aborts the whole without effect`, async (c) => {
      const before = await c.revision();
      const success = [putOp(c.key("a")), operation(c)];
      await expectRefused(c.client.txn({ success }), code);
      expect(await c.revision()).toBe(before);
      expect((await c.list()).count).toBe(0n);
    });
  }

  test("txn: the checks look at the chosen branch only", async (c) => {
    const lost = putOp(c.key("b"), "x", { lease: 0x7fff_0000_4321n });
    const response = await c.client.txn({ success: [putOp(c.key("a"))], failure: [lost] });
    expect(response.succeeded).toBe(true);
  });

  test("txn: ranges at compacted, future and negative revisions are refused", async (c) => {
    const old = revisionOf(await c.put("a", "1"));
    const now = revisionOf(await c.put("a", "2"));
    await c.client.compact({ revision: now });
    const at = (revision: bigint) => c.client.txn({ success: [rangeOp(c.key("a"), { revision })] });
    await expectRefused(at(old), "compacted");
    await expectRefused(at(-5n), "compacted");
    await expectRefused(at(now + 1n), "futureRev");
    expect((await at(now)).responses.length).toBe(1);
  });

  test("txn: a request over the size limit is refused", async (c) => {
    const half = "x".repeat(LIMITS.requestBytesMax / 2);
    const success = [putOp(c.key("a"), half), putOp(c.key("b"), half)];
    await expectRefused(c.client.txn({ success }), "requestTooLarge");
    expect((await c.list()).count).toBe(0n);
  });
};
