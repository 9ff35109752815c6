/** Apply: what each kind of entry does to the state, on every peer alike. */
import { beforeEach, describe, expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import { EMPTY, textOf, utf8 } from "../../../shared/base/bytes.ts";
import { createLessor } from "../../../shared/lease/backend-lessor.ts";
import { createStore } from "../../../shared/mvcc/mvcc-store.ts";
import type { OpResult } from "../../../shared/peer/services.ts";
import type { ApplyResult } from "../../../shared/peer/state/state-machine.ts";
import { StateMachine } from "../../../shared/peer/state/state-machine.ts";
import type { Command } from "../../../shared/wire/command.ts";
import { compare, deleteOp, putOp, rangeOp, texts, txnOp } from "./driven-cluster.ts";

let backend: MemoryBackend;
let state: StateMachine;

function open(): StateMachine {
  return new StateMachine({
    backend,
    store: createStore(backend),
    lessor: createLessor(backend),
  });
}

beforeEach(() => {
  backend = new MemoryBackend();
  state = open();
});

/** Applies commands as one batch of entries of this term. */
function applyAll(commands: readonly (Command | undefined)[], term = 1): ApplyResult[] {
  const entries = commands.map((_, position) => ({
    term,
    index: state.appliedIndex + 1 + position,
    kind: "normal" as const,
    data: EMPTY,
  }));
  return state.apply(entries, commands, 0);
}

function apply(command: Command, term = 1): ApplyResult {
  return applyAll([command], term)[0] as ApplyResult;
}

function resultOf<Kind extends OpResult["kind"]>(
  applied: ApplyResult,
  kind: Kind,
): OpResult & { kind: Kind } {
  if (applied.kind === "refused" || applied.result?.kind !== kind) {
    throw new Error(`no ${kind}: ${JSON.stringify(applied)}`);
  }
  return applied.result as OpResult & { kind: Kind };
}

function grant(id: bigint): void {
  expect(apply({ kind: "leaseGrant", id, ttlSeconds: 60 }).kind).toBe("applied");
}

function read(key: string): string | undefined {
  const kv = state.store.get(utf8(key));
  return kv === undefined ? undefined : textOf(kv.value);
}

const refusal = (code: string) => ({ kind: "refused", code });

describe("batches", () => {
  test("applied index, term and effects are one batch, and a restart finds them", () => {
    applyAll([undefined, putOp("a", "1"), putOp("b", "2")], 3);
    expect(state.appliedIndex).toBe(3);
    const again = open();
    expect([again.appliedIndex, again.appliedTerm, again.store.revision]).toEqual([3, 3, 3]);
  });

  test("a gap in the indexes is a broken invariant", () => {
    const entry = { term: 1, index: 5, kind: "normal" as const, data: EMPTY };
    expect(() => state.apply([entry], [undefined], 0)).toThrow("entry 5 where 1 is due");
  });

  test("watchers are told once the batch is visible, each revision once and in order", () => {
    const seen: string[] = [];
    state.store.watches.watch({
      key: utf8("a"),
      rangeEnd: utf8("c"),
      startRevision: 0,
      filters: { noPut: false, noDelete: false },
      sink: {
        deliver: (_watcher, batch) => {
          seen.push(`${batch.headerRevision}:${batch.events.map((e) => e.type).join(",")}`);
          expect(state.appliedIndex).toBe(3);
          return true;
        },
        compacted: () => {},
      },
    });
    const both = txnOp([], [putOp("a", "2"), deleteOp("b")]);
    applyAll([putOp("a", "1"), putOp("b", "1"), both]);
    expect(seen).toEqual(["2:put", "3:put", "4:put,delete"]);
  });
});

describe("put", () => {
  test("bumps revision and version even with an equal value, and returns what was there", () => {
    expect(apply(putOp("a", "1", { previousKv: true }))).toMatchObject({
      revision: 2,
      result: { kind: "put", previous: undefined },
    });
    const second = resultOf(apply(putOp("a", "1", { previousKv: true })), "put");
    expect(second.previous).toMatchObject({ version: 1, modRevision: 2 });
    expect(state.store.get(utf8("a"))).toMatchObject({ version: 2, modRevision: 3 });
  });

  test("version starts anew after a delete, and the creation is another", () => {
    applyAll([putOp("a", "1"), putOp("a", "2"), deleteOp("a"), putOp("a", "3")]);
    expect(state.store.get(utf8("a"))).toMatchObject({ version: 1, createRevision: 5 });
  });

  test("ignore_value and ignore_lease keep what is there, and need something there", () => {
    grant(7n);
    apply(putOp("a", "1", { lease: 7n }));
    apply(putOp("a", "", { ignoreValue: true, lease: 7n }));
    expect(state.store.get(utf8("a"))).toMatchObject({ version: 2, lease: 7n });
    expect(read("a")).toBe("1");
    apply(putOp("a", "2", { ignoreLease: true }));
    expect(state.store.get(utf8("a"))).toMatchObject({ version: 3, lease: 7n });
    for (const more of [{ ignoreValue: true }, { ignoreLease: true }]) {
      expect(apply(putOp("none", "", more))).toEqual(refusal("keyNotFound"));
    }
  });

  test("attaches to its lease, moves to another, and is detached by a put without one", () => {
    grant(7n);
    grant(8n);
    apply(putOp("a", "1", { lease: 7n }));
    expect(texts(state.lessor.attachedKeys(7n))).toEqual(["a"]);
    apply(putOp("a", "2", { lease: 8n }));
    expect([state.lessor.attachedKeys(7n).length, state.lessor.attachedKeys(8n).length]).toEqual([
      0, 1,
    ]);
    apply(putOp("a", "3"));
    expect(state.lessor.attachedKeys(8n)).toEqual([]);
  });

  test("refuses an unknown lease without any effect", () => {
    expect(apply(putOp("a", "1", { lease: 9n }))).toEqual(refusal("leaseNotFound"));
    expect(apply(putOp("a", "1", { lease: 9n, ignoreValue: true }))).toEqual(
      refusal("leaseNotFound"),
    );
    expect([state.store.revision, read("a")]).toEqual([1, undefined]);
  });
});

describe("deleteRange", () => {
  test("all tombstones share one revision; nothing deleted leaves the revision alone", () => {
    applyAll([putOp("a", "1"), putOp("b", "2"), putOp("c", "3")]);
    const result = resultOf(apply(deleteOp("a", "c", true)), "deleteRange");
    expect([result.deleted, result.revision]).toEqual([2, 5]);
    expect(texts(result.previous.map((kv) => kv.value))).toEqual(["1", "2"]);
    expect(apply(deleteOp("a", "c"))).toMatchObject({ revision: 5, result: { deleted: 0 } });
    expect(apply(deleteOp("c", "a"))).toMatchObject({ result: { deleted: 0 } });
    expect(apply(deleteOp("\0", "\0"))).toMatchObject({ revision: 6, result: { deleted: 1 } });
  });

  test("detaches from the lease", () => {
    grant(7n);
    apply(putOp("a", "1", { lease: 7n }));
    apply(deleteOp("a"));
    expect(state.lessor.attachedKeys(7n)).toEqual([]);
  });
});

describe("txn", () => {
  const ops = [putOp("then", "1")];
  const others = [putOp("else", "1")];
  const branch = (applied: ApplyResult) => resultOf(applied, "txn").succeeded;

  test.each([
    ["absent keys compare as zeros", compare("x", "version", "equal", 0n), true],
    ["absent keys are not greater than zero", compare("x", "mod", "greater", 0n), false],
    ["an absent value is never equal", compare("x", "value", "equal", ""), false],
    ["nor not equal", compare("x", "value", "notEqual", "v"), false],
    ["version", compare("k", "version", "equal", 2n), true],
    ["create", compare("k", "create", "less", 3n), true],
    ["mod", compare("k", "mod", "equal", 3n), true],
    ["value", compare("k", "value", "greater", "0"), true],
    ["lease", compare("k", "lease", "notEqual", 0n), false],
    ["numbers past 2^53 compare exactly", compare("k", "mod", "less", 2n ** 63n - 1n), true],
  ])("compares: %s", (_name, condition, succeeds) => {
    applyAll([putOp("k", "0"), putOp("k", "1")]);
    expect(branch(apply(txnOp([condition], ops, others)))).toBe(succeeds);
    expect(read(succeeds ? "then" : "else")).toBe("1");
  });

  test("a condition on a range must hold for every key; an empty range counts as absent", () => {
    applyAll([putOp("a1", "x"), putOp("a2", "x")]);
    const range = { ...compare("a", "value", "equal", "x"), rangeEnd: utf8("b") };
    expect(branch(apply(txnOp([range], [])))).toBe(true);
    apply(putOp("a2", "y"));
    expect(branch(apply(txnOp([range], [])))).toBe(false);
    const empty = { ...compare("z", "version", "equal", 0n), rangeEnd: utf8("zz") };
    expect(branch(apply(txnOp([empty], [])))).toBe(true);
  });

  test("nested conditions are decided before anything is written", () => {
    const nested = txnOp([compare("k", "version", "equal", 0n)], [putOp("n", "was absent")]);
    const result = resultOf(apply(txnOp([], [putOp("k", "1"), nested])), "txn");
    expect(result.results[1]).toMatchObject({ kind: "txn", succeeded: true });
    expect(read("n")).toBe("was absent");
  });

  test("one revision for all writes; reads see the writes before them", () => {
    apply(putOp("a", "old"));
    const txn = txnOp([], [rangeOp("a"), putOp("a", "new"), rangeOp("a"), deleteOp("a")]);
    const applied = apply(txn);
    expect(applied).toMatchObject({ revision: 3 });
    const { results } = resultOf(applied, "txn");
    expect(results.map((r) => (r.kind === "txn" ? undefined : r.revision))).toEqual([2, 3, 3, 3]);
    expect(results[0]).toMatchObject({ result: { kvs: [{ modRevision: 2 }] } });
    expect(results[2]).toMatchObject({ result: { kvs: [{ modRevision: 3 }] } });
    expect(read("a")).toBeUndefined();
  });

  test("nothing written leaves the revision alone", () => {
    expect(apply(txnOp([], [deleteOp("none"), rangeOp("none")]))).toMatchObject({ revision: 1 });
  });

  test.each([
    ["an unknown lease", putOp("b", "1", { lease: 5n }), "leaseNotFound"],
    ["ignore_value on nothing", putOp("b", "", { ignoreValue: true }), "keyNotFound"],
    ["a future revision", rangeOp("b", "", { revision: 99 }), "futureRev"],
    ["a compacted revision", rangeOp("b", "", { revision: 2 }), "compacted"],
    [
      "a negative revision, compared with the compacted one",
      rangeOp("b", "", { revision: -1 }),
      "compacted",
    ],
  ])("%s aborts the whole of it without effect", (_name, op, code) => {
    applyAll([putOp("x", "1"), putOp("x", "2"), { kind: "compact", revision: 3 }]);
    const inner = txnOp([], [putOp("inner", "1"), op]);
    expect(apply(txnOp([], [putOp("a", "1"), inner]))).toEqual(refusal(code));
    expect([read("a"), read("inner"), state.store.revision]).toEqual([undefined, undefined, 3]);
    const other = txnOp([compare("x", "version", "equal", 0n)], [op], [putOp("a", "2")]);
    expect(apply(other)).toMatchObject({ revision: 4 });
  });
});

describe("leases", () => {
  test("revoking deletes all its keys in one revision, in key order", () => {
    grant(7n);
    applyAll(["c", "a", "b"].map((key) => putOp(key, "v", { lease: 7n })));
    const seen: string[] = [];
    state.store.watches.watch({
      key: utf8("a"),
      rangeEnd: utf8("z"),
      startRevision: 0,
      filters: { noPut: false, noDelete: false },
      sink: {
        deliver: (_watcher, { events }) => {
          seen.push(...events.map((e) => `${e.type} ${textOf(e.kv.key)} ${e.kv.modRevision}`));
          return true;
        },
        compacted: () => {},
      },
    });
    expect(apply({ kind: "leaseRevoke", ids: [7n], term: undefined })).toMatchObject({
      revision: 5,
    });
    expect(seen).toEqual(["delete a 5", "delete b 5", "delete c 5"]);
    expect(apply({ kind: "leaseRevoke", ids: [7n], term: undefined })).toEqual(
      refusal("leaseNotFound"),
    );
  });

  test("an expiry decided in another term is dropped; one of this term counts", () => {
    grant(7n);
    apply(putOp("a", "v", { lease: 7n }));
    apply({ kind: "leaseRevoke", ids: [7n], term: 1 }, 2);
    expect(read("a")).toBe("v");
    apply({ kind: "leaseRevoke", ids: [6n, 7n], term: 2 }, 2);
    expect(read("a")).toBeUndefined();
    expect(state.lessor.lookup(7n)).toBeUndefined();
  });

  test("an id can't be granted twice; neither grant nor revoke bumps the revision", () => {
    grant(7n);
    expect(apply({ kind: "leaseGrant", id: 7n, ttlSeconds: 5 })).toEqual(refusal("leaseExist"));
    expect(apply({ kind: "leaseRevoke", ids: [7n], term: undefined })).toMatchObject({
      revision: 1,
    });
  });
});

describe("compaction and alarms", () => {
  test("compacting at or below the compacted revision, or past the current one, is refused", () => {
    applyAll([putOp("a", "1"), putOp("a", "2")]);
    expect(apply({ kind: "compact", revision: 2 }).kind).toBe("applied");
    expect(apply({ kind: "compact", revision: 2 })).toEqual(refusal("compacted"));
    expect(apply({ kind: "compact", revision: 9 })).toEqual(refusal("futureRev"));
  });

  const alarm = (kind: "nospace" | "corrupt", action: "activate" | "deactivate", member = 1n) =>
    apply({ kind: "alarm", alarm: kind, action, member });

  test("NOSPACE blocks what grows until every member's alarm is disarmed, also after a restart", () => {
    grant(7n);
    alarm("nospace", "activate", 1n);
    alarm("nospace", "activate", 2n);
    state = open();
    expect(apply(putOp("a", "1"))).toEqual(refusal("noSpace"));
    expect(apply({ kind: "leaseGrant", id: 8n, ttlSeconds: 5 })).toEqual(refusal("noSpace"));
    const hidden = txnOp([], [], [txnOp([], [putOp("a", "1")])]);
    expect(apply(hidden)).toEqual(refusal("noSpace"));
    const allowed: Command[] = [
      deleteOp("a"),
      txnOp([], [deleteOp("a")]),
      { kind: "compact", revision: 1 },
      { kind: "leaseRevoke", ids: [7n], term: undefined },
    ];
    for (const command of allowed) expect(apply(command).kind).toBe("applied");
    alarm("nospace", "deactivate", 1n);
    expect(apply(putOp("a", "1"))).toEqual(refusal("noSpace"));
    alarm("nospace", "deactivate", 2n);
    expect(apply(putOp("a", "1")).kind).toBe("applied");
  });

  test("CORRUPT blocks all writes", () => {
    alarm("corrupt", "activate");
    const blocked: Command[] = [
      putOp("a", "1"),
      deleteOp("a"),
      txnOp([], []),
      { kind: "compact", revision: 1 },
      { kind: "leaseGrant", id: 8n, ttlSeconds: 5 },
      { kind: "leaseRevoke", ids: [8n], term: undefined },
    ];
    for (const command of blocked) expect(apply(command)).toEqual(refusal("corrupt"));
  });
});
