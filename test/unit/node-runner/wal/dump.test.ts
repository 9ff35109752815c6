/** node-runner/wal's dump of logs that are torn, damaged, cut or not there. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { runCommand } from "../../../../node-runner/commands/commands.ts";
import { dumpLog } from "../../../../node-runner/wal/dump.ts";
import type { Finding } from "../../../../node-runner/wal/dump.ts";
import { makeTempDir, removeTempDir } from "../../../support/temp-dir.ts";
import { encodeCommand } from "../../../../shared/wire/command-codec.ts";
import { buildGoldenLog, filesOf } from "./golden-log.ts";
import { DIRECTORY, ManualDisk, openLog, write } from "./wal-fixture.ts";

function findings(disk: ManualDisk): Finding[] {
  return [...dumpLog(disk.files, DIRECTORY)];
}

function stops(disk: ManualDisk): string[] {
  return findings(disk)
    .filter((each) => each.kind === "stop")
    .map(({ path, offset, damage, reason }) => {
      return `${path.slice(-8)}@${offset}${damage ? "!" : ""} ${reason}`;
    });
}

function ordinals(disk: ManualDisk): number[] {
  return findings(disk)
    .filter((each) => each.kind === "record")
    .map(({ record }) => record.ordinal);
}

function segmentPath(disk: ManualDisk, place: number): string {
  return `${DIRECTORY}/${disk.files.list(DIRECTORY)[place]}`;
}

test("a whole log ends where only zeros follow", () => {
  const disk = buildGoldenLog();
  expect(stops(disk)).toEqual(["0007.wal@248 the log ends: only zeros follow"]);
  expect(ordinals(disk)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("a rotten last record is a torn one, with both checksums", () => {
  const disk = buildGoldenLog();
  disk.files.rot(segmentPath(disk, 1), 220);
  expect(stops(disk)).toEqual([
    expect.stringMatching(
      /^0007\.wal@184 the log ends: a torn or damaged record: its checksum says 5af2f567, its bytes give [0-9a-f]{8}$/,
    ),
  ]);
});

test("a rotten record before others is damage, and the rest is printed", () => {
  const disk = buildGoldenLog();
  disk.files.rot(segmentPath(disk, 0), 150);
  const [first, last] = stops(disk);
  expect(first).toMatch(/^0001\.wal@120! damaged: a torn or .*, yet record 4 stands at 280$/);
  expect(last).toBe("0007.wal@248 the log ends: only zeros follow");
  expect(ordinals(disk)).toEqual([1, 2, 4, 5, 6, 7, 8, 9]);
});

test("records that are missing between two segments are told", () => {
  const disk = buildGoldenLog();
  disk.files.rot(segmentPath(disk, 0), 1000);
  expect(stops(disk)[0]).toMatch(
    /^0007\.wal@16! damaged: record 6 doesn't follow record 4, yet record 6 stands at 16$/,
  );
});

test("a missing segment and a headless one are told", () => {
  const disk = buildGoldenLog();
  disk.files.rename(segmentPath(disk, 1), `${DIRECTORY}/0000000000000003-0000000000000007.wal`);
  disk.files.rot(segmentPath(disk, 0), 3);
  expect(stops(disk)).toEqual([
    "0001.wal@0! no segment begins here: its header is absent or damaged",
    "0007.wal@0! the segment with sequence 2 is missing",
    "0007.wal@248 the log ends: only zeros follow",
  ]);
});

test("changes of the members are decoded like other entries", async () => {
  const folder = makeTempDir("dump");
  const disk = new ManualDisk();
  const command = { kind: "memberRemove", member: 0xabcn } as const;
  const data = encodeCommand({ request: undefined, identity: undefined, command });
  const log = openLog(disk, { segmentBytes: 4096 });
  log.append(write(1, { entries: [{ index: 1, term: 1, kind: "membership", data }] }));
  disk.drain();
  for (const { name, bytes } of filesOf(disk)) writeFileSync(`${folder}/${name}`, bytes);
  let text = "";
  const take = (piece: string): void => void (text += piece);
  try {
    expect(await runCommand(["wal", "dump", folder], { out: take, err: take })).toBe(0);
    expect(text).toContain(
      'index 1 membership, 15 bytes, 11 of data: memberRemove {"member":"2748"}',
    );
  } finally {
    removeTempDir(folder);
  }
});

test("the command tells wrong usage and an absent folder from an empty one", async () => {
  const folder = makeTempDir("dump");
  let text = "";
  const take = (piece: string): void => void (text += piece);
  const run = (...args: string[]) => runCommand(args, { out: take, err: take });
  try {
    expect(await run("wal", "dump")).toBe(2);
    expect(await run("wal", "dump", "a", "b")).toBe(2);
    expect(await run("wal", "dump", `${folder}/absent`)).toBe(2);
    expect(text).toContain("absent doesn't exist");
    expect(await run("wal", "dump", folder)).toBe(0);
    expect(text).toContain("no segment of a log in");
  } finally {
    removeTempDir(folder);
  }
});
