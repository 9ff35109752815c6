/**
 * A member's disk: what survives its crashes. The log is the production write-ahead log on files
 * that lose, tear or spoil what was not flushed; flushes take time, and fail when told to. Rot may
 * be put into what was durable: then the log must refuse to open, or hold all the same what it held
 * before.
 */
import { MemoryFiles } from "../../node-runner/files/memory-files.ts";
import type { Files } from "../../node-runner/files/files.ts";
import { replay } from "../../node-runner/wal/replay.ts";
import { WriteAheadLog } from "../../node-runner/wal/write-ahead-log.ts";
import type { Backend } from "../../shared/backend/backend.ts";
import { MemoryBackend } from "../../shared/backend/memory-backend.ts";
import { crc32c } from "../../shared/base/crc32c.ts";
import type { Prng } from "../../shared/base/prng.ts";
import { appliedTermOf } from "../../shared/peer/state/member-table.ts";
import type { BackendOrder, DiskPoint } from "./sim-backend.ts";
import { SimBackend } from "./sim-backend.ts";
import type { SimProcess } from "./sim-process.ts";

const DIRECTORY = "wal";
/** The marker of a record (`node-runner/wal/layout.ts`); no value of the workload holds it. */
const RECORD_MARKER = Buffer.from("QREC");

export interface SimDiskOptions {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly flushMilliseconds: number;
  /** Small ones make segment changes frequent. */
  readonly segmentBytes: number;
  readonly order: BackendOrder;
}

export interface DiskListener {
  /** The process can't go on with this disk. */
  onFault(fault: Error): void;
  reached(point: DiskPoint): void;
  /** A flush failed, and the process goes on all the same. */
  ignored(): void;
}

export class SimDisk {
  /** Milliseconds of a flush, at most; a slow disk has a higher one. */
  flushMillisecondsMax: number;
  /** Whether a flush has failed since the process was started. */
  hasFailed = false;
  readonly #options: SimDiskOptions;
  readonly #files = new MemoryFiles((run) => this.#complete(run));
  #process: SimProcess | undefined;
  #listener: DiskListener | undefined;
  #backend = new MemoryBackend({ durability: "flush" });
  #installedIndex = 0;
  #fault: Error | undefined;
  #rot: { readonly path: string; readonly position: number; readonly before: string } | undefined;

  constructor(options: SimDiskOptions) {
    this.#options = options;
    this.flushMillisecondsMax = options.flushMilliseconds;
  }

  get isRotten(): boolean {
    return this.#rot !== undefined;
  }

  /**
   * What a process finds at its start. Throws `WalDamageError` when there is rot and it is seen; an
   * error of the system when the disk fails.
   */
  open(process: SimProcess, listener: DiskListener): { log: WriteAheadLog; backend: Backend } {
    this.#process = process;
    this.#listener = listener;
    this.hasFailed = false;
    const onFault = (fault: Error): void => {
      this.hasFailed = true;
      listener.onFault(fault);
    };
    const log = this.#openLog(this.#files, {
      salt: process.prng.uint32(),
      onFault,
      schedule: (run) => process.after(0, run),
    });
    this.#checkRot(log);
    const backend = new SimBackend(process, this.#backend, {
      order: this.#options.order,
      delay: () => this.#delay(),
      logDurableIndex: () => log.durableIndex,
      fault: () => this.#fault,
      onFault,
      reached: (point) => listener.reached(point),
      installed: (index) => {
        this.#installedIndex = index;
      },
    });
    this.#join(log);
    return { log, backend };
  }

  /** The process on it has died. */
  crash(prng: Prng): void {
    this.#process = undefined;
    this.#files.crash(prng);
    this.#files.fail(this.#fault);
    this.#backend = this.#backend.crashed();
  }

  /** The next flush of the log fails. */
  failNextFlush(): void {
    this.#files.failNext(systemError("EIO", "i/o error"));
  }

  /** Whatever writes fails until `setFull(false)`. */
  setFull(full: boolean): void {
    this.#fault = full ? systemError("ENOSPC", "no space left on device") : undefined;
    this.#files.fail(this.#fault);
  }

  /**
   * Flips a bit in what was durable, while no process runs. The very last record is left out: its
   * rot can't be told from a torn write. False when there is nothing else.
   */
  rot(prng: Prng): boolean {
    if (this.#rot !== undefined || this.#process !== undefined) return false;
    const before = this.#contentOfCopy();
    if (before === undefined) return false;
    const places = this.#durableStretches();
    if (places.length === 0) return false;
    const { path, end } = prng.pick(places);
    const position = prng.below(end);
    this.#files.rot(path, position);
    this.#rot = { path, position, before };
    return true;
  }

  /** Takes all faults away, also the rot. */
  repair(): void {
    this.flushMillisecondsMax = 2;
    this.setFull(false);
    if (this.#rot === undefined) return;
    const { path, position } = this.#rot;
    this.#rot = undefined;
    if (this.#files.exists(path)) this.#files.rot(path, position);
  }

  #delay(): number {
    const prng = this.#process?.prng;
    return prng === undefined ? 0 : prng.between(100, this.flushMillisecondsMax * 1000) / 1000;
  }

  #complete(run: () => void): void {
    const process = this.#process;
    process?.after(this.#delay(), () => {
      const before = this.#files.failures;
      run();
      if (this.#files.failures > before && process.alive) this.#listener?.ignored();
    });
  }

  #openLog(
    files: Files,
    options: Pick<Parameters<typeof WriteAheadLog.open>[0], "salt" | "onFault" | "schedule">,
  ): WriteAheadLog {
    const { clusterId, memberId, segmentBytes } = this.#options;
    const identity = { clusterId, memberId };
    return WriteAheadLog.open({ ...options, files, directory: DIRECTORY, identity, segmentBytes });
  }

  /** As production does it: the log goes on where the backend ends. */
  #join(log: WriteAheadLog): void {
    const applied = this.#backend.visibleIndex;
    if (this.#options.order === "ahead of the log" || applied <= log.lastIndex) return;
    const term = appliedTermOf(this.#backend);
    if (this.#installedIndex !== applied || term === undefined) {
      throw new Error(`the backend ends with ${applied}, the log already with ${log.lastIndex}`);
    }
    log.restartBehind({ index: applied, term });
  }

  /** A log that opens in spite of rot must be whole. */
  #checkRot(log: WriteAheadLog): void {
    if (this.#rot === undefined) return;
    const { path, position, before } = this.#rot;
    this.#rot = undefined;
    const after = contentOf(log);
    if (after === before) return;
    throw new Error(`rot in ${path} at ${position} was taken for ${after} instead of ${before}`);
  }

  /** Segments, each up to its end or, in the last one, up to its last record. */
  #durableStretches(): { readonly path: string; readonly end: number }[] {
    const { clusterId, memberId } = this.#options;
    const where = { files: this.#files, directory: DIRECTORY };
    const log = replay({ ...where, identity: { clusterId, memberId } }, () => {});
    const stretches = log.segments.map(({ path }, place) => {
      const bytes = Buffer.from(contentOfFile(this.#files, path));
      if (place < log.segments.length - 1) return { path, end: bytes.length };
      const end = bytes.lastIndexOf(RECORD_MARKER, log.position - 1);
      // With one record only, the whole segment is part of it.
      return { path, end: end === bytes.indexOf(RECORD_MARKER) ? 0 : end };
    });
    return stretches.filter(({ end }) => end > 0);
  }

  /** Undefined when there is no log yet. */
  #contentOfCopy(): string | undefined {
    if (this.#files.list(DIRECTORY).length === 0) return undefined;
    const copy = new MemoryFiles(() => {});
    for (const name of this.#files.list(DIRECTORY)) {
      const path = `${DIRECTORY}/${name}`;
      copy.open(path, { create: true }).write(0, contentOfFile(this.#files, path));
    }
    return contentOf(this.#openLog(copy, { salt: 1, onFault: () => {}, schedule: () => {} }));
  }
}

function contentOfFile(files: Files, path: string): Uint8Array {
  const file = files.open(path, { create: false });
  return file.read(0, file.size());
}

/** All that a log holds, as a text to compare. */
function contentOf(log: WriteAheadLog): string {
  const { firstIndex, lastIndex, hardState } = log;
  let sum = 0;
  for (const { data, term } of log.slice(firstIndex, lastIndex + 1, Infinity)) {
    sum = crc32c(data, { previous: sum + term });
  }
  const { term, vote, commit } = hardState ?? { term: 0, vote: undefined, commit: 0 };
  return `[${firstIndex}, ${lastIndex}] sum ${sum} term ${term} vote ${vote} commit ${commit}`;
}

function systemError(code: string, text: string): Error {
  return Object.assign(new Error(`${code}: ${text}`), { code });
}
