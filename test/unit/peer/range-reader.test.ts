/** Ranges in steps: other work runs in between, and a state that is replaced meanwhile is never mixed with it. */
import { expect, test } from "vitest";
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import { createLessor } from "../../../shared/lease/backend-lessor.ts";
import { createStore } from "../../../shared/mvcc/mvcc-store.ts";
import type { Cursor } from "../../../shared/mvcc/store.ts";
import type { Host } from "../../../shared/peer/host.ts";
import { runCursor } from "../../../shared/peer/service/range-reader.ts";
import { StateMachine } from "../../../shared/peer/state/state-machine.ts";

class CountingCursor implements Cursor<string> {
  steps = 0;
  closed = 0;
  readonly #needed: number;

  constructor(needed: number) {
    this.#needed = needed;
  }

  advance(): boolean {
    this.steps += 1;
    return this.steps >= this.#needed;
  }

  result(): string {
    return "all";
  }

  close(): void {
    this.closed += 1;
  }
}

function open() {
  const backend = new MemoryBackend();
  const store = createStore(backend);
  const state = new StateMachine({ backend, store, lessor: createLessor(backend) });
  const turns: (() => void)[] = [];
  const host = { defer: (callback: () => void) => turns.push(callback) } as unknown as Host;
  return { state, turns, host };
}

test("what fits one step is answered at once", () => {
  const { state, turns, host } = open();
  const cursor = new CountingCursor(1);
  expect(runCursor(cursor, state, host)).toBe("all");
  expect([cursor.closed, turns.length]).toEqual([1, 0]);
});

test("more steps take one turn each", async () => {
  const { state, turns, host } = open();
  const cursor = new CountingCursor(3);
  const result = runCursor(cursor, state, host);
  for (let turn = 0; turn < 2; turn += 1) turns.shift()?.();
  expect(await result).toBe("all");
  expect([cursor.steps, cursor.closed, turns.length]).toEqual([3, 1, 0]);
});

test("a state that is replaced in between fails the read, which can be tried again", async () => {
  const { state, turns, host } = open();
  const cursor = new CountingCursor(3);
  const result = Promise.resolve(runCursor(cursor, state, host));
  state.reload(0);
  turns.shift()?.();
  await expect(result).rejects.toMatchObject({ code: "leaderChanged", retryable: true });
  expect([cursor.steps, cursor.closed]).toEqual([1, 1]);
});
