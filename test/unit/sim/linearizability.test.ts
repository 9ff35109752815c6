/**
 * The checker of histories, on histories made by hand: it passes those that can be explained, and
 * no others.
 */
import { describe, expect, test } from "vitest";
import type { Answer, ObservedKv, Operation, Request } from "../../sim/history.ts";
import { checkLinearizable } from "../../sim/linearizability.ts";

/** One operation over [invoked, returned]; without an outcome it was never answered. */
function op(
  [invoked, returned]: [number, number],
  request: Request,
  outcome: Operation["outcome"] = "unknown",
): Operation {
  return { id: invoked, request, invoked, returned, outcome };
}

function kv(key: string, value: string, revision: number, options: Partial<ObservedKv> = {}) {
  const plain = { createRevision: revision, modRevision: revision, version: 1, lease: 0n };
  return { key, value, ...plain, ...options };
}

const put = (key: string, value: string, lease = 0n): Request => ({
  kind: "put",
  key,
  value,
  lease,
});
const at = (revision: number, rest: Partial<Answer> = {}): Answer => ({ revision, ...rest });
const read = (key: string, serializable = false): Request => ({
  kind: "range",
  key,
  end: undefined,
  serializable,
  atRevision: 0,
});
const swap = (expected: number, value: string): Request => ({
  kind: "swap",
  key: "a",
  expected,
  value,
});

function expectExplained(...operations: Operation[]): void {
  expect(checkLinearizable(operations)).toMatchObject({ ok: true });
}

function expectRefused(reason: string, ...operations: Operation[]): void {
  const verdict = checkLinearizable(operations);
  expect(verdict.ok ? "linearizable" : verdict.reason).toContain(reason);
}

describe("acknowledged operations", () => {
  test("a write and a later read of it are linearizable", () => {
    expectExplained(
      op([0, 1], put("a", "1"), at(2)),
      op([2, 3], read("a"), at(2, { kvs: [kv("a", "1", 2)] })),
    );
  });

  test("overlapping writes may take either order", () => {
    expectExplained(
      op([0, 9], put("a", "1"), at(3)),
      op([1, 8], put("a", "2"), at(2)),
      op([10, 11], read("a"), at(3, { kvs: [kv("a", "1", 3, { createRevision: 2, version: 2 })] })),
    );
  });

  test("a read that began after a write was answered must see it", () => {
    expectRefused(
      "was answered before it began",
      op([0, 1], put("a", "1"), at(2)),
      op([2, 3], read("a"), at(1, { kvs: [] })),
    );
  });

  test("a serializable read may lie in the past, but not outside of it", () => {
    const write = op([0, 1], put("a", "1"), at(2));
    expectExplained(write, op([2, 3], read("a", true), at(1, { kvs: [] })));
    expectRefused("instead of", write, op([2, 3], read("a", true), at(2, { kvs: [] })));
  });

  test("a read of an earlier revision shows that one", () => {
    const [first, second] = [op([0, 1], put("a", "1"), at(2)), op([2, 3], put("a", "2"), at(3))];
    const past = { ...read("a"), atRevision: 2 };
    expectExplained(first, second, op([4, 5], past, at(3, { kvs: [kv("a", "1", 2)] })));
    expectRefused("instead of", first, second, op([4, 5], past, at(3, { kvs: [] })));
  });

  test("two writes can't share a revision", () => {
    expectRefused("claimed by", op([0, 5], put("a", "1"), at(2)), op([0, 5], put("b", "1"), at(2)));
  });

  test("writes answered one after the other can't swap places", () => {
    expectRefused(
      "was answered before it began",
      op([0, 1], put("a", "1"), at(3)),
      op([2, 3], put("a", "2"), at(2)),
    );
  });

  test("a lost write leaves a revision that nothing explains", () => {
    expectRefused(
      "no write explains it",
      op([0, 1], put("a", "1"), at(3)),
      op([2, 3], read("a"), at(3, { kvs: [kv("a", "1", 3)] })),
    );
  });

  test("a swap succeeds at its expectation alone", () => {
    const first = op([0, 1], put("a", "1"), at(2));
    expectExplained(first, op([2, 3], swap(2, "2"), at(3, { succeeded: true })));
    expectRefused(
      "would have written nothing",
      first,
      op([2, 3], swap(9, "2"), at(3, { succeeded: true })),
    );
    expectRefused(
      "failed although",
      first,
      op([2, 3], swap(2, "2"), at(2, { succeeded: false, kvs: [kv("a", "1", 2)] })),
    );
  });

  test("a delete that found nothing is wrong where something is", () => {
    const remove: Request = { kind: "delete", key: "a", end: undefined };
    expectExplained(op([0, 1], remove, at(1, { deleted: 0 })));
    expectRefused(
      "deleted nothing",
      op([0, 1], put("a", "1"), at(2)),
      op([2, 3], remove, at(2, { deleted: 0 })),
    );
  });
});

describe("unknown outcomes", () => {
  test("may have happened, at any time after they began, or not at all", () => {
    const lost = op([0, 5], put("a", "1"));
    const later = (revision: number, kvs: ObservedKv[]) =>
      op([90, 91], read("a"), at(revision, { kvs }));
    expectExplained(lost, later(1, []));
    expectExplained(lost, later(2, [kv("a", "1", 2)]));
  });

  test("can't happen before they began", () => {
    expectRefused(
      "no write explains it",
      op([0, 1], read("a"), at(2, { kvs: [kv("a", "1", 2)] })),
      op([2, 3], put("a", "1")),
    );
  });

  test("happen once at most", () => {
    expectRefused(
      "no write explains it",
      op([0, 1], put("a", "1")),
      op([2, 3], put("b", "1"), at(4)),
    );
  });

  test("are searched: the order that fits is found among many", () => {
    const lost = Array.from({ length: 6 }, (_, n) => op([n, 50], put("a", `${n}`)));
    const seen = [3, 1, 5, 0, 2, 4].map((n, place) =>
      op(
        [60 + place, 60 + place],
        read("a", true),
        at(2 + place, {
          kvs: [kv("a", `${n}`, 2 + place, { createRevision: 2, version: place + 1 })],
        }),
      ),
    );
    expectExplained(...lost, ...seen);
  });

  test("that explain nothing in time are undecided, and that is no pass", () => {
    const lost = Array.from({ length: 12 }, (_, n) => op([n, 50], put(`k${n}`, "x")));
    const impossible = op([60, 61], read("a"), at(13, { kvs: [kv("a", "?", 13)] }));
    const verdict = checkLinearizable([...lost, impossible], { stepsMax: 1000 });
    expect(verdict).toMatchObject({ ok: false, reason: expect.stringContaining("undecided") });
  });

  test("a refused write explains nothing", () => {
    expectRefused(
      "no write explains it",
      op([0, 1], put("a", "1"), "refused"),
      op([2, 3], read("a"), at(2, { kvs: [kv("a", "1", 2)] })),
    );
  });
});

describe("leases", () => {
  const grant = op([0, 1], { kind: "grant", lease: 7n }, at(1));
  const attached = op([2, 3], put("a", "1", 7n), at(2));

  test("an expiry explains a revision that deletes its keys", () => {
    expectExplained(grant, attached, op([9, 10], read("a"), at(3, { kvs: [] })));
  });

  test("an expiry takes all keys of the lease and no others", () => {
    expectRefused(
      "instead of",
      grant,
      attached,
      op([4, 5], put("b", "1"), at(3)),
      op([9, 10], read("b"), at(4, { kvs: [] })),
    );
  });

  test("a revoke that was answered has taken its keys", () => {
    expectRefused(
      "its keys are still there",
      grant,
      attached,
      op([4, 5], { kind: "revoke", lease: 7n }, at(2)),
    );
  });
});

test("what watchers saw must be what was written", () => {
  const operations = [op([0, 1], put("a", "1"), at(2))];
  const saw = (value: string) => new Map([[2, [{ type: "put" as const, kv: kv("a", value, 2) }]]]);
  expect(checkLinearizable(operations, { events: saw("1") })).toMatchObject({ ok: true });
  expect(checkLinearizable(operations, { events: saw("2") })).toMatchObject({ ok: false });
});
