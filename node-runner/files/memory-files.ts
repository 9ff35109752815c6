/**
 * A disk in memory that can crash: the twin of `node-files.ts` for tests and the simulator.
 *
 * A file is its durable bytes plus the writes that are not synced yet. `crash` decides for each
 * sector (512 bytes) of each of those writes by chance whether it reached the disk, so that writes
 * are lost, kept, torn or rotten; of the unsynced changes of names it keeps a random head. Every
 * open file is dead afterwards: its pending `done`s are never called and its calls throw. Everything
 * that was synced stays. `rot` flips a bit anywhere. `failNext` lets the next durable write fail,
 * `fail` everything that writes from now on: what a failed flush should have made durable is gone at
 * the crash, whatever is flushed later, as where the kernel drops the pages that it couldn't write.
 */
import { assert } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Prng } from "../../shared/base/prng.ts";
import type { Files, OpenFile } from "./files.ts";

const SECTOR_BYTES = 512;
/** How often a sector that was under way to the disk holds noise afterwards. */
const ROTTEN = 0.1;

/** Runs a completion later: the event loop's next turn by default, the simulator's clock there. */
export type Schedule = (run: () => void) => void;

type Change =
  | { readonly kind: "write"; readonly position: number; readonly bytes: Bytes }
  | { readonly kind: "truncate"; readonly size: number };

function applyChange(content: Bytes, change: Change): Bytes {
  if (change.kind === "truncate") return resized(content, change.size);
  const end = change.position + change.bytes.length;
  const target = end > content.length ? resized(content, end) : content;
  target.set(change.bytes, change.position);
  return target;
}

function resized(content: Bytes, size: number): Bytes {
  const target = new Uint8Array(size);
  target.set(content.subarray(0, Math.min(size, content.length)));
  return target;
}

/** A file apart from its name. */
class Inode {
  /** As every reader sees it now. */
  content: Bytes = new Uint8Array(0);
  durable: Bytes = new Uint8Array(0);
  pending: Change[] = [];

  change(change: Change): void {
    this.content = applyChange(this.content, change);
    this.pending.push(change);
  }

  sync(): void {
    for (const change of this.pending) this.durable = applyChange(this.durable, change);
    this.pending = [];
  }

  /** A flush failed: readers see the writes still, the disk never will. */
  drop(): void {
    this.pending = [];
  }

  crash(prng: Prng): void {
    for (const change of this.pending) {
      if (change.kind === "truncate") {
        if (prng.chance(0.5)) this.durable = applyChange(this.durable, change);
        continue;
      }
      const keep = prng.pick([0, 0.5, 1]);
      const end = change.position + change.bytes.length;
      for (let from = change.position; from < end;) {
        const to = Math.min(end, (Math.floor(from / SECTOR_BYTES) + 1) * SECTOR_BYTES);
        const bytes = change.bytes.subarray(from - change.position, to - change.position);
        const rotten = keep === 0.5 && prng.chance(ROTTEN);
        if (rotten || prng.chance(keep)) {
          const found = rotten ? bytes.map(() => prng.below(256)) : bytes;
          this.durable = applyChange(this.durable, { kind: "write", position: from, bytes: found });
        }
        from = to;
      }
    }
    this.pending = [];
    this.content = this.durable.slice();
  }
}

class MemoryFile implements OpenFile {
  readonly path: string;
  readonly #disk: MemoryFiles;
  readonly #inode: Inode;
  readonly #boot: number;
  #closed = false;

  constructor(path: string, disk: MemoryFiles, inode: Inode) {
    this.path = path;
    this.#disk = disk;
    this.#inode = inode;
    this.#boot = disk.boot;
  }

  #assertOpen(): void {
    assert(!this.#closed && this.#boot === this.#disk.boot, `${this.path} is not open any more`);
  }

  size(): number {
    this.#assertOpen();
    return this.#inode.content.length;
  }

  read(position: number, length: number): Bytes {
    this.#assertOpen();
    return this.#inode.content.slice(position, position + length);
  }

  write(position: number, bytes: Bytes): void {
    this.#assertOpen();
    this.#disk.assertWorks();
    this.#inode.change({ kind: "write", position, bytes: bytes.slice() });
  }

  writeDurable(position: number, bytes: Bytes, done: (fault: Error | undefined) => void): void {
    this.#assertOpen();
    this.#inode.change({ kind: "write", position, bytes: bytes.slice() });
    this.#disk.schedule(() => {
      if (this.#boot !== this.#disk.boot) return;
      const fault = this.#disk.takeFault();
      if (fault === undefined) this.#inode.sync();
      else this.#inode.drop();
      done(fault);
    });
  }

  truncate(size: number): void {
    this.#assertOpen();
    this.#disk.assertWorks();
    this.#inode.change({ kind: "truncate", size });
  }

  sync(): void {
    this.#assertOpen();
    this.#disk.assertWorks();
    this.#inode.sync();
  }

  close(): void {
    this.#closed = true;
  }
}

export class MemoryFiles implements Files {
  readonly schedule: Schedule;
  /** Counts the crashes: files of an earlier boot are dead. */
  boot = 0;
  /** Counts the flushes that failed. */
  failures = 0;
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #nameChanges: ((names: Map<string, Inode>) => void)[] = [];
  /** Of the next durable write, and of everything that writes. */
  #fault: Error | undefined;
  #lasting: Error | undefined;

  constructor(schedule: Schedule) {
    this.schedule = schedule;
  }

  open(path: string, options: { create: boolean }): OpenFile {
    let inode = this.#names.get(path);
    if (inode === undefined) {
      if (!options.create) throw this.#absent(path);
      inode = new Inode();
      const made = inode;
      this.#change((names) => names.set(path, made));
    }
    return new MemoryFile(path, this, inode);
  }

  exists(path: string): boolean {
    return this.#names.has(path);
  }

  list(directory: string): readonly string[] {
    const prefix = `${directory}/`;
    const names = [...this.#names.keys()].filter((path) => path.startsWith(prefix));
    return names
      .map((path) => path.slice(prefix.length))
      .filter((name) => !name.includes("/"))
      .sort();
  }

  /** Folders need no making here: they are prefixes of names. */
  makeDirectory(): void {}

  rename(from: string, to: string): void {
    if (!this.#names.has(from)) throw this.#absent(from);
    this.#change((names) => {
      const inode = names.get(from);
      assert(inode !== undefined, `${from} was renamed in order`);
      names.delete(from);
      names.set(to, inode);
    });
  }

  remove(path: string): void {
    if (!this.#names.has(path)) throw this.#absent(path);
    this.#change((names) => names.delete(path));
  }

  /** All names become durable, not only this folder's: a journal keeps order over all of them. */
  syncDirectory(): void {
    for (const change of this.#nameChanges) change(this.#durableNames);
    this.#nameChanges = [];
  }

  /** The power fails: what is not synced is kept, lost or torn by chance. */
  crash(prng: Prng): void {
    this.boot += 1;
    const kept = prng.between(0, this.#nameChanges.length);
    for (const change of this.#nameChanges.slice(0, kept)) change(this.#durableNames);
    this.#nameChanges = [];
    for (const inode of new Set(this.#durableNames.values())) inode.crash(prng);
    this.#names = new Map(this.#durableNames);
    this.#fault = undefined;
    this.#lasting = undefined;
  }

  /** Flips one bit of a synced file. */
  rot(path: string, position: number): void {
    const inode = this.#names.get(path);
    assert(inode !== undefined, `${path} is there`);
    for (const content of new Set([inode.durable, inode.content])) {
      if (position < content.length) content[position] = (content[position] as number) ^ 1;
    }
  }

  /** The next durable write ends with this fault. */
  failNext(fault: Error): void {
    this.#fault = fault;
  }

  /** Everything that writes fails from now on, until `undefined` is given; a crash ends it too. */
  fail(fault: Error | undefined): void {
    this.#lasting = fault;
  }

  takeFault(): Error | undefined {
    const fault = this.#fault ?? this.#lasting;
    this.#fault = undefined;
    if (fault !== undefined) this.failures += 1;
    return fault;
  }

  assertWorks(): void {
    if (this.#lasting !== undefined) throw this.#lasting;
  }

  #change(change: (names: Map<string, Inode>) => void): void {
    this.assertWorks();
    change(this.#names);
    this.#nameChanges.push(change);
  }

  #absent(path: string): Error {
    return Object.assign(new Error(`ENOENT: no such file, '${path}'`), { code: "ENOENT", path });
  }
}
