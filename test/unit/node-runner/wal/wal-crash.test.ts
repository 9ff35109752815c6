/**
 * node-runner/wal under power failures and rot: nothing acknowledged is lost, torn tails go, damage
 * refuses to start.
 */
import { describe, expect, test } from "vitest";
import {
  RECORD_HEADER_BYTES,
  RECORD_MARKER,
  encodeSegmentHeader,
  segmentName,
} from "../../../../node-runner/wal/layout.ts";
import { readItems } from "../../../../node-runner/wal/record-reader.ts";
import { RecordWriter } from "../../../../node-runner/wal/record-writer.ts";
import { WalDamageError } from "../../../../node-runner/wal/replay.ts";
import type { WriteAheadLog } from "../../../../node-runner/wal/write-ahead-log.ts";
import { crc32c } from "../../../../shared/base/crc32c.ts";
import { Prng } from "../../../../shared/base/prng.ts";
import type { LogWrite } from "../../../../shared/raft/log-store.ts";
import type { Entry, HardState } from "../../../../shared/raft/types.ts";
import {
  DIRECTORY,
  ManualDisk,
  entriesFrom,
  entry,
  hardState,
  openLog,
  write,
} from "./wal-fixture.ts";

const SEGMENT_BYTES = 4096;

/** What the log should hold: by index, without compaction. */
interface Model {
  readonly entries: ReadonlyMap<number, Entry>;
  readonly base: number;
  readonly last: number;
  readonly hardState: HardState | undefined;
}

const EMPTY_MODEL: Model = { entries: new Map(), base: 0, last: 0, hardState: undefined };

function after(model: Model, write: LogWrite): Model {
  const restarted = write.snapshot !== undefined;
  const entries = new Map(restarted ? [] : model.entries);
  const base = restarted ? write.snapshot.index : model.base;
  let last = restarted ? base : model.last;
  for (const entry of write.entries) {
    for (let index = entry.index; index <= last; index += 1) entries.delete(index);
    entries.set(entry.index, entry);
    last = entry.index;
  }
  return { entries, base, last, hardState: write.hardState ?? model.hardState };
}

function holds(log: WriteAheadLog, model: Model): boolean {
  if (log.lastIndex !== model.last || log.firstIndex - 1 < model.base) return false;
  const [state, expected] = [log.hardState, model.hardState];
  if (state?.term !== expected?.term || state?.vote !== expected?.vote) return false;
  const entries = log.slice(log.firstIndex, log.lastIndex + 1, Infinity);
  return entries.every((entry) => {
    const expected = model.entries.get(entry.index);
    if (expected === undefined || expected.term !== entry.term) return false;
    return Buffer.compare(expected.data, entry.data) === 0;
  });
}

/** A random write that raft could ask for: no committed entry is replaced. */
function nextWrite(prng: Prng, model: Model, sequence: number): LogWrite {
  const { term, commit } = model.hardState ?? { term: 1, commit: 0 };
  const roll = prng.below(20);
  if (roll === 0) {
    const index = model.last + prng.between(1, 20);
    const snapshot = { index, term: term + 1 };
    return write(sequence, { snapshot, hardState: hardState(term + 1, index) });
  }
  if (roll < 4 && model.hardState !== undefined) {
    const state = hardState(term, prng.between(commit, model.last), model.hardState.vote);
    return write(sequence, { hardState: state, mustSync: false });
  }
  const replace = roll < 6 && model.last > commit;
  const from = replace ? prng.between(commit + 1, model.last) : model.last + 1;
  const newTerm = replace ? term + 1 : term;
  const entries = entriesFrom(from, prng.between(1, 5), newTerm, prng.below(600));
  return write(sequence, {
    entries,
    hardState: hardState(newTerm, commit, prng.pick(["1", "22"])),
  });
}

/**
 * Writes until the power fails at a random moment; returns what the disk must hold at least, at
 * most, or between.
 */
function runUntilCrash(run: {
  disk: ManualDisk;
  log: WriteAheadLog;
  start: Model;
  prng: Prng;
}): Model[] {
  const { disk, log, start, prng } = run;
  const states = [start];
  let durable = 0;
  log.onDurable = (sequence) => (durable = sequence);
  for (let step = prng.below(60); step > 0; step -= 1) {
    const roll = prng.below(10);
    const last = states.at(-1) as Model;
    if (roll < 5) {
      const next = nextWrite(prng, last, states.length);
      log.append(next);
      states.push(after(last, next));
    } else if (roll < 9) disk.step();
    else log.compact(Math.min(log.durableIndex, last.hardState?.commit ?? 0));
  }
  disk.files.crash(prng);
  disk.forget();
  return states.slice(durable);
}

describe("power failures", () => {
  test.each(Array.from({ length: 100 }, (_, place) => place + 1))(
    "what was reported durable is there after each of 8 crashes (seed %i)",
    (seed) => {
      const prng = new Prng(seed);
      const disk = new ManualDisk();
      let possible = [EMPTY_MODEL];
      for (let crash = 0; crash < 8; crash += 1) {
        const log = openLog(disk, { segmentBytes: SEGMENT_BYTES });
        const found = possible.findLast((model) => holds(log, model));
        if (found === undefined)
          throw new Error(`after crash ${crash} the log holds no possible state`);
        possible = runUntilCrash({
          disk,
          log,
          start: { ...found, hardState: log.hardState },
          prng,
        });
      }
    },
  );
});

describe("rot", () => {
  /** Two segments; the place where each record of the log starts and ends. */
  function build(): ManualDisk {
    const disk = new ManualDisk();
    const log = openLog(disk, { segmentBytes: SEGMENT_BYTES });
    for (let index = 1; index <= 24; index += 1) {
      log.append(write(index, { entries: [entry(index, 1, 230)] }));
      disk.drain();
    }
    expect(log.facts.segments).toBe(2);
    return disk;
  }

  test("a flipped bit before the last record refuses to start or is in padding, at every place", () => {
    const names = build().files.list(DIRECTORY);
    expect(names.length).toBe(2);
    let [refused, harmless] = [0, 0];
    for (const [place, name] of names.entries()) {
      for (let offset = 0; offset < (place === 0 ? SEGMENT_BYTES : 500); offset += 7) {
        const disk = build();
        disk.files.rot(`${DIRECTORY}/${name}`, offset);
        try {
          const log = openLog(disk, { segmentBytes: SEGMENT_BYTES });
          expect(log.lastIndex, `${name} at ${offset}`).toBe(24);
          harmless += 1;
        } catch (error) {
          expect(error).toBeInstanceOf(WalDamageError);
          expect((error as WalDamageError).message).toContain("offset");
          refused += 1;
        }
      }
    }
    expect(refused).toBeGreaterThan(harmless * 10);
  });

  test("the error names the file and the offset of the damaged record", () => {
    const disk = build();
    const name = disk.files.list(DIRECTORY)[0] as string;
    disk.files.rot(`${DIRECTORY}/${name}`, 1000);
    const open = (): unknown => openLog(disk, { segmentBytes: SEGMENT_BYTES });
    expect(open).toThrow(/record 5 is unreadable, yet record 6 stands at \d+ in wal\/0{15}1-/);
    expect(open).toThrow(/\(file wal\/0{15}1-0{15}1\.wal, offset \d+\)/);
  });

  test("a missing segment in the middle is damage", () => {
    const disk = build();
    const log = openLog(disk, { segmentBytes: SEGMENT_BYTES });
    for (let index = 25; index <= 60; index += 1) {
      log.append(write(index, { entries: [entry(index, 1, 230)] }));
      disk.drain();
    }
    disk.files.remove(`${DIRECTORY}/${disk.files.list(DIRECTORY)[1]}`);
    expect(() => openLog(disk)).toThrow("the segment with sequence 2 is missing");
  });

  test("a log that ends below its own commit mark is refused", () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    log.append(write(1, { entries: [entry(1, 1)], hardState: hardState(1, 2) }));
    disk.drain();
    expect(() => openLog(disk)).toThrow("it ends with entry 1, yet 2 was committed");
  });

  test("rot of the very last record can't be told from a torn write: it is cut", () => {
    const disk = new ManualDisk();
    const log = openLog(disk);
    log.append(write(1, { entries: [entry(1, 1)] }));
    disk.drain();
    log.append(write(2, { entries: [entry(2, 1, 1000)] }));
    disk.drain();
    disk.files.rot(`${DIRECTORY}/${disk.files.list(DIRECTORY)[0]}`, 700);
    expect(openLog(disk).lastIndex).toBe(1);
  });

  test("a log of another format is refused as such, not as damage", () => {
    const disk = build();
    const file = disk.files.open(`${DIRECTORY}/${disk.files.list(DIRECTORY)[0]}`, {
      create: false,
    });
    const header = file.read(0, 16);
    header[7] = "2".charCodeAt(0);
    new DataView(header.buffer).setUint32(12, crc32c(header, { end: 12 }), true);
    file.write(0, header);
    expect(() => openLog(disk)).toThrow("has format 2, this version reads 1");
  });

  test("segments of random bytes are refused or found unfinished, never read", () => {
    const prng = new Prng(31);
    for (let round = 0; round < 300; round += 1) {
      const disk = new ManualDisk();
      const file = disk.files.open(`${DIRECTORY}/${segmentName(1, 1)}`, { create: true });
      const bytes = Uint8Array.from({ length: prng.below(400) }, () => prng.below(256));
      if (prng.chance(0.7)) bytes.set(encodeSegmentHeader(7).subarray(0, bytes.length));
      const view = new DataView(bytes.buffer);
      for (let at = 16; at + 8 <= bytes.length; at += 8) {
        if (prng.chance(0.2)) view.setUint32(at, RECORD_MARKER, true);
        if (prng.chance(0.2)) view.setUint32(at + 4, prng.below(500), true);
      }
      file.write(0, bytes);
      try {
        expect(openLog(disk).lastIndex).toBe(0);
      } catch (error) {
        expect(error).toBeInstanceOf(WalDamageError);
      }
    }
  });

  test("an intact record with an item of unknown kind is a newer version's", () => {
    const record = new RecordWriter();
    record.position("compacted", { index: 1, term: 1 });
    const { bytes } = record.seal({ salt: 1, previous: 0, ordinal: 1 });
    bytes[RECORD_HEADER_BYTES] = 99;
    const head = { start: 0, end: RECORD_HEADER_BYTES + 3, crc: 0, previous: 0, ordinal: 1 };
    expect(() => readItems(bytes, head, () => {})).toThrow("unknown item kind 99");
  });
});
