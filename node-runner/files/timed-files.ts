/** The disk with a clock beside it: how long each durable write took. All else is the disk's own. */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Files, OpenFile } from "./files.ts";

/** `took`: hears of each durable write that succeeded, in seconds. */
export function timedFiles(files: Files, took: (seconds: number) => void): Files {
  return {
    open: (path, options) => new TimedFile(files.open(path, options), took),
    exists: (path) => files.exists(path),
    list: (directory) => files.list(directory),
    makeDirectory: (path) => files.makeDirectory(path),
    rename: (from, to) => files.rename(from, to),
    remove: (path) => files.remove(path),
    syncDirectory: (path) => files.syncDirectory(path),
  };
}

class TimedFile implements OpenFile {
  readonly #file: OpenFile;
  readonly #took: (seconds: number) => void;

  constructor(file: OpenFile, took: (seconds: number) => void) {
    this.#file = file;
    this.#took = took;
  }

  get path(): string {
    return this.#file.path;
  }

  size(): number {
    return this.#file.size();
  }

  read(position: number, length: number): Bytes {
    return this.#file.read(position, length);
  }

  write(position: number, bytes: Bytes): void {
    this.#file.write(position, bytes);
  }

  writeDurable(position: number, bytes: Bytes, done: (fault: Error | undefined) => void): void {
    const began = performance.now();
    this.#file.writeDurable(position, bytes, (fault) => {
      if (fault === undefined) this.#took((performance.now() - began) / 1000);
      done(fault);
    });
  }

  truncate(size: number): void {
    this.#file.truncate(size);
  }

  sync(): void {
    this.#file.sync();
  }

  close(): void {
    this.#file.close();
  }
}
