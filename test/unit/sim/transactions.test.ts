/** The checker on transactions, deletions and counts: their answers are compared step by step. */
import { describe, expect, test } from "vitest";
import type { Answer, ObservedKv, Operation, Request, TxnRequest } from "../../sim/history.ts";
import { checkLinearizable } from "../../sim/linearizability.ts";

const put = (key: string, value: string) => ({ kind: "put", key, value, lease: 0n }) as const;
const readAll = { kind: "range", key: "a", end: "z" } as const;

function kv(key: string, value: string, revision: number): ObservedKv {
  const plain = { createRevision: revision, modRevision: revision, version: 1, lease: 0n };
  return { key, value, ...plain };
}

/** The operations one after the other, each with its answer. */
function verdictOf(...steps: [Request, Answer | "unknown"][]): string {
  const operations = steps.map(([request, outcome], place): Operation => {
    return { id: place, request, invoked: 2 * place, returned: 2 * place + 1, outcome };
  });
  const verdict = checkLinearizable(operations);
  return verdict.ok ? "linearizable" : verdict.reason;
}

/** Puts b if a is there, and reads all; else puts c. */
const conditional: TxnRequest = {
  kind: "txn",
  compares: [{ key: "a", end: undefined, target: "version", result: "greater", operand: 0 }],
  success: [put("b", "2"), readAll],
  failure: [put("c", "3")],
};

describe("transactions", () => {
  const first: [Request, Answer] = [put("a", "1"), { revision: 2 }];
  const found = { kind: "range", count: 2, more: false } as const;

  test("steps see those before them", () => {
    const kvs = [kv("a", "1", 2), kv("b", "2", 3)];
    const results = [{ kind: "put" } as const, { ...found, kvs }];
    const answer = { revision: 3, succeeded: true, results };
    expect(verdictOf(first, [conditional, answer])).toBe("linearizable");
  });

  test("a step that doesn't see an earlier one is refused", () => {
    const results = [{ kind: "put" } as const, { ...found, kvs: [kv("a", "1", 2)], count: 1 }];
    const answer = { revision: 3, succeeded: true, results };
    expect(verdictOf(first, [conditional, answer])).toContain("a step's answer is wrong");
  });

  test("the wrong branch is refused", () => {
    const answer: Answer = { revision: 3, succeeded: false, results: [{ kind: "put" }] };
    expect(verdictOf(first, [conditional, answer])).toContain("its conditions hold: true");
  });

  test("conditions of a nested one see the state before the whole", () => {
    const nested: TxnRequest = {
      kind: "txn",
      compares: [],
      success: [put("a", "0"), { ...conditional, success: [], failure: [put("c", "3")] }],
      failure: [],
    };
    const inner = { kind: "txn", succeeded: false, results: [{ kind: "put" }] } as const;
    const answer: Answer = { revision: 2, succeeded: true, results: [{ kind: "put" }, inner] };
    expect(verdictOf([nested, answer])).toBe("linearizable");
  });

  test("one of unknown outcome explains what was read", () => {
    const read: Request = { ...readAll, serializable: false, atRevision: 0 };
    const answer: Answer = { revision: 2, kvs: [kv("c", "3", 2)], count: 1, more: false };
    expect(verdictOf([conditional, "unknown"], [read, answer])).toBe("linearizable");
  });
});

describe("counts", () => {
  test("a delete must have deleted what was there", () => {
    const remove: Request = { kind: "delete", key: "a", end: "z" };
    const wrong: Answer = { revision: 3, deleted: 2 };
    expect(verdictOf([put("a", "1"), { revision: 2 }], [remove, wrong])).toContain(
      "deleted 2 of 1",
    );
  });

  test("a limited range counts all and says that there is more", () => {
    const both: Request = { kind: "putAll", keys: ["a", "b"], value: "1" };
    const read: Request = { ...readAll, serializable: false, atRevision: 0, limit: 1 };
    const kvs = [kv("a", "1", 2)];
    const right: Answer = { revision: 2, kvs, count: 2, more: true };
    expect(verdictOf([both, { revision: 2 }], [read, right])).toBe("linearizable");
    expect(verdictOf([both, { revision: 2 }], [read, { ...right, more: false }])).toContain(
      "counted",
    );
  });
});
