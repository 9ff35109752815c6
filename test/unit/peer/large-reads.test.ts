/**
 * Reads that take several steps, with writes in between: what they answer is one moment, and their
 * header says which.
 */
import { beforeAll, expect, test } from "vitest";
import { utf8 } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { wholeRange } from "../../../shared/mvcc/types.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import { deleteOp, put, putOp, rangeOp, startDriven, txnOp } from "./driven-cluster.ts";
import type { Driven } from "./driven-cluster.ts";

const KEYS = 2 * LIMITS.stretchRowsMax + 7;
const PORTION = 128;

let driven: Driven;

beforeAll(async () => {
  driven = await startDriven();
  const { kv } = driven.cluster.member(0).peer.services;
  for (let at = 0; at < KEYS; at += PORTION) {
    const puts = Array.from({ length: Math.min(PORTION, KEYS - at) }, (_, offset) =>
      putOp(`k${String(at + offset).padStart(6, "0")}`, "v"),
    );
    await driven.settled(kv.txn(txnOp([], puts), { serializable: false }, PATIENT_CALL));
  }
});

/** Writes while the answer is awaited; returns it with the revision at which it was asked for. */
async function amongWrites<Answer>(ask: () => Promise<Answer>) {
  const member = driven.cluster.member(0);
  const { header } = await driven.settled(put(member, "k-before", "1"));
  const state = { answered: false };
  const answer = ask().finally(() => {
    state.answered = true;
  });
  let writes = 0;
  const writing = (async () => {
    while (!state.answered) {
      await put(member, `k-during-${writes}`, "1");
      writes += 1;
    }
  })();
  const result = await driven.settled(answer);
  await driven.settled(writing);
  expect(writes).toBeGreaterThan(1);
  await driven.settled(member.peer.services.kv.deleteRange(deleteOp("k-", "k0"), PATIENT_CALL));
  return { result, revision: header.revision };
}

test("a range is of its header's revision: a watch from the next one on misses nothing", async () => {
  const { kv } = driven.cluster.member(0).peer.services;
  const query = { ...wholeRange(utf8("k"), utf8("l")), keysOnly: true };
  const { result, revision } = await amongWrites(() =>
    kv.range(query, { serializable: true }, PATIENT_CALL),
  );
  expect(result.count).toBe(KEYS + 1);
  expect(result.header.revision).toBe(revision);
  expect(Math.max(...result.kvs.map((each) => each.modRevision))).toBe(revision);
});

test("a transaction of ranges yields to others, and all of it is one moment", async () => {
  const { kv } = driven.cluster.member(0).peer.services;
  const whole = rangeOp("k", "l", { countOnly: true });
  const point = rangeOp("k-before");
  const old = rangeOp("k", "l", { countOnly: true, revision: 2 });
  const { result, revision } = await amongWrites(() =>
    kv.txn(txnOp([], [whole, point, whole, old]), { serializable: true }, PATIENT_CALL),
  );
  expect(result.header.revision).toBe(revision);
  const counts = result.results.map((each) => each.kind === "range" && each.result.count);
  expect(counts).toEqual([KEYS + 1, 1, KEYS + 1, PORTION]);
  expect(result.results.every((each) => each.kind === "range" && each.revision === revision)).toBe(
    true,
  );
});

test("a refused range refuses the whole transaction before anything is read", async () => {
  const { kv } = driven.cluster.member(0).peer.services;
  const future = rangeOp("k", "l", { revision: 1_000_000 });
  const refused = kv.txn(
    txnOp([], [rangeOp("k", "l"), future]),
    { serializable: true },
    PATIENT_CALL,
  );
  await expect(driven.settled(refused)).rejects.toMatchObject({ code: "futureRev" });
});
