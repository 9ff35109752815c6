/** Work in steps over a state that is pinned meanwhile, as the cursor that a store hands out. */
import type { Backend, BackendReader } from "../backend/backend.ts";
import type { Cursor, StepBudget } from "./store.ts";

interface Work<Result> {
  advance(budget: StepBudget): boolean;
  result(): Result;
}

/** Pins the backend until the cursor is closed; `work` begins on what is pinned. */
export function openCursor<Result>(
  backend: Backend,
  work: (reader: BackendReader) => Work<Result>,
): Cursor<Result> {
  const pin = backend.pin();
  const pinned = work(pin);
  return {
    advance: (budget) => pinned.advance(budget),
    result: () => pinned.result(),
    close: () => pin.release(),
  };
}
