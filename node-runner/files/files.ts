/**
 * The disk, as the write-ahead log and the data directory see it: a few synchronous calls for
 * start, stop and segment changes, and one asynchronous durable write for the hot path.
 * `node-files.ts` is the real one; `memory-files.ts` is a twin that keeps after `crash()` only what
 * was synced (perhaps more, perhaps torn).
 *
 * Promises of an implementation
 * - `writeDurable` calls `done` once, later (never inside the call), when the bytes and what is
 *   needed to read them back survive a crash of the machine, or with the fault. The caller keeps
 *   the bytes unchanged until then and has at most one such write under way per file. After a fault
 *   nothing is known about the file's content: it must not be written again.
 * - `write` and `truncate` survive a crash only once `sync` returned; names (open with create,
 *   rename, remove, makeDirectory) only once `syncDirectory` of their folder returned, and in the
 *   order in which they were made.
 * - All calls throw the system's error as it is (an `Error` with `code`).
 */
import type { Bytes } from "../../shared/base/bytes.ts";

export interface OpenFile {
  readonly path: string;
  size(): number;
  /** The bytes of [position, position + length), fewer at the end of the file. */
  read(position: number, length: number): Bytes;
  write(position: number, bytes: Bytes): void;
  writeDurable(position: number, bytes: Bytes, done: (fault: Error | undefined) => void): void;
  /** Cuts the file, or extends it by zeros without claiming space. */
  truncate(size: number): void;
  sync(): void;
  close(): void;
}

export interface Files {
  /** `create` makes the file if it is absent; otherwise an absent file is an error. */
  open(path: string, options: { create: boolean }): OpenFile;
  exists(path: string): boolean;
  /** The names in a folder, sorted. */
  list(directory: string): readonly string[];
  /** Makes a folder and its absent parents; no error if it is there. */
  makeDirectory(path: string): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  syncDirectory(path: string): void;
}
