/**
 * node-runner/wal on a disk whose calls fail, or whose power fails between two calls: whichever it
 * is, the log stops there. Nothing is written, flushed or reported afterwards, and a restart has
 * all that was reported.
 */
import { describe, expect, test } from "vitest";
import { WriteAheadLog } from "../../../../node-runner/wal/write-ahead-log.ts";
import { Prng } from "../../../../shared/base/prng.ts";
import { HookedFiles } from "../../../support/hooked-files.ts";
import type { FilePoint } from "../../../support/hooked-files.ts";
import {
  DIRECTORY,
  IDENTITY,
  ManualDisk,
  entry,
  hardState,
  openLog,
  write,
} from "./wal-fixture.ts";

const WRITES = 40;
const SEGMENT_BYTES = 4096;
/** The code of a failure that is none: the power goes there. */
const POWER = "POWER";

/** What a run with one failing call came to. */
interface Outcome {
  readonly disk: ManualDisk;
  readonly failed: FilePoint | undefined;
  readonly faults: readonly Error[];
  /** The last sequence that was reported durable. */
  readonly reported: number;
  /** The log was told that it may forget entries up to here. */
  readonly compacted: number;
  /** Calls that the log made after the one that failed. */
  readonly callsAfter: readonly string[];
}

/**
 * Writes, switches segments and compacts, while the `failing`-th call that changes the disk fails,
 * before it did anything or behind.
 */
async function run(
  failing: number,
  code: string,
  when: FilePoint["when"] = "before",
): Promise<Outcome> {
  const disk = new ManualDisk();
  let calls = 0;
  let failed: FilePoint | undefined;
  const callsAfter: string[] = [];
  const files = new HookedFiles(disk.files, (point) => {
    if (point.when !== when) return;
    if (failed !== undefined) return void callsAfter.push(point.call);
    calls += 1;
    if (calls !== failing) return;
    failed = point;
    throw Object.assign(new Error(`${code}: ${point.call}`), { code });
  });
  const faults: Error[] = [];
  let [reported, compacted] = [0, 0];
  try {
    const log = WriteAheadLog.open({
      files,
      directory: DIRECTORY,
      identity: IDENTITY,
      salt: 1,
      segmentBytes: SEGMENT_BYTES,
      schedule: disk.schedule,
      onFault: (fault) => faults.push(fault),
    });
    log.onDurable = (sequence) => (reported = sequence);
    for (let sequence = 1; sequence <= WRITES; sequence += 1) {
      const state = hardState(1, sequence - 1);
      log.append(write(sequence, { entries: [entry(sequence, 1, 400)], hardState: state }));
      disk.drain();
      if (failed !== undefined) await new Promise((resolve) => setImmediate(resolve));
      if (code === POWER && failed !== undefined) break;
      if (sequence % 15 === 0 && faults.length === 0) {
        compacted = sequence - 5;
        log.compact(compacted);
      }
    }
    await log.close();
  } catch (error) {
    // At start the error is the caller's: there is no log yet.
    expect((error as NodeJS.ErrnoException).code).toBe(code);
    faults.push(error as Error);
  }
  return { disk, failed, faults, reported, compacted, callsAfter };
}

describe.each(["EIO", "ENOSPC"] as const)("%s", (code) => {
  test("at any call stops the log for good, and what was reported is there", async () => {
    const seen = new Set<string>();
    for (let failing = 1; ; failing += 1) {
      const { disk, failed, faults, reported, callsAfter } = await run(failing, code);
      if (failed === undefined) break;
      const place = `call ${failing}, ${failed.call} of ${failed.path}`;
      seen.add(failed.call);
      expect(faults.length, `${place} is told once`).toBe(1);
      expect(faults[0]?.message, place).toContain(`${code}: ${failed.call}`);
      // Above all no second flush: after a failed one the system may call lost pages clean.
      expect(callsAfter, `nothing more is done to the disk after ${place}`).toEqual([]);
      const reopened = openLog(disk, { segmentBytes: SEGMENT_BYTES });
      expect(reopened.lastIndex, place).toBeGreaterThanOrEqual(reported);
      expect(reported, place).toBeLessThan(WRITES);
    }
    expect([...seen].sort()).toEqual(
      ["create", "rename", "sync", "syncDirectory", "truncate", "write", "writeDurable"].sort(),
    );
  });
});

test("the power may fail before or behind any call: what was reported is there", async () => {
  for (const when of ["before", "after"] as const) {
    for (let failing = 1; ; failing += 1) {
      const passed = await crashAt(failing, when);
      if (!passed) break;
    }
  }
});

/** Several ends of the same crash; false when there is no such call. */
async function crashAt(failing: number, when: FilePoint["when"]): Promise<boolean> {
  for (let seed = 1; seed <= 5; seed += 1) {
    const { disk, failed, reported, compacted } = await run(failing, POWER, when);
    if (failed === undefined) return false;
    const place = `seed ${seed}, ${when} call ${failing}, ${failed.call} of ${failed.path}`;
    disk.files.crash(new Prng(seed));
    disk.forget();
    let reopened: WriteAheadLog;
    try {
      reopened = openLog(disk, { segmentBytes: SEGMENT_BYTES });
    } catch (cause) {
      throw new Error(place, { cause });
    }
    expect(reopened.lastIndex, place).toBeGreaterThanOrEqual(reported);
    expect(reopened.firstIndex, place).toBeLessThanOrEqual(compacted + 1);
    const entries = reopened.slice(reopened.firstIndex, reopened.lastIndex + 1, Infinity);
    const wrong = entries.filter(({ index, data }) => {
      return Buffer.compare(data, entry(index, 1, 400).data) !== 0;
    });
    expect(wrong, place).toEqual([]);
  }
  return true;
}
