/** Defragmentation of the LMDB backend: a smaller file, while reads, writes, pins and installs go on. */
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { NodeFiles } from "../../../../node-runner/files/node-files.ts";
import { Environment } from "../../../../node-runner/lmdb/environment.ts";
import { LmdbBackend } from "../../../../node-runner/lmdb/lmdb-backend.ts";
import { CHUNK_BYTES } from "../../../../node-runner/lmdb/long-keys.ts";
import { BackendError } from "../../../../shared/backend/backend.ts";
import { EMPTY, utf8 } from "../../../../shared/base/bytes.ts";
import type { Bytes } from "../../../../shared/base/bytes.ts";

let directory = "";
let backend: LmdbBackend;

/** Fails the next sync of the folder, which is the last step of a switch. */
class FaultyFiles extends NodeFiles {
  failing = false;
  override syncDirectory(path: string): void {
    if (this.failing) throw Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
    super.syncDirectory(path);
  }
}

const files = new FaultyFiles();

beforeEach(async () => {
  files.failing = false;
  directory = await mkdtemp(join(tmpdir(), "quorate-defragment-"));
  backend = LmdbBackend.open({ files, directory });
});

afterEach(async () => {
  await backend.close();
  await rm(directory, { recursive: true, force: true });
});

async function flushed(): Promise<void> {
  backend.flush();
  await expect.poll(() => backend.durableIndex, { interval: 1 }).toBe(backend.visibleIndex);
}

async function fileBytes(): Promise<number> {
  const generations = (await readdir(directory)).filter((name) => /^\d+$/.test(name));
  const sizes = generations.map((name) => stat(join(directory, name, "data.mdb")));
  return (await Promise.all(sizes)).reduce((sum, { size }) => sum + size, 0);
}

function keyOf(number: number): Bytes {
  return utf8(`key${String(number).padStart(8, "0")}`);
}

function put(from: number, count: number, value: Bytes): void {
  backend.apply(backend.visibleIndex + 1, (writer) => {
    for (let row = from; row < from + count; row += 1) writer.put("key", keyOf(row), value);
  });
}

function rowCount(): number {
  let rows = 0;
  backend.scan("key", { keysOnly: true }, () => {
    rows += 1;
    return true;
  });
  return rows;
}

/** 2000 rows of 2 KiB, all but the last 100 deleted again. */
async function fillAndEmpty(): Promise<void> {
  put(0, 2000, new Uint8Array(2048).fill(7));
  await flushed();
  backend.apply(backend.visibleIndex + 1, (writer) => {
    for (let row = 0; row < 1900; row += 1) writer.delete("key", keyOf(row));
  });
  await flushed();
}

test("the file gets smaller, the content stays, and the old file is gone", async () => {
  await fillAndEmpty();
  const before = await fileBytes();
  const index = backend.visibleIndex;
  expect(backend.sizes().inUseBytes).toBeLessThan(backend.sizes().totalBytes / 4);
  await backend.defragment();
  await expect.poll(fileBytes).toBeLessThan(before / 4);
  expect(backend.sizes().totalBytes).toBeLessThan(before / 4);
  expect([backend.visibleIndex, backend.durableIndex]).toEqual([index, index]);
  expect(rowCount()).toBe(100);
  await backend.close();
  backend = LmdbBackend.open({ files, directory });
  expect(backend.visibleIndex).toBe(index);
  expect(rowCount()).toBe(100);
  expect(backend.get("key", keyOf(1950))?.length).toBe(2048);
});

// More than 250 changed pages at once aborted the process, and each start of the member from then on.
test("the first commit behind it may change a thousand pages, in this process and in the next", async () => {
  const rows = 4000;
  put(0, rows, new Uint8Array(1000).fill(1));
  await flushed();
  for (const fill of [2, 3]) {
    await backend.defragment();
    if (fill === 3) {
      await backend.close();
      backend = LmdbBackend.open({ files, directory });
    }
    put(0, rows, new Uint8Array(1000).fill(fill));
    await flushed();
    expect(rowCount()).toBe(rows);
    for (const row of [0, 1234, rows - 1]) expect(backend.get("key", keyOf(row))?.[0]).toBe(fill);
  }
});

test("what is written, overwritten and deleted meanwhile is there afterwards, long keys too", async () => {
  await fillAndEmpty();
  const long = new Uint8Array(CHUNK_BYTES * 2 + 5).fill(1);
  put(5000, 10, utf8("old"));
  backend.apply(backend.visibleIndex + 1, (writer) => writer.put("lease", long, utf8("long")));
  await flushed();
  const progress = { done: false };
  const defragmented = backend.defragment().then(() => {
    progress.done = true;
  });
  let written = 0;
  while (!progress.done) {
    await new Promise((resolve) => setImmediate(resolve));
    // On a slow machine it goes on without: the size below is of so many rows.
    if (written === 300) continue;
    put(10_000 + written * 10, 10, utf8("new"));
    backend.apply(backend.visibleIndex + 1, (writer) => {
      writer.delete("key", keyOf(5000 + (written % 10)));
      writer.put("key", keyOf(6000), utf8(String(written)));
    });
    if (written % 3 === 0) backend.flush();
    written += 1;
  }
  await defragmented;
  backend.apply(backend.visibleIndex + 1, (writer) => writer.delete("lease", long));
  const expected = 100 + 10 * written + 1 + Math.max(0, 10 - written);
  expect(rowCount()).toBe(expected);
  await flushed();
  expect(backend.sizes().totalBytes).toBeLessThan(2_000_000);
  const index = backend.visibleIndex;
  await backend.close();
  backend = LmdbBackend.open({ files, directory });
  expect(backend.visibleIndex).toBe(index);
  expect(rowCount()).toBe(expected);
  expect(backend.get("key", keyOf(6000))).toEqual(utf8(String(written - 1)));
  expect(backend.get("lease", long)).toBeUndefined();
});

test("a pin from before still reads its state", async () => {
  await fillAndEmpty();
  const pin = backend.pin();
  await backend.defragment();
  put(0, 1, EMPTY);
  await flushed();
  expect(pin.get("key", keyOf(0))).toBeUndefined();
  expect(pin.get("key", keyOf(1999))?.length).toBe(2048);
  expect(backend.get("key", keyOf(0))).toEqual(EMPTY);
  pin.release();
});

test("two askers share one defragmentation, and a snapshot installed meanwhile wins", async () => {
  await fillAndEmpty();
  const first = backend.defragment();
  expect(backend.defragment()).toBe(first);
  const shadow = backend.shadow();
  shadow.apply((writer) => writer.put("key", utf8("a"), utf8("installed")));
  await shadow.install(1000);
  await first;
  expect(backend.visibleIndex).toBe(1000);
  expect(rowCount()).toBe(1);
  put(1, 1, EMPTY);
  await flushed();
  await backend.close();
  backend = LmdbBackend.open({ files, directory });
  expect(rowCount()).toBe(2);
});

test("closing in the middle loses nothing", async () => {
  await fillAndEmpty();
  put(3000, 5, EMPTY);
  const defragmented = backend.defragment();
  await backend.close();
  await defragmented;
  backend = LmdbBackend.open({ files, directory });
  expect(rowCount()).toBe(105);
});

test("a copy that fails leaves everything as it was, and no files", async () => {
  await fillAndEmpty();
  const fault = new BackendError("no space left");
  vi.spyOn(Environment.prototype, "copyTo").mockRejectedValueOnce(fault);
  await expect(backend.defragment()).rejects.toBe(fault);
  put(1, 1, EMPTY);
  await flushed();
  expect(rowCount()).toBe(101);
  expect((await readdir(directory)).toSorted()).toEqual(["1", "CURRENT"]);
  await backend.defragment();
  expect(rowCount()).toBe(101);
});

test("a switch that fails is final: which file a restart opens isn't known", async () => {
  await fillAndEmpty();
  files.failing = true;
  await expect(backend.defragment()).rejects.toThrow("EIO");
  expect(() => backend.get("key", keyOf(1))).toThrow("EIO");
  files.failing = false;
  backend = LmdbBackend.open({ files, directory });
  expect(rowCount()).toBe(100);
});
