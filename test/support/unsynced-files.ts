/**
 * A real folder behind a cache that a crash empties: the crash of a machine for processes that are
 * killed. `kill -9` alone keeps what the system's page cache holds; here an unsynced write is in
 * this process' memory only and reaches the real file at `sync`, and a name (create, rename,
 * remove) reaches the real folder at `syncDirectory`. So a process that is killed loses what it did
 * not sync, and `tear` leaves some sectors and some names behind, as a power failure would.
 *
 * `careless` is the bug that tests must catch: `writeDurable` reports without syncing.
 */
import * as fs from "node:fs";
import type { Files, OpenFile } from "../../node-runner/files/files.ts";
import { NodeFiles } from "../../node-runner/files/node-files.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Prng } from "../../shared/base/prng.ts";

const SECTOR_BYTES = 512;

type Change =
  | { readonly kind: "write"; readonly position: number; readonly bytes: Bytes }
  | { readonly kind: "truncate"; readonly size: number };

export interface UnsyncedOptions {
  /** Called when the bytes of a durable write are there to be read, but not synced. */
  readonly written: () => void;
  readonly careless: boolean;
}

/** A file apart from its name. */
class Inode {
  /** As the process sees it. */
  content: Buffer;
  /** Absent until its name is durable. */
  realPath: string | undefined;
  pending: Change[] = [];
  /** Synced before the name was durable. */
  #unreachable: readonly Change[] = [];

  constructor(content: Buffer, realPath: string | undefined) {
    this.content = content;
    this.realPath = realPath;
  }

  change(change: Change): void {
    const end =
      change.kind === "truncate"
        ? change.size
        : Math.max(this.content.length, change.position + change.bytes.length);
    if (end !== this.content.length) {
      const resized = Buffer.alloc(end);
      this.content.copy(resized);
      this.content = resized;
    }
    if (change.kind === "write") this.content.set(change.bytes, change.position);
    this.pending.push(change);
  }

  sync(): void {
    if (this.realPath === undefined) this.#unreachable = [...this.#unreachable, ...this.pending];
    else this.toReal(this.pending);
    this.pending = [];
  }

  /** Its name is durable from now on. */
  linked(path: string): void {
    fs.closeSync(fs.openSync(path, "w", 0o600));
    this.realPath = path;
    this.toReal(this.#unreachable);
    this.#unreachable = [];
  }

  toReal(changes: readonly Change[]): void {
    if (this.realPath === undefined || changes.length === 0) return;
    const descriptor = fs.openSync(this.realPath, "r+");
    try {
      for (const change of changes) {
        if (change.kind === "truncate") fs.ftruncateSync(descriptor, change.size);
        else fs.writeSync(descriptor, change.bytes, 0, change.bytes.length, change.position);
      }
    } finally {
      fs.closeSync(descriptor);
    }
  }

  tear(prng: Prng): void {
    for (const change of this.pending) {
      if (change.kind === "truncate") continue;
      const keep = prng.pick([0, 0.5, 1]);
      const end = change.position + change.bytes.length;
      for (let from = change.position; from < end;) {
        const to = Math.min(end, (Math.floor(from / SECTOR_BYTES) + 1) * SECTOR_BYTES);
        const bytes = change.bytes.subarray(from - change.position, to - change.position);
        if (prng.chance(keep)) this.toReal([{ kind: "write", position: from, bytes }]);
        from = to;
      }
    }
  }
}

export class UnsyncedFiles implements Files {
  readonly #real = new NodeFiles();
  readonly #options: UnsyncedOptions;
  /** Names that differ from the real folder's, and files that were opened. */
  readonly #names = new Map<string, Inode | undefined>();
  #nameChanges: (() => void)[] = [];

  constructor(options: UnsyncedOptions) {
    this.#options = options;
  }

  open(path: string, options: { create: boolean }): OpenFile {
    let inode = this.#names.get(path);
    if (inode === undefined && this.exists(path)) {
      inode = new Inode(fs.readFileSync(path), path);
      this.#names.set(path, inode);
    }
    if (inode === undefined) {
      if (!options.create) throw absent(path);
      inode = new Inode(Buffer.alloc(0), undefined);
      const made = inode;
      this.#names.set(path, made);
      this.#nameChanges.push(() => made.linked(path));
    }
    return new UnsyncedFile(path, inode, this.#options);
  }

  exists(path: string): boolean {
    return this.#names.has(path) ? this.#names.get(path) !== undefined : this.#real.exists(path);
  }

  list(directory: string): readonly string[] {
    const names = new Set(this.#real.list(directory));
    const prefix = `${directory}/`;
    for (const [path, inode] of this.#names) {
      const name = path.slice(prefix.length);
      if (!path.startsWith(prefix) || name.includes("/")) continue;
      if (inode === undefined) names.delete(name);
      else names.add(name);
    }
    return [...names].sort();
  }

  /** Folders are made at once: nothing here depends on losing one. */
  makeDirectory(path: string): void {
    this.#real.makeDirectory(path);
  }

  rename(from: string, to: string): void {
    const inode = this.#inode(from);
    this.#names.set(from, undefined);
    this.#names.set(to, inode);
    this.#nameChanges.push(() => {
      fs.renameSync(from, to);
      inode.realPath = to;
    });
  }

  remove(path: string): void {
    const inode = this.#inode(path);
    this.#names.set(path, undefined);
    this.#nameChanges.push(() => {
      fs.unlinkSync(path);
      inode.realPath = undefined;
    });
  }

  /** All names become durable, not only this folder's: a journal keeps order over all of them. */
  syncDirectory(): void {
    for (const change of this.#nameChanges) change();
    this.#nameChanges = [];
  }

  /** Of what isn't synced some sectors and the first names stay. The process ends right after. */
  tear(prng: Prng): void {
    const kept = prng.between(0, this.#nameChanges.length);
    for (const change of this.#nameChanges.slice(0, kept)) change();
    for (const inode of new Set(this.#names.values())) inode?.tear(prng);
  }

  #inode(path: string): Inode {
    this.open(path, { create: false }).close();
    return this.#names.get(path) as Inode;
  }
}

class UnsyncedFile implements OpenFile {
  readonly path: string;
  readonly #inode: Inode;
  readonly #options: UnsyncedOptions;

  constructor(path: string, inode: Inode, options: UnsyncedOptions) {
    this.path = path;
    this.#inode = inode;
    this.#options = options;
  }

  size(): number {
    return this.#inode.content.length;
  }

  read(position: number, length: number): Bytes {
    return Uint8Array.from(this.#inode.content.subarray(position, position + length));
  }

  write(position: number, bytes: Bytes): void {
    this.#inode.change({ kind: "write", position, bytes: bytes.slice() });
  }

  writeDurable(position: number, bytes: Bytes, done: (fault: Error | undefined) => void): void {
    this.write(position, bytes);
    setImmediate(() => {
      this.#options.written();
      if (!this.#options.careless) this.#inode.sync();
      done(undefined);
    });
  }

  truncate(size: number): void {
    this.#inode.change({ kind: "truncate", size });
  }

  sync(): void {
    this.#inode.sync();
  }

  close(): void {}
}

function absent(path: string): Error {
  return Object.assign(new Error(`ENOENT: no such file, '${path}'`), { code: "ENOENT", path });
}
