/**
 * node-runner/data-dir: one process, the right member, and a log and a database that fit together.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DirectoryLock, DirectoryLockedError } from "../../../../node-runner/data-dir/lock.ts";
import { identityOf, openStorage } from "../../../../node-runner/data-dir/storage.ts";
import type { Storage, StorageOptions } from "../../../../node-runner/data-dir/storage.ts";
import { EMPTY, utf8 } from "../../../../shared/base/bytes.ts";
import { entriesFrom, hardState, write } from "../wal/wal-fixture.ts";

const IDENTITY = { clusterId: 0xabcn, memberId: 7n };

let dataDir = "";
let opened: Storage | undefined;
let child: ChildProcess | undefined;

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "quorate-data-"));
});

afterEach(async () => {
  await opened?.close();
  opened = undefined;
  child?.kill("SIGKILL");
  child = undefined;
  await rm(dataDir, { recursive: true, force: true });
});

async function open(options: Partial<StorageOptions> = {}): Promise<Storage> {
  await opened?.close();
  opened = undefined;
  const onFault = (fault: Error): void => {
    throw fault;
  };
  opened = await openStorage({ dataDir, identity: IDENTITY, onFault, ...options });
  return opened;
}

/** Entries up to `count` in the log and applied in the backend, all durable. */
async function fill(storage: Storage, count: number): Promise<void> {
  const { log, backend } = storage;
  const entries = entriesFrom(1, count, 1);
  log.append(write(1, { entries, hardState: hardState(1, count) }));
  for (let index = 1; index <= count; index += 1) {
    backend.apply(index, (writer) => writer.put("key", utf8(`k${index}`), EMPTY));
  }
  backend.flush();
  await expect.poll(() => backend.durableIndex, { interval: 1 }).toBe(count);
}

describe("lock", () => {
  /** A process that takes the lock, says so, and waits to be killed. */
  async function holdInChild(): Promise<ChildProcess> {
    const lock = new URL("../../../../node-runner/data-dir/lock.ts", import.meta.url).href;
    const program = `
      const { DirectoryLock } = await import(${JSON.stringify(lock)});
      DirectoryLock.take(${JSON.stringify(dataDir)});
      console.log("held");
      setInterval(() => {}, 1000);`;
    child = spawn(process.execPath, ["--input-type=module", "-e", program]);
    await once(child.stdout as NodeJS.ReadableStream, "data");
    return child;
  }

  test("a second process is refused by the first one's id, and not once that is killed", async () => {
    const holder = await holdInChild();
    expect(() => DirectoryLock.take(dataDir)).toThrow(DirectoryLockedError);
    expect(() => DirectoryLock.take(dataDir)).toThrow(`is in use by process ${holder.pid}`);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    DirectoryLock.take(dataDir).release();
  });

  test("a killed holder's process id may be reused: the lock is free all the same", async () => {
    const holder = await holdInChild();
    holder.kill("SIGKILL");
    await once(holder, "exit");
    // The recorded holder is alive, but it is another process.
    await writeFile(join(dataDir, "lock.holder"), `${process.ppid}\n`);
    DirectoryLock.take(dataDir).release();
  });

  test("a second opening in the same process is refused too", async () => {
    await open();
    await expect(openStorage({ dataDir, identity: IDENTITY, onFault: () => {} })).rejects.toThrow(
      `${dataDir}/member is in use by process ${process.pid}`,
    );
  });

  test("a shared log directory is refused, and the refused one can start elsewhere", async () => {
    const walDir = join(dataDir, "log");
    await open({ walDir });
    const other = { dataDir: join(dataDir, "other"), identity: IDENTITY, onFault: () => {} };
    await expect(openStorage({ ...other, walDir })).rejects.toThrow(`${walDir} is in use`);
    const storage = await openStorage(other);
    await storage.close();
  });
});

describe("identity", () => {
  test("a new directory takes the identity, and a restart finds it", async () => {
    expect(identityOf(dataDir)).toBeUndefined();
    expect((await open()).created).toBe(true);
    expect(identityOf(dataDir)).toEqual(IDENTITY);
    expect((await open()).created).toBe(false);
  });

  test("a directory of another cluster or member is refused by name", async () => {
    await open();
    await expect(open({ identity: { clusterId: 1n, memberId: 7n } })).rejects.toThrow(
      "belongs to cluster abc, not to the configured 1",
    );
    await expect(open({ identity: { clusterId: 0xabcn, memberId: 8n } })).rejects.toThrow(
      "belongs to member 7, not to the configured 8",
    );
  });

  test("a directory of a newer format is refused", async () => {
    await open();
    const path = join(dataDir, "member/identity.json");
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace('"format":1', '"format":2'));
    await expect(open()).rejects.toThrow("has format 2; this version reads 1");
  });

  test("a database without an identity is not taken over", async () => {
    await open();
    await rm(join(dataDir, "member/identity.json"));
    await expect(open()).rejects.toThrow("holds wal and db, yet no identity.json");
  });
});

describe("log and database together", () => {
  test("a restart finds both as they were", async () => {
    await fill(await open(), 20);
    const { log, backend } = await open();
    expect([log.lastIndex, log.hardState?.commit]).toEqual([20, 20]);
    expect([backend.visibleIndex, backend.durableIndex]).toEqual([20, 20]);
  });

  test("a log that begins behind the database's end is refused", async () => {
    const { log } = await open();
    log.append(write(1, { snapshot: { index: 50, term: 1 }, hardState: hardState(1, 50) }));
    await expect.poll(() => log.durableIndex, { interval: 1 }).toBe(50);
    await expect(open()).rejects.toThrow(
      "the database ends with entry 0, the log begins with 51: the entries between are missing",
    );
  });

  test("a log that ends before the database is refused", async () => {
    await fill(await open(), 20);
    await opened?.close();
    opened = undefined;
    await rm(join(dataDir, "member/wal"), { recursive: true });
    await expect(open()).rejects.toThrow(
      /the database ends with entry 20, the log already with 0 \(file .*\.wal, offset \d+\): entries that were durable are gone/,
    );
  });

  test("an install that a crash cut before the log's turn is finished at start", async () => {
    const first = await open();
    await fill(first, 5);
    const shadow = first.backend.shadow();
    shadow.apply((writer) => writer.put("key", utf8("new"), EMPTY));
    await shadow.install(90);
    const { log, backend } = await open({ appliedTerm: () => 4 });
    expect([log.firstIndex, log.lastIndex, log.termOf(90)]).toEqual([91, 90, 4]);
    expect(backend.visibleIndex).toBe(90);
    const again = await open();
    expect([again.log.firstIndex, again.log.termOf(90)]).toEqual([91, 4]);
  });

  test("a damaged database and a truncated one are refused by name", async () => {
    await fill(await open(), 2000);
    await opened?.close();
    opened = undefined;
    const path = join(dataDir, "member/db/1/data.mdb");
    const bytes = await readFile(path);
    await writeFile(path, bytes.subarray(0, bytes.length >> 1));
    await expect(open()).rejects.toThrow(/db\/1\/data.mdb is damaged: it ends after \d+ bytes/);
    await writeFile(path, bytes.fill(0xee, 0, 8192));
    await expect(open()).rejects.toThrow("db/1/data.mdb is damaged: no database begins at 0");
  });

  test("a database of a newer format is refused", async () => {
    await (await open()).close();
    opened = undefined;
    const root = openLmdb({ path: join(dataDir, "member/db/1"), noSubdir: false });
    const format = Buffer.from([0, 0, 0, 0, 0, 0, 0, 9]);
    const store = root.openDB({ name: "store", encoding: "binary", keyEncoding: "binary" });
    await store.put(Buffer.from("format"), format);
    await root.close();
    await expect(open()).rejects.toThrow("has format 9, this version reads 1: a newer version");
  });
});
