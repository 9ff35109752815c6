/** A file that is read at any place: what the readers of snapshots work on, and a twin for tests. */
import * as fs from "node:fs";
import type { Bytes } from "../../shared/base/bytes.ts";

/** The file is no snapshot that can be used, and why. */
export class SnapshotFileError extends Error {
  override readonly name = "SnapshotFileError";
}

export interface ReadableFile {
  readonly size: number;
  /** A fresh array of the bytes of [position, position + length), fewer at the file's end. */
  readonly read: (position: number, length: number) => Bytes;
}

export function fileOfBytes(bytes: Bytes): ReadableFile {
  return {
    size: bytes.length,
    read: (position, length) => bytes.slice(position, position + length),
  };
}

/** Throws `SnapshotFileError` when there is no such file. */
export function openReadable(path: string): ReadableFile & { close(): void } {
  let descriptor: number;
  try {
    descriptor = fs.openSync(path, "r");
  } catch (cause) {
    throw new SnapshotFileError(`it can't be opened: ${(cause as Error).message}`, { cause });
  }
  const { size } = fs.fstatSync(descriptor);
  return {
    size,
    read(position, length) {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, size - position)));
      let count = 0;
      while (count < bytes.length) {
        const more = fs.readSync(descriptor, bytes, count, bytes.length - count, position + count);
        if (more === 0) return bytes.slice(0, count);
        count += more;
      }
      return bytes;
    },
    close: () => fs.closeSync(descriptor),
  };
}
