/**
 * `Files` with a hook before and after every call that changes the disk: the tests' way to let a
 * call fail, to count calls, and to die between two of them. The hook may throw: the call then
 * fails with that (a durable write hands it to its `done`).
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Files, OpenFile } from "../../node-runner/files/files.ts";

/** `create` is an `open` that makes the file. */
export type FileCall =
  | "create"
  | "write"
  | "writeDurable"
  | "truncate"
  | "sync"
  | "rename"
  | "remove"
  | "syncDirectory";

/** Where the hook is: `to` is the new name of a rename, `bytes` what is written. */
export interface FilePoint {
  readonly when: "before" | "after";
  readonly call: FileCall;
  readonly path: string;
  readonly to?: string;
  readonly position?: number;
  readonly bytes?: Bytes;
}

export type FileHook = (point: FilePoint) => void;

export class HookedFiles implements Files {
  readonly #inner: Files;
  readonly #hook: FileHook;

  constructor(inner: Files, hook: FileHook) {
    this.#inner = inner;
    this.#hook = hook;
  }

  open(path: string, options: { create: boolean }): OpenFile {
    const creates = options.create && !this.#inner.exists(path);
    const open = (): OpenFile => this.#inner.open(path, options);
    const file = creates ? this.#around({ call: "create", path }, open) : open();
    return new HookedFile(file, this.#hook);
  }

  exists(path: string): boolean {
    return this.#inner.exists(path);
  }

  list(directory: string): readonly string[] {
    return this.#inner.list(directory);
  }

  makeDirectory(path: string): void {
    this.#inner.makeDirectory(path);
  }

  rename(from: string, to: string): void {
    this.#around({ call: "rename", path: from, to }, () => this.#inner.rename(from, to));
  }

  remove(path: string): void {
    this.#around({ call: "remove", path }, () => this.#inner.remove(path));
  }

  syncDirectory(path: string): void {
    this.#around({ call: "syncDirectory", path }, () => this.#inner.syncDirectory(path));
  }

  #around<Result>(point: Omit<FilePoint, "when">, run: () => Result): Result {
    this.#hook({ ...point, when: "before" });
    const result = run();
    this.#hook({ ...point, when: "after" });
    return result;
  }
}

class HookedFile implements OpenFile {
  readonly #inner: OpenFile;
  readonly #hook: FileHook;

  constructor(inner: OpenFile, hook: FileHook) {
    this.#inner = inner;
    this.#hook = hook;
  }

  get path(): string {
    return this.#inner.path;
  }

  size(): number {
    return this.#inner.size();
  }

  read(position: number, length: number): Bytes {
    return this.#inner.read(position, length);
  }

  write(position: number, bytes: Bytes): void {
    this.#around({ call: "write", position, bytes }, () => this.#inner.write(position, bytes));
  }

  writeDurable(position: number, bytes: Bytes, done: (fault: Error | undefined) => void): void {
    const point = { call: "writeDurable", path: this.path, position, bytes } as const;
    let refused: Error | undefined;
    try {
      this.#hook({ ...point, when: "before" });
    } catch (error) {
      refused = error as Error;
    }
    if (refused !== undefined) return void setImmediate(() => done(refused));
    this.#inner.writeDurable(position, bytes, (fault) => {
      let late: Error | undefined;
      try {
        this.#hook({ ...point, when: "after" });
      } catch (error) {
        late = error as Error;
      }
      done(fault ?? late);
    });
  }

  truncate(size: number): void {
    this.#around({ call: "truncate" }, () => this.#inner.truncate(size));
  }

  sync(): void {
    this.#around({ call: "sync" }, () => this.#inner.sync());
  }

  close(): void {
    this.#inner.close();
  }

  #around(point: Omit<FilePoint, "when" | "path">, run: () => void): void {
    this.#hook({ ...point, path: this.path, when: "before" });
    run();
    this.#hook({ ...point, path: this.path, when: "after" });
  }
}
