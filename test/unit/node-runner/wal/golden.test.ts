/**
 * Golden files of the log's format: what was written once must be readable for ever, byte for byte,
 * and what is written now must be the same. A new format gets a new folder beside; this one stays.
 */
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runCommand } from "../../../../node-runner/commands/commands.ts";
import { textOf } from "../../../../shared/base/bytes.ts";
import { crc32c } from "../../../../shared/base/crc32c.ts";
import { commandOf } from "../../../../shared/wire/command-codec.ts";
import { buildGoldenLog, filesOf } from "./golden-log.ts";
import type { GoldenFile } from "./golden-log.ts";
import { DIRECTORY, ManualDisk, hardState, openLog } from "./wal-fixture.ts";

const FOLDER = fileURLToPath(new URL("golden/format-1", import.meta.url));
const SEGMENTS = readdirSync(FOLDER).filter((name) => name.endsWith(".wal"));

function goldenFiles(): GoldenFile[] {
  return SEGMENTS.map((name) => ({
    name,
    bytes: new Uint8Array(readFileSync(`${FOLDER}/${name}`)),
  }));
}

function diskWith(files: readonly GoldenFile[]): ManualDisk {
  const disk = new ManualDisk();
  for (const { name, bytes } of files) {
    disk.files.open(`${DIRECTORY}/${name}`, { create: true }).write(0, bytes);
  }
  disk.files.syncDirectory();
  return disk;
}

async function dump(...args: string[]): Promise<{ code: number | undefined; text: string }> {
  let text = "";
  const take = (piece: string): void => void (text += piece);
  const code = await runCommand(["wal", "dump", ...args], { out: take, err: take });
  return { code, text: text.replaceAll(`${FOLDER}/`, "") };
}

test("the log of format 1 is read: entries, replacements, snapshot, hard state", () => {
  const log = openLog(diskWith(goldenFiles()));
  expect(log.hardState).toEqual(hardState(9, 1_000_000));
  expect([log.firstIndex, log.lastIndex, log.termOf(1_000_000)]).toEqual([1_000_001, 1_000_001, 9]);
  const [entry] = log.slice(1_000_001, 1_000_002, Infinity);
  expect(entry && commandOf(entry.data)).toEqual({ kind: "compact", revision: 500 });
});

test("its first segment alone has the entries before the snapshot", () => {
  const log = openLog(diskWith(goldenFiles().slice(0, 1)));
  expect(log.hardState).toEqual(hardState(3, 3));
  expect([log.firstIndex, log.lastIndex]).toEqual([1, 6]);
  const entries = log.slice(1, 7, Infinity);
  expect(entries.map(({ term, kind }) => `${term} ${kind}`)).toEqual([
    "2 normal",
    "2 normal",
    "2 normal",
    "3 normal",
    "3 membership",
    "3 normal",
  ]);
  expect(entries[4]?.data).toEqual(Uint8Array.of(1, 2, 3));
});

test("the same writes make the same bytes", () => {
  const made = filesOf(buildGoldenLog());
  expect(made.map(({ name }) => name)).toEqual(SEGMENTS);
  for (const [place, { bytes }] of goldenFiles().entries()) {
    expect(Buffer.compare(bytes, made[place]?.bytes ?? new Uint8Array(0)), SEGMENTS[place]).toBe(0);
  }
});

test("wal dump prints it as text and as JSON", async () => {
  const text = await dump(FOLDER);
  expect(text.text).toBe(readFileSync(`${FOLDER}/dump.txt`, "utf8"));
  expect(text.code).toBe(0);
  const json = await dump(FOLDER, "--json");
  const lines = json.text.trim().split("\n");
  expect(lines.length).toBe(text.text.trim().split("\n").length);
  const found = lines.map((line) => JSON.parse(line) as { kind: string; command?: unknown });
  expect(found.find((line) => line.command !== undefined)).toMatchObject({
    kind: "item",
    item: { kind: "entry", entry: { term: 2, index: 2 } },
    command: { command: { kind: "put", key: Buffer.from("alpha").toString("base64") } },
  });
});

test("a segment of an unknown format is refused with a clear message", () => {
  const [first] = goldenFiles() as [GoldenFile];
  first.bytes[7] = "2".charCodeAt(0);
  new DataView(first.bytes.buffer).setUint32(12, crc32c(first.bytes, { end: 12 }), true);
  expect(() => openLog(diskWith([first]))).toThrow(
    `${DIRECTORY}/${first.name} has format 2, this version reads 1: another version wrote it`,
  );
  expect(textOf(first.bytes.subarray(0, 8))).toBe("QUORWAL2");
});
