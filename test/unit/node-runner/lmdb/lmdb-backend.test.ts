/**
 * node-runner/lmdb: the promises of every backend, and what is LMDB's own: committed long keys, the
 * log's limit.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { NodeFiles } from "../../../../node-runner/files/node-files.ts";
import { LmdbBackend } from "../../../../node-runner/lmdb/lmdb-backend.ts";
import { CHUNK_BYTES } from "../../../../node-runner/lmdb/long-keys.ts";
import type { ScanOptions } from "../../../../shared/backend/backend.ts";
import { EMPTY, compareBytes, hexOf, utf8 } from "../../../../shared/base/bytes.ts";
import type { Bytes } from "../../../../shared/base/bytes.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { Prng } from "../../../../shared/base/prng.ts";
import { backendConformance } from "../../backend/conformance/conformance.ts";

const files = new NodeFiles();

function makeDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), "quorate-lmdb-"));
}

backendConformance("LMDB", async () => {
  const directory = await makeDirectory();
  return {
    backend: LmdbBackend.open({ files, directory }),
    reopen: async (backend) => {
      await backend.close();
      return LmdbBackend.open({ files, directory });
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
});

async function flushed(backend: LmdbBackend): Promise<void> {
  backend.flush();
  await expect.poll(() => backend.durableIndex, { interval: 1 }).toBe(backend.visibleIndex);
}

describe("LMDB backend's own", () => {
  let directory = "";
  let backend: LmdbBackend | undefined;

  async function start(options: { commitLimit?: () => number } = {}): Promise<LmdbBackend> {
    await backend?.close();
    if (directory === "") directory = await makeDirectory();
    backend = LmdbBackend.open({ files, directory, ...options });
    return backend;
  }

  afterEach(async () => {
    await backend?.close();
    backend = undefined;
    await rm(directory, { recursive: true, force: true });
    directory = "";
  });

  /** Keys around the length at which chunks begin, which share prefixes. */
  function randomKey(prng: Prng): Bytes {
    const lead = prng.pick([0, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 200, 2 * CHUNK_BYTES]);
    const tail = Array.from({ length: prng.between(1, 3) }, () => prng.pick([0, 1, 0x61, 0xff]));
    return Uint8Array.from([...Array.from({ length: lead }, () => 0x61), ...tail]);
  }

  test("committed long keys agree with a sorted array, while they come and go", async () => {
    const seed = Number(process.env["SEED"] ?? 11);
    const replay = `seed ${seed}; replay: SEED=${seed} npx vitest run --project unit -t committed`;
    const prng = new Prng(seed);
    const store = await start();
    const model = new Map<string, Bytes>();
    for (let round = 1; round <= 25; round += 1) {
      store.apply(round, (writer) => {
        for (let count = prng.between(1, 8); count > 0; count -= 1) {
          const stored = [...model.values()];
          if (stored.length > 0 && prng.chance(0.5)) {
            const key = prng.pick(stored);
            model.delete(hexOf(key));
            writer.delete("key", key);
          } else {
            const key = randomKey(prng);
            model.set(hexOf(key), key);
            writer.put("key", key, utf8(String(round)));
          }
        }
      });
      await flushed(store);
      for (let count = 0; count < 10; count += 1) {
        const options: ScanOptions = {
          start: prng.chance(0.6) ? randomKey(prng) : undefined,
          end: prng.chance(0.6) ? randomKey(prng) : undefined,
          reverse: prng.chance(0.5),
        };
        const { start, end } = options;
        const expected = [...model.values()]
          .filter((key) => start === undefined || compareBytes(key, start) >= 0)
          .filter((key) => end === undefined || compareBytes(key, end) < 0)
          .sort(compareBytes);
        if (options.reverse === true) expected.reverse();
        const found: string[] = [];
        store.scan("key", options, (key) => found.push(hexOf(key)) > 0);
        expect(found, replay).toEqual(expected.map(hexOf));
      }
    }
  });

  test("deleted long keys leave no row behind", async () => {
    const store = await start();
    const before = store.sizes().inUseBytes;
    const keys = [1, 2, 3].map((last) => new Uint8Array(100_000).fill(last, 99_000));
    store.apply(1, (writer) => {
      for (const key of keys) writer.put("key", key, EMPTY);
    });
    await flushed(store);
    expect(store.sizes().inUseBytes).toBeGreaterThan(before + 100_000);
    store.apply(2, (writer) => writer.delete("key", keys[0] as Bytes));
    await flushed(store);
    expect(store.get("key", keys[1] as Bytes)).toEqual(EMPTY);
    store.apply(3, (writer) => {
      for (const key of keys.slice(1)) writer.delete("key", key);
    });
    await flushed(store);
    // Rows are gone; LMDB's own list of free pages may have grown by a few pages.
    expect(store.sizes().inUseBytes).toBeLessThan(before + 40_000);
  });

  test("nothing is committed above the log's durable index, nor lost when it follows", async () => {
    let limit = 1;
    const store = await start({ commitLimit: () => limit });
    store.apply(1, (writer) => writer.put("key", utf8("a"), EMPTY));
    await flushed(store);
    store.apply(2, (writer) => writer.put("key", utf8("b"), EMPTY));
    store.flush();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(store.durableIndex).toBe(1);
    expect(store.get("key", utf8("b"))).toEqual(EMPTY);
    limit = 2;
    await expect.poll(() => store.durableIndex, { interval: 1 }).toBe(2);
  });

  test("what the log never had durable is not there after a restart", async () => {
    const store = await start({ commitLimit: () => 1 });
    store.apply(1, (writer) => writer.put("key", utf8("a"), EMPTY));
    await flushed(store);
    store.apply(2, (writer) => writer.put("key", utf8("b"), EMPTY));
    const again = await start();
    expect(again.visibleIndex).toBe(1);
    expect(again.get("key", utf8("b"))).toBeUndefined();
  });

  test("rows that wait for the log make it congested, and not once they are committed", async () => {
    let limit = 0;
    const store = await start({ commitLimit: () => limit });
    const rows = LIMITS.backendPendingRowsMax;
    store.apply(1, (writer) => {
      for (let row = 0; row <= rows; row += 1) writer.put("key", utf8(`k${row}`), EMPTY);
    });
    expect(store.congested).toBe(true);
    limit = 1;
    await flushed(store);
    expect(store.congested).toBe(false);
  });

  test("bytes that are handed out are plain arrays of their own", async () => {
    const store = await start();
    store.apply(1, (writer) => writer.put("key", utf8("a"), utf8("value")));
    await flushed(store);
    const value = store.get("key", utf8("a")) as Bytes;
    store.get("key", utf8("b"));
    expect(value.constructor).toBe(Uint8Array);
    expect(value).toEqual(utf8("value"));
    store.scan("key", {}, (key, value) => {
      expect([key.constructor, value.constructor]).toEqual([Uint8Array, Uint8Array]);
      return true;
    });
  });
});
