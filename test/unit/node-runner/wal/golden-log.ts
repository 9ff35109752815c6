/**
 * The log that the golden files hold: every kind of item, over two segments, with real commands.
 * The same bytes must come of the same writes for as long as the format is 1.
 */
import type { Bytes } from "../../../../shared/base/bytes.ts";
import { utf8 } from "../../../../shared/base/bytes.ts";
import type { Entry } from "../../../../shared/raft/types.ts";
import { encodeCommand } from "../../../../shared/wire/command-codec.ts";
import type { Command } from "../../../../shared/wire/command.ts";
import { DIRECTORY, ManualDisk, hardState, openLog, write } from "./wal-fixture.ts";

const request = { member: 0xfff1n, incarnation: 77, sequence: 9 };

function put(key: string, value: string, lease = 0n): Command {
  const flags = { previousKv: false, ignoreValue: false, ignoreLease: false };
  return { kind: "put", key: utf8(key), value: utf8(value), lease, ...flags };
}

function entryOf(index: number, term: number, command: Command): Entry {
  const data = encodeCommand({ request, identity: undefined, command });
  return { index, term, kind: "normal", data };
}

/** Makes the log on a disk of its own, and returns the disk. */
export function buildGoldenLog(): ManualDisk {
  const disk = new ManualDisk();
  const log = openLog(disk, { segmentBytes: 4096 });
  const append = (sequence: number, parts: Parameters<typeof write>[1]): void => {
    log.append(write(sequence, parts));
    disk.drain();
  };
  const empty: Entry = { index: 1, term: 2, kind: "normal", data: new Uint8Array(0) };
  append(1, { hardState: hardState(2, 0, "18446744073709551601"), entries: [empty] });
  append(2, {
    hardState: hardState(2, 1),
    entries: [
      entryOf(2, 2, put("alpha", "one")),
      entryOf(3, 2, { kind: "leaseGrant", id: 0x7fff_ffff_ffff_fff0n, ttlSeconds: 60 }),
      entryOf(4, 2, put("beta", "two", 0x7fff_ffff_ffff_fff0n)),
    ],
  });
  append(3, {
    hardState: hardState(3, 3),
    entries: [
      // Replaces entry 4.
      entryOf(4, 3, { kind: "deleteRange", key: utf8("a"), rangeEnd: utf8("b"), previousKv: true }),
      { index: 5, term: 3, kind: "membership", data: Uint8Array.of(1, 2, 3) },
    ],
  });
  append(4, { entries: [entryOf(6, 3, put("large", "x".repeat(4000)))] });
  append(5, { hardState: hardState(3, 6), entries: [entryOf(7, 3, put("next segment", "y"))] });
  log.compact(2);
  append(6, { snapshot: { index: 1_000_000, term: 9 }, hardState: hardState(9, 1_000_000) });
  append(7, { entries: [entryOf(1_000_001, 9, { kind: "compact", revision: 500 })] });
  return disk;
}

export interface GoldenFile {
  readonly name: string;
  readonly bytes: Bytes;
}

export function filesOf(disk: ManualDisk): GoldenFile[] {
  return disk.files.list(DIRECTORY).map((name) => {
    const file = disk.files.open(`${DIRECTORY}/${name}`, { create: false });
    return { name, bytes: file.read(0, file.size()) };
  });
}
