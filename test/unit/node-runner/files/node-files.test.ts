/** Durable writes on the real disk: what a file holds after them, also where it was only extended. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import type { OpenFile } from "../../../../node-runner/files/files.ts";
import { NodeFiles } from "../../../../node-runner/files/node-files.ts";
import { makeTempDir, removeTempDir } from "../../../support/temp-dir.ts";

const FILE_BYTES = 1024 * 1024;
const WRITE_BYTES = 20_000;

const files = new NodeFiles();
const opened: { file: OpenFile; directory: string }[] = [];

afterEach(() => {
  for (const { file, directory } of opened.splice(0)) {
    file.close();
    removeTempDir(directory);
  }
});

function open(content?: Uint8Array): OpenFile {
  const directory = makeTempDir("files");
  const path = join(directory, "file");
  if (content !== undefined) writeFileSync(path, content);
  const file = files.open(path, { create: content === undefined });
  opened.push({ file, directory });
  return file;
}

function writeDurable(file: OpenFile, position: number, bytes: Uint8Array<ArrayBuffer>) {
  return new Promise<void>((resolve, reject) => {
    file.writeDurable(position, bytes, (fault) => (fault ? reject(fault) : resolve()));
  });
}

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

it("durable writes one behind the other fill an extended file, and nothing else in it changes", async () => {
  const file = open();
  file.truncate(FILE_BYTES);
  file.write(0, filled(100, 255));
  const expected = Buffer.alloc(FILE_BYTES);
  expected.fill(255, 0, 100);
  let position = 100;
  for (let count = 1; position + WRITE_BYTES <= FILE_BYTES; count += 1) {
    await writeDurable(file, position, filled(WRITE_BYTES, count));
    expected.fill(count, position, position + WRITE_BYTES);
    expect(expected.equals(readFileSync(file.path)), `after write ${count}`).toBe(true);
    position += WRITE_BYTES;
  }
});

it("the first durable write into an extended file claims the disk's blocks for those that follow", async () => {
  const file = open();
  file.truncate(FILE_BYTES);
  await writeDurable(file, 0, filled(100, 1));
  const claimed = statSync(file.path).blocks;
  expect(claimed * 512).toBeGreaterThan(10 * WRITE_BYTES);
  for (let count = 0; count < 10; count += 1) {
    await writeDurable(file, 100 + count * WRITE_BYTES, filled(WRITE_BYTES, 1));
  }
  expect(statSync(file.path).blocks).toBe(claimed);
});

it("a durable write over what a file holds changes its own bytes alone", async () => {
  const content = filled(FILE_BYTES, 7);
  const file = open(content);
  await writeDurable(file, 1000, filled(WRITE_BYTES, 8));
  content.fill(8, 1000, 1000 + WRITE_BYTES);
  expect(Buffer.from(content).equals(readFileSync(file.path))).toBe(true);
});

it("a file that was cut and extended again is zeros behind the cut, and takes durable writes there", async () => {
  const file = open(filled(FILE_BYTES, 7));
  file.truncate(5000);
  file.truncate(FILE_BYTES);
  await writeDurable(file, 5000, filled(WRITE_BYTES, 8));
  await writeDurable(file, 200_000, filled(WRITE_BYTES, 9));
  const expected = Buffer.alloc(FILE_BYTES);
  expected.fill(7, 0, 5000);
  expected.fill(8, 5000, 5000 + WRITE_BYTES);
  expected.fill(9, 200_000, 200_000 + WRITE_BYTES);
  expect(expected.equals(readFileSync(file.path))).toBe(true);
});

it("a durable write at the end of an extended file makes it no longer than its bytes need", async () => {
  const file = open();
  file.truncate(10_000);
  await writeDurable(file, 0, filled(9000, 1));
  expect(file.size()).toBe(10_000);
  await writeDurable(file, 9000, filled(3000, 2));
  expect(file.size()).toBe(12_000);
});

it("a write behind a gap leaves what was written behind it alone", async () => {
  const file = open();
  file.truncate(FILE_BYTES);
  await writeDurable(file, 200_000, filled(WRITE_BYTES, 3));
  await writeDurable(file, 0, filled(100, 4));
  expect(file.read(200_000, WRITE_BYTES)).toEqual(filled(WRITE_BYTES, 3));
});
