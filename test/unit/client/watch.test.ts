/** client watches: order, resumption over broken links, compaction, and a reader that lags. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { LIMITS } from "../../../shared/base/limits.ts";
import { CompactedError, connect, put } from "../../../shared/client/index.ts";
import type { Store, WatchEvent } from "../../../shared/client/index.ts";
import { Endpoint, memoryPlatform } from "../../support/memory-link.ts";
import { MemoryServices } from "../../support/memory-services.ts";

let services: MemoryServices;
let a: Endpoint;
let b: Endpoint;
let store: Store<string>;

beforeEach(() => {
  services = new MemoryServices();
  a = new Endpoint(services);
  b = new Endpoint(services);
  store = connect({
    endpoints: ["http://a", "http://b"],
    platform: memoryPlatform({ "http://a": a, "http://b": b }),
    timeoutMilliseconds: 10_000,
  });
});
afterEach(() => store.close());

/** The next `count` events. */
async function take(
  watch: AsyncIterable<WatchEvent<string>>,
  count: number,
): Promise<WatchEvent<string>[]> {
  const events: WatchEvent<string>[] = [];
  for await (const event of watch) {
    events.push(event);
    if (events.length === count) break;
  }
  return events;
}

test("delivers what comes after its creation, with previous values when asked", async () => {
  const watch = store.watch({ prefix: "k" }, { previous: true });
  await watch.ready;
  await store.put("k1", "one");
  await store.put("other", "x");
  await store.put("k1", "two");
  await store.delete("k1");
  const events = await take(watch, 3);
  expect(events.map(({ type, key, revision }) => [type, key, revision])).toEqual([
    ["put", "k1", 2],
    ["put", "k1", 4],
    ["delete", "k1", 5],
  ]);
  expect(events.map((event) => event.previous?.value)).toEqual([undefined, "one", "two"]);
  await expect.poll(() => services.openStreams).toBe(0);
});

test("replays history from a revision, filtered", async () => {
  await store.put("k", "1");
  await store.delete("k");
  await store.put("k", "2");
  const events = await take(store.watch("k", { fromRevision: 2, only: "put" }), 2);
  expect(events.map((event) => event.entry.value)).toEqual(["1", "2"]);
});

test("resumes after cut links: each revision once and in order", async () => {
  const watch = store.watch({ prefix: "k" });
  await watch.ready;
  const taking = take(watch, 60);
  for (let n = 0; n < 20; n += 1) {
    // One revision with three events: they stay together.
    await store.txn({ do: [put("k1", `${n}`), put("k2", `${n}`), put("k3", `${n}`)] });
    if (n % 4 === 1) (n % 8 === 1 ? a : b).cutAll();
  }
  const events = await taking;
  expect(events.map((event) => event.entry.value)).toEqual(
    Array.from({ length: 60 }, (_, n) => `${Math.floor(n / 3)}`),
  );
});

test("misses nothing when the link is cut before the first event", async () => {
  const watch = store.watch("k");
  await watch.ready;
  a.cutAll();
  b.cutAll();
  services.kv
    .put(
      {
        kind: "put",
        key: new TextEncoder().encode("k"),
        value: new TextEncoder().encode("between"),
        lease: 0n,
        previousKv: false,
        ignoreValue: false,
        ignoreLease: false,
      },
      { timeoutMilliseconds: undefined, requireLeader: false, onCancel: () => undefined },
    )
    .catch(() => undefined);
  const [event] = await take(watch, 1);
  expect(event?.entry.value).toBe("between");
});

test("ends with CompactedError, which names the oldest revision left", async () => {
  for (let n = 0; n < 5; n += 1) await store.put("k", `${n}`);
  await store.compact(4);
  const error: unknown = await take(store.watch("k", { fromRevision: 2 }), 1).catch(
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CompactedError);
  expect(error).toMatchObject({ compactRevision: 4, code: "compacted" });
});

test("a reader that lags makes the watch rest, then gets all of it", async () => {
  const watch = store.watch("k");
  await watch.ready;
  const value = "x".repeat(1024 * 1024);
  const count = Math.ceil(LIMITS.clientWatchBytesMax / value.length) + 4;
  for (let n = 0; n < count; n += 1) await store.put("k", value);
  await expect.poll(() => services.openStreams).toBe(0);
  const events = await take(watch, count);
  expect(events.map((event) => event.revision)).toEqual(
    Array.from({ length: count }, (_, n) => n + 2),
  );
});

test("ends on its signal, and on close, without an error", async () => {
  const aborter = new AbortController();
  const watch = store.watch("k", { signal: aborter.signal });
  await watch.ready;
  const taking = take(watch, 1);
  aborter.abort();
  expect(await taking).toEqual([]);
  const closed = store.watch("k");
  closed.close();
  expect(await take(closed, 1)).toEqual([]);
});
