/**
 * The promises of `shared/backend/backend.ts`, a test for each. Every backend runs them in one
 * line:
 *
 *     backendConformance("memory", async () => ({ backend: new MemoryBackend() }));
 *
 * `open` makes a new, empty store for each test; the suite closes it. `reopen` (stores that outlive
 * a process) closes the backend it is given, gracefully, and opens the same store again; without it
 * the tests of durability don't run.
 */
import { afterEach, describe } from "vitest";
import { applies } from "./applies.ts";
import { durability } from "./durability.ts";
import { orderAndRanges } from "./order-and-ranges.ts";
import { pins } from "./pins.ts";
import { randomRuns } from "./random-run.ts";
import { readsAndWrites } from "./reads-and-writes.ts";
import { shadows } from "./shadows.ts";
import { StoreUnderTest } from "./store-under-test.ts";
import type { OpenedBackend } from "./store-under-test.ts";

export function backendConformance(name: string, open: () => Promise<OpenedBackend>): void {
  describe(`${name} backend`, () => {
    const store = new StoreUnderTest(open);
    afterEach(() => store.end());
    readsAndWrites(store);
    orderAndRanges(store);
    applies(store);
    pins(store);
    shadows(store);
    durability(store);
    randomRuns(store);
  });
}
