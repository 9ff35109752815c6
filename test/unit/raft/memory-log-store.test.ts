/** raft: the log store in memory, in both of its modes, and what a crash of it loses. */
import { expect, test } from "vitest";
import { EMPTY } from "../../../shared/base/bytes.ts";
import type { LogStore } from "../../../shared/raft/log-store.ts";
import { MemoryLogStore } from "../../../shared/raft/memory-log-store.ts";
import type { Entry } from "../../../shared/raft/types.ts";
import { logStoreConformance } from "./log-store-conformance.ts";

function crash(store: LogStore): LogStore {
  return (store as MemoryLogStore).crash();
}

logStoreConformance("memory, durable at once", () => ({
  store: new MemoryLogStore(),
  settle: () => {},
  reopen: crash,
}));

logStoreConformance("memory, explicit flush", () => ({
  store: new MemoryLogStore({ flush: "explicit" }),
  settle: (store) => (store as MemoryLogStore).flush(),
  reopen: crash,
}));

function entry(index: number, term: number): Entry {
  return { index, term, kind: "normal", data: EMPTY };
}

test("a crash loses the writes that were not flushed, and only those", () => {
  const store = new MemoryLogStore({ flush: "explicit" });
  const durable: number[] = [];
  store.onDurable = (sequence) => durable.push(sequence);
  const write = { snapshot: undefined, hardState: undefined, mustSync: true };
  store.append({ ...write, sequence: 1, entries: [entry(1, 1), entry(2, 1)] });
  store.append({ ...write, sequence: 2, entries: [entry(2, 2)] });
  expect([store.lastIndex, store.termOf(2), store.pendingWrites]).toEqual([2, 2, 2]);
  store.flush(1);
  expect(durable).toEqual([1]);
  const restarted = store.crash();
  expect([restarted.lastIndex, restarted.termOf(2)]).toEqual([2, 1]);
});
