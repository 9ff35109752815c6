/**
 * The node's storage when the disk takes no more: the fault is told once, nothing is reported
 * durable after it.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { openStorage } from "../../node-runner/data-dir/storage.ts";

const CHILD = fileURLToPath(new URL("storage-full-child.ts", import.meta.url));

/**
 * Files may have 3 MiB (6000 blocks of 512 bytes, by POSIX): a write behind fails as on a full
 * disk.
 */
async function runLimited(dataDir: string, part: "log" | "database"): Promise<string> {
  const script = 'ulimit -f 6000; exec "$0" "$@"';
  const parameters = ["-c", script, process.execPath, CHILD, dataDir, part];
  const { stdout } = await promisify(execFile)("/bin/sh", parameters);
  return stdout;
}

async function withStorage(part: "log" | "database"): Promise<{ output: string; last: number }> {
  const dataDir = await mkdtemp(join(tmpdir(), "quorate-full-"));
  try {
    const output = await runLimited(dataDir, part);
    const identity = { clusterId: 1n, memberId: 1n };
    const storage = await openStorage({ dataDir, identity, onFault: () => {} });
    const last = storage.log.lastIndex;
    expect(storage.backend.visibleIndex).toBeLessThanOrEqual(last);
    await storage.close();
    return { output, last };
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

test("the log stops at its first fault, and a restart finds what it reported", async () => {
  const { output, last } = await withStorage("log");
  expect(output).toMatch(/^fault: the write-ahead log failed at .*\.wal: EFBIG: file too large/);
  expect(output).toContain("closed");
  const durable = Number(/durable in the log: (\d+)/.exec(output)?.[1]);
  expect(durable).toBeLessThan(100);
  expect(last).toBeGreaterThanOrEqual(durable);
});

test("the database refuses every call after its first fault, and a restart has it whole", async () => {
  const { output } = await withStorage("database");
  expect(output).toMatch(/^fault: the database failed: /);
  expect(output).toContain("reads refused: BackendError");
  expect(output).toContain("closed");
});
