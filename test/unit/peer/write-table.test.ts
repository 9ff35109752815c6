/** peer/state/write-table: retried writes apply once, through evictions, restarts and snapshots. */
import { describe, expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import { utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { Prng } from "../../../shared/base/prng.ts";
import { createLessor } from "../../../shared/lease/backend-lessor.ts";
import { createStore } from "../../../shared/mvcc/mvcc-store.ts";
import { decodeChunk, encodeRows } from "../../../shared/peer/state/snapshot-format.ts";
import { StateMachine } from "../../../shared/peer/state/state-machine.ts";
import type { ApplyResult } from "../../../shared/peer/state/state-machine.ts";
import type { WriteTableBounds } from "../../../shared/peer/state/write-table.ts";
import { encodeCommand } from "../../../shared/wire/command-codec.ts";
import type { Command, WriteIdentity } from "../../../shared/wire/command.ts";
import { compare, deleteOp, putOp, rangeOp, txnOp } from "./driven-cluster.ts";

const ROOMY: WriteTableBounds = { rowsMax: 100, bytesMax: 1_000_000 };
const NARROW: WriteTableBounds = { rowsMax: 2, bytesMax: 1_000_000 };

function open(backend = new MemoryBackend(), writeBounds = ROOMY): StateMachine {
  const store = createStore(backend);
  return new StateMachine({ backend, store, lessor: createLessor(backend), writeBounds });
}

const identity = (client: string, sequence: number, floor = 0): WriteIdentity => ({
  client: utf8(client),
  sequence,
  floor,
});

function apply(state: StateMachine, command: Command, id?: WriteIdentity): ApplyResult {
  const data = encodeCommand({ request: undefined, identity: id, command });
  const index = state.appliedIndex + 1;
  const entry = { term: 1, index, kind: "normal" as const, data };
  return state.apply([entry], [command], 0)[0] as ApplyResult;
}

const versionOf = (state: StateMachine, key: string): number =>
  state.store.get(utf8(key))?.version ?? 0;

const FORGOTTEN = { kind: "refused", code: "writeForgotten" };

describe("a write that arrives again", () => {
  test("applies once and has the first outcome, revision and result", () => {
    const state = open();
    apply(state, putOp("a", "0"));
    const first = apply(state, putOp("a", "1", { previousKv: true }), identity("c", 1));
    apply(state, putOp("a", "2"));
    const again = apply(state, putOp("a", "1", { previousKv: true }), identity("c", 1));
    expect(again).toEqual(first);
    expect(again).toMatchObject({ revision: 3, result: { previous: { value: utf8("0") } } });
    expect(versionOf(state, "a")).toBe(3);
  });

  test("negative control: without its identity it applies twice", () => {
    const state = open();
    apply(state, putOp("a", "1"));
    apply(state, putOp("a", "1"));
    expect(versionOf(state, "a")).toBe(2);
  });

  test.each<[string, Command]>([
    ["a delete", deleteOp("k")],
    [
      "a transaction",
      txnOp(
        [compare("k", "version", "equal", 1n)],
        [putOp("k", "2"), rangeOp("k"), txnOp([], [deleteOp("x")])],
        [rangeOp("k")],
      ),
    ],
    ["a grant", { kind: "leaseGrant", id: 7n, ttlSeconds: 60 }],
    ["a refused put", putOp("k", "2", { lease: 99n })],
    ["a compaction", { kind: "compact", revision: 2 }],
  ])("%s answers the same, and changes nothing", (_, command) => {
    const state = open();
    apply(state, putOp("k", "1"));
    const first = apply(state, command, identity("c", 1));
    const { revision } = state.store;
    expect(apply(state, command, identity("c", 1))).toEqual(first);
    expect(state.store.revision).toBe(revision);
  });

  test("of an earlier sequence than its client's newest is never applied", () => {
    const state = open();
    apply(state, putOp("a", "1"), identity("c", 2));
    expect(apply(state, putOp("a", "late"), identity("c", 1))).toEqual(FORGOTTEN);
    expect(versionOf(state, "a")).toBe(1);
  });

  test("whose outcome was too large to keep is unknown, and not applied again", () => {
    const state = open();
    apply(state, putOp("a", "x".repeat(LIMITS.dedupOutcomeBytesMax)));
    const put = putOp("a", "1", { previousKv: true });
    expect(apply(state, put, identity("c", 1)).kind).toBe("applied");
    expect(apply(state, put, identity("c", 1))).toEqual(FORGOTTEN);
    expect(versionOf(state, "a")).toBe(2);
  });
});

describe("bounds", () => {
  test("the worked example of the file's header", () => {
    const state = open(new MemoryBackend(), NARROW);
    for (let index = 1; index <= 4; index += 1) apply(state, putOp("other", "v"));
    const kinds = [
      apply(state, putOp("a", "1"), identity("a", 1, 4)),
      apply(state, putOp("a", "1"), identity("a", 1, 4)),
      apply(state, putOp("b", "1"), identity("b", 1, 6)),
      apply(state, putOp("c", "1"), identity("c", 1, 6)),
      apply(state, putOp("a", "1"), identity("a", 1, 4)),
    ].map(({ kind }) => kind);
    expect(kinds).toEqual(["applied", "applied", "applied", "applied", "refused"]);
    expect([state.writes.floor, state.writes.rowCount, versionOf(state, "a")]).toEqual([5, 2, 1]);
    expect(apply(state, putOp("a", "2"), identity("a", 2, 9)).kind).toBe("applied");
  });

  test("a client that goes on writing keeps one row, which is the youngest", () => {
    const state = open(new MemoryBackend(), NARROW);
    for (let sequence = 1; sequence <= 5; sequence += 1) {
      apply(state, putOp("a", "v"), identity("busy", sequence));
    }
    apply(state, putOp("b", "v"), identity("other", 1));
    expect([state.writes.rowCount, state.writes.floor]).toEqual([2, 0]);
  });

  test("bytes count outcomes too, and stay below their bound", () => {
    const state = open(new MemoryBackend(), { rowsMax: 1000, bytesMax: 10_000 });
    apply(state, putOp("a", "x".repeat(1000)));
    for (let client = 0; client < 50; client += 1) {
      const put = putOp("a", "x".repeat(1000), { previousKv: true });
      apply(state, put, identity(`client ${client}`, 1, state.appliedIndex));
      expect(state.writes.byteCount).toBeLessThanOrEqual(10_000);
    }
    expect(state.writes.rowCount).toBeGreaterThan(4);
    expect(state.writes.rowCount).toBeLessThan(11);
  });
});

describe("a restart and a snapshot keep it whole", () => {
  /** The rows of a state, as a snapshot carries them, in a store of their own. */
  function copyOf(backend: MemoryBackend): MemoryBackend {
    const view = backend.pin();
    const copy = new MemoryBackend();
    for (const bytes of encodeRows(view)) {
      const chunk = decodeChunk(bytes);
      if (chunk.kind !== "rows") throw new Error("rows alone were encoded");
      copy.apply(view.index, (to) => {
        for (const [key, value] of chunk.rows) to.put(chunk.table, key, value);
      });
    }
    view.release();
    return copy;
  }

  test.each([1, 2, 3, 4, 5])("a model of all writes agrees after every step (seed %d)", (seed) => {
    const prng = new Prng(seed);
    let backend = new MemoryBackend();
    let state = open(backend, NARROW);
    const sent: { id: WriteIdentity; applied: number; outcome?: ApplyResult }[] = [];
    const next = new Map<string, number>();
    for (let step = 0; step < 400; step += 1) {
      const choice = prng.below(10);
      if (choice === 0) {
        if (prng.below(2) === 0) backend = copyOf(backend);
        state = open(backend, NARROW);
        continue;
      }
      const old = sent[sent.length - 1 - prng.below(Math.max(1, Math.min(sent.length, 6)))];
      let write = choice < 5 ? old : undefined;
      if (write === undefined) {
        const client = `client ${prng.below(4)}`;
        const sequence = (next.get(client) ?? 0) + 1;
        next.set(client, sequence);
        const behind = prng.below(3);
        const floor = Math.max(0, state.appliedIndex - behind);
        write = { id: identity(client, sequence, floor), applied: 0 };
        sent.push(write);
      }
      const { revision } = state.store;
      const outcome = apply(state, putOp("key", `${step}`), write.id);
      const applied = state.store.revision > revision;
      if (applied) {
        write.applied += 1;
        write.outcome = outcome;
      } else if (outcome.kind === "applied") {
        expect(outcome).toEqual(write.outcome);
      }
      expect(write.applied).toBeLessThanOrEqual(1);
      expect(outcome.kind === "refused" ? outcome : undefined).toEqual(
        outcome.kind === "refused" ? FORGOTTEN : undefined,
      );
      expect(state.writes.rowCount).toBeLessThanOrEqual(2);
    }
    const count = sent.filter((write) => write.applied === 1).length;
    expect(versionOf(state, "key")).toBe(count);
    expect(count).toBeGreaterThan(50);
  });

  test("rows and floor come back as they were", () => {
    const backend = new MemoryBackend();
    const state = open(backend, NARROW);
    for (const client of ["a", "b", "c"]) apply(state, putOp("k", client), identity(client, 1));
    for (const again of [open(backend, NARROW), open(copyOf(backend), NARROW)]) {
      expect([again.writes.floor, again.writes.rowCount]).toEqual([1, 2]);
      expect(again.writes.byteCount).toBe(state.writes.byteCount);
      expect(apply(again, putOp("k", "c"), identity("c", 1)).kind).toBe("applied");
      expect(versionOf(again, "k")).toBe(3);
      expect(again.writes.recall(identity("a", 1))).toEqual({ kind: "forgotten" });
    }
  });
});
