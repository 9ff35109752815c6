/**
 * node-runner/wal: group commit, restart, compaction, faults. Crashes and damage are in
 * wal-crash.test.ts.
 */
import { describe, expect, test } from "vitest";
import { Prng } from "../../../../shared/base/prng.ts";
import {
  DIRECTORY,
  ManualDisk,
  contentOf,
  entriesFrom,
  entry,
  hardState,
  openLog,
  write,
} from "./wal-fixture.ts";

describe("group commit", () => {
  test("one record covers all that arrives in a turn, the next all that arrives meanwhile", () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    const durable: number[] = [];
    log.onDurable = (sequence) => durable.push(sequence);
    const before = log.facts.records;
    for (const index of [1, 2, 3]) log.append(write(index, { entries: [entry(index, 1)] }));
    disk.step();
    for (const index of [4, 5]) log.append(write(index, { entries: [entry(index, 1)] }));
    expect(log.lastIndex).toBe(5);
    expect(log.durableIndex).toBe(0);
    disk.drain();
    expect(durable).toEqual([3, 5]);
    expect(log.facts.records - before).toBe(2);
    expect(log.durableIndex).toBe(5);
  });

  test("a changed commit alone is reported without a write, and kept by the next one", () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    const durable: number[] = [];
    log.onDurable = (sequence) => durable.push(sequence);
    log.append(write(1, { entries: [entry(1, 1)], hardState: hardState(1, 0, "7") }));
    disk.drain();
    const { records } = log.facts;
    log.append(write(2, { hardState: hardState(1, 1, "7"), mustSync: false }));
    disk.drain();
    expect(durable).toEqual([1, 2]);
    expect(log.facts.records).toBe(records);
    log.append(write(3, { entries: [entry(2, 1)] }));
    disk.drain();
    disk.files.crash(new Prng(1));
    expect(openLog(disk).hardState).toEqual(hardState(1, 1, "7"));
  });

  test("an append from within onDurable starts the next record", () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    log.onDurable = (sequence) => {
      if (sequence < 20) log.append(write(sequence + 1, { entries: [entry(sequence + 1, 1)] }));
    };
    log.append(write(1, { entries: [entry(1, 1)] }));
    disk.drain();
    expect(log.durableIndex).toBe(20);
  });

  test("replaced entries are durable only when their replacement is", () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    log.append(write(1, { entries: entriesFrom(1, 5, 1) }));
    disk.step();
    log.append(write(2, { entries: entriesFrom(3, 1, 2) }));
    expect(log.lastIndex).toBe(3);
    disk.step();
    expect(log.durableIndex).toBe(2);
    disk.drain();
    expect(log.durableIndex).toBe(3);
  });
});

describe("restart", () => {
  test("a log of many segments comes back whole, however often it is opened", async () => {
    const disk = new ManualDisk();
    let log = openLog(disk, { segmentBytes: 4096 });
    const kinds = ["normal", "membership"] as const;
    for (let index = 1; index <= 300; index += 1) {
      const term = 1 + (index >> 6);
      const kind = kinds[index % 2] ?? "normal";
      const entries = [{ ...entry(index, term, index % 90), kind }];
      const state = hardState(term, index - 1, "18446744073709551615");
      // Sequences start anew with each opening.
      log.append(write(((index - 1) % 100) + 1, { entries, hardState: state }));
      if (index % 3 === 0) disk.drain();
      if (index % 100 !== 0) continue;
      disk.drain();
      const content = contentOf(log);
      const closed = log.close();
      disk.drain();
      await closed;
      log = openLog(disk, { segmentBytes: 4096 });
      expect(contentOf(log)).toEqual(content);
    }
    expect(log.facts.segments).toBeGreaterThan(3);
    expect(log.lastIndex).toBe(300);
  });

  test("close writes what needed no flush", async () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    log.append(write(1, { entries: [entry(1, 1)] }));
    disk.drain();
    log.append(write(2, { hardState: hardState(4, 1), mustSync: false }));
    const closed = log.close();
    disk.drain();
    await closed;
    expect(openLog(disk).hardState).toEqual(hardState(4, 1));
  });

  test("a log that was never written has no hard state", () => {
    const disk = new ManualDisk();
    openLog(disk);
    const log = openLog(disk);
    expect([log.hardState, log.firstIndex, log.lastIndex]).toEqual([undefined, 1, 0]);
    expect(log.termOf(0)).toBe(0);
  });

  test("a log of another member is refused by name", () => {
    const disk = new ManualDisk();
    openLog(disk);
    expect(() => openLog(disk, { memberId: 5n })).toThrow(
      "belongs to member fffffffffffffff1 of cluster c1, not to member 5 of cluster c1",
    );
  });
});

describe("compaction", () => {
  test("whole segments go, one stays for reuse, and the term before the first entry survives", () => {
    const disk = new ManualDisk();
    const log = openLog(disk, { segmentBytes: 4096 });
    const append = (from: number, to: number): void => {
      for (let index = from; index <= to; index += 1) {
        log.append(write(index, { entries: [entry(index, index, 500)] }));
        disk.drain();
      }
    };
    append(1, 60);
    const before = log.facts.segments;
    log.compact(50);
    expect(log.facts.segments).toBeLessThan(before);
    expect(disk.files.list(DIRECTORY)).toContain("spare.wal");
    append(61, 90);
    expect([log.firstIndex, log.termOf(50), log.termOf(49)]).toEqual([51, 50, undefined]);
    const reopened = openLog(disk, { segmentBytes: 4096 });
    expect(contentOf(reopened)).toEqual(contentOf(log));
  });

  test("entries that aren't durable here yet are kept, whatever the caller gives up", () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    log.append(write(1, { entries: entriesFrom(1, 5, 1) }));
    disk.drain();
    log.append(write(2, { entries: entriesFrom(6, 5, 1) }));
    log.compact(8);
    expect(log.firstIndex).toBe(6);
    disk.drain();
    log.compact(8);
    expect(log.firstIndex).toBe(9);
  });

  test("the log doesn't begin with a segment whose base was replaced later", () => {
    const disk = new ManualDisk();
    const log = openLog(disk, { segmentBytes: 4096 });
    let sequence = 0;
    const append = (from: number, count: number, term: number): void => {
      sequence += 1;
      log.append(write(sequence, { entries: entriesFrom(from, count, term, 400) }));
      disk.drain();
    };
    append(1, 12, 1);
    append(13, 1, 1);
    append(10, 12, 2);
    append(22, 1, 2);
    log.compact(13);
    disk.drain();
    append(23, 1, 2);
    expect(contentOf(openLog(disk, { segmentBytes: 4096 }))).toEqual(contentOf(log));
    expect(log.termOf(13)).toBe(2);
  });

  test("an installed snapshot starts the log anew, also after a restart", () => {
    const disk = new ManualDisk();
    const log = openLog(disk, { segmentBytes: 4096 });
    log.append(write(1, { entries: entriesFrom(1, 30, 1, 300), hardState: hardState(1, 30) }));
    disk.drain();
    const snapshot = { index: 500, term: 7 };
    log.append(write(2, { snapshot, hardState: hardState(7, 500), entries: [entry(501, 7)] }));
    disk.drain();
    expect([log.firstIndex, log.lastIndex, log.termOf(500)]).toEqual([501, 501, 7]);
    log.append(write(3, { entries: entriesFrom(502, 30, 7, 300), hardState: hardState(7, 520) }));
    disk.drain();
    log.compact(510);
    log.append(write(4, { entries: [entry(532, 7)] }));
    disk.drain();
    expect(contentOf(openLog(disk, { segmentBytes: 4096 }))).toEqual(contentOf(log));
  });
});

describe("faults", () => {
  test("the first one is told once, and nothing is reported or written afterwards", async () => {
    const disk = new ManualDisk();
    const faults: Error[] = [];
    const log = openLog(disk, { onFault: (fault) => faults.push(fault) });
    const durable: number[] = [];
    log.onDurable = (sequence) => durable.push(sequence);
    log.append(write(1, { entries: [entry(1, 1)] }));
    disk.drain();
    const full = Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    disk.files.failNext(full);
    log.append(write(2, { entries: [entry(2, 1)] }));
    disk.drain();
    const { records } = log.facts;
    log.append(write(3, { entries: [entry(3, 1)] }));
    disk.drain();
    expect(faults.map((fault) => fault.cause)).toEqual([full]);
    expect(faults[0]?.message).toMatch(/failed at wal\/.*\.wal: ENOSPC: no space left on device/);
    expect(durable).toEqual([1]);
    expect(log.facts.records).toBe(records);
    await log.close();
  });
});
