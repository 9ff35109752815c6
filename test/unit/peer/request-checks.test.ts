/** The checks before a proposal: etcd's conditions and answers. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RpcError } from "../../../shared/api/errors.ts";
import { compareBytes, utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { checkPut, checkTxn } from "../../../shared/peer/service/request-checks.ts";
import { putCost, requestBytes, txnCost } from "../../../shared/peer/service/request-size.ts";
import type { Op, TxnOp } from "../../../shared/wire/command.ts";
import { compare, deleteOp, putOp, rangeOp, txnOp } from "./driven-cluster.ts";

function codeOf(check: () => void): string | undefined {
  try {
    check();
  } catch (error) {
    if (error instanceof RpcError) return error.code;
    throw error;
  }
  return undefined;
}

const txnCode = (txn: TxnOp, opsMax = 128) => codeOf(() => checkTxn(txn, opsMax));
const then = (...ops: Op[]) => txnOp([], ops);

test.each([
  ["a plain put", putOp("k", "v"), undefined],
  ["no key", putOp("", "v"), "emptyKey"],
  ["ignore_value with a value", putOp("k", "v", { ignoreValue: true }), "valueProvided"],
  ["ignore_value alone", putOp("k", "", { ignoreValue: true }), undefined],
  ["ignore_lease with a lease", putOp("k", "v", { ignoreLease: true, lease: 1n }), "leaseProvided"],
])("put: %s", (_name, op, code) => {
  expect(codeOf(() => checkPut(op))).toBe(code);
});

describe("txn", () => {
  const a = putOp("a", "1");
  const del = deleteOp("a", "c");
  test.each<[string, TxnOp, string | undefined]>([
    ["empty", then(), undefined],
    ["an empty key in a condition", txnOp([compare("", "mod", "equal", 0n)], []), "emptyKey"],
    ["an empty key in the branch not taken", txnOp([], [], [rangeOp("")]), "emptyKey"],
    ["two puts of one key", then(a, a), "duplicateKey"],
    ["two puts of one key in the else branch", txnOp([], [], [a, a]), "duplicateKey"],
    ["the same put in both branches", txnOp([], [a], [a]), undefined],
    ["a put inside a delete range", then(a, del), "duplicateKey"],
    ["the other way round", then(del, a), "duplicateKey"],
    ["a put at the end of a delete range", then(del, putOp("c", "1")), undefined],
    ["a put and a delete of the same key", then(deleteOp("a"), a), "duplicateKey"],
    ["overlapping deletes", then(del, deleteOp("b", "d"), deleteOp("a")), undefined],
    [
      "a put past two overlapping deletes",
      then(del, deleteOp("b", "d"), putOp("d", "")),
      undefined,
    ],
    ["a put in their union", then(del, deleteOp("b", "d"), putOp("cc", "")), "duplicateKey"],
    [
      "a put behind an open-ended delete, which etcd's check doesn't see",
      then(deleteOp("b", "\0"), putOp("zz", "")),
      undefined,
    ],
    ["one put in then and else of a nested txn", then(txnOp([], [a], [a])), undefined],
    ["puts of a nested txn and outside", then(then(a), a), "duplicateKey"],
    ["puts of two nested txns", then(then(a), then(a)), "duplicateKey"],
    ["else of one and then of another", then(txnOp([], [], [a]), then(a)), "duplicateKey"],
    ["a nested put in an outer delete", then(then(a), del), "duplicateKey"],
    ["a nested put in a delete of the nested txn before", then(then(del), then(a)), "duplicateKey"],
    ["a nested put and a delete of the nested txn after", then(then(a), then(del)), undefined],
    ["an outer put in a nested delete", then(then(del), a), "duplicateKey"],
  ])("%s", (_name, txn, code) => {
    expect(txnCode(txn)).toBe(code);
  });

  test("each list may hold so many operations, and a nested txn what its parent leaves", () => {
    const ranges = (count: number) => Array.from({ length: count }, () => rangeOp("k"));
    expect(txnCode(then(...ranges(4)), 4)).toBeUndefined();
    expect(txnCode(then(...ranges(5)), 4)).toBe("tooManyOps");
    const compares = Array.from({ length: 5 }, () => compare("k", "mod", "equal", 0n));
    expect(txnCode(txnOp(compares, []), 4)).toBe("tooManyOps");
    expect(txnCode(then(then(...ranges(3))), 4)).toBeUndefined();
    expect(txnCode(then(then(...ranges(4))), 4)).toBe("tooManyOps");
    let deep = then();
    for (let depth = 1; depth <= LIMITS.txnDepthMax; depth += 1) deep = then(deep);
    expect(txnCode(deep)).toBe("tooManyOps");
  });

  test("deletes in any order cover what each of them covers (against a plain scan)", () => {
    const letter = fc.constantFrom("a", "b", "c", "d", "e", "f", "\0");
    const cases = fc.tuple(fc.array(fc.tuple(letter, fc.oneof(fc.constant(""), letter))), letter);
    fc.assert(
      fc.property(cases, ([ranges, key]) => {
        const covered = ranges.some(([start, end]) => {
          if (end === "") return start === key;
          return compareBytes(utf8(start), utf8(key)) <= 0 && key < end;
        });
        const txn = then(...ranges.map(([start, end]) => deleteOp(start, end)), putOp(key, ""));
        expect(txnCode(txn)).toBe(covered ? "duplicateKey" : undefined);
      }),
      { numRuns: 500 },
    );
  });
});

test("costs follow etcd's quota figures; sizes are near the protobuf ones", () => {
  expect(putCost(putOp("key", "value"))).toBe(256 + 8);
  expect(txnCost(txnOp([], [putOp("key", "value")], [rangeOp("a")]))).toBe(264);
  expect(txnCost(then(rangeOp("a"), deleteOp("b")))).toBe(0);
  const size = requestBytes(putOp("key", "v".repeat(1000)));
  expect(size).toBeGreaterThan(1003);
  expect(size).toBeLessThan(1100);
});
