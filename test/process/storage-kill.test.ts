/**
 * The node's storage, killed at any moment, has what it reported durable, and log and database fit
 * together.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { openStorage } from "../../node-runner/data-dir/storage.ts";
import { Prng } from "../../shared/base/prng.ts";
import { IDENTITY, TERM, checkContent, entryData } from "./storage-child.ts";

const CHILD = fileURLToPath(new URL("storage-child.ts", import.meta.url));

/**
 * Runs the writer until it has reported `lines` times, kills it, and returns the last durable index
 * that it told.
 */
async function runAndKill(dataDir: string, lines: number): Promise<number> {
  const child = spawn(process.execPath, [CHILD, dataDir], { stdio: ["ignore", "pipe", "inherit"] });
  let [text, seen] = ["", 0];
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    seen += chunk.filter((byte) => byte === 10).length;
    if (seen >= lines) child.kill("SIGKILL");
  });
  const [code] = (await once(child, "close")) as [number | null];
  expect(code, "the writer died by the kill, not by itself").toBeNull();
  return Number(text.slice(0, text.lastIndexOf("\n")).split("\n").at(-1));
}

test("nothing that was reported durable is lost over 12 kills (log, LMDB, installs)", async () => {
  const seed = Number(process.env["SEED"] ?? Date.now() >>> 0);
  console.log(`seed ${seed}; replay: SEED=${seed} npx vitest run --project process -t kills`);
  const prng = new Prng(seed);
  const dataDir = await mkdtemp(join(tmpdir(), "quorate-kill-"));
  try {
    for (let round = 0; round < 12; round += 1) {
      const durable = await runAndKill(dataDir, prng.between(1, 900));
      const storage = await openStorage({
        dataDir,
        identity: IDENTITY,
        walSegmentBytes: 64 * 1024,
        appliedTerm: () => TERM,
        onFault: (fault) => {
          throw fault;
        },
      });
      const { log, backend } = storage;
      expect(log.lastIndex).toBeGreaterThanOrEqual(durable);
      expect(backend.visibleIndex).toBeLessThanOrEqual(log.lastIndex);
      expect(backend.visibleIndex).toBeGreaterThanOrEqual(log.firstIndex - 1);
      for (const entry of log.slice(log.firstIndex, log.lastIndex + 1, Infinity)) {
        expect(Buffer.compare(entry.data, entryData(entry.index))).toBe(0);
      }
      checkContent(backend);
      await storage.close();
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});
