/**
 * A member's disk: what survives its crashes. Log writes become durable by flushes that take time; a crash keeps a
 * prefix of the unflushed ones, the next of them perhaps torn. The backend, as its interface allows, may be durable
 * further than it tells: after a crash it is at some apply between `durableIndex` and `visibleIndex`.
 */
import type {
  Backend,
  BackendSizes,
  BatchWriter,
  PinnedReader,
  ScanOptions,
  ShadowBackend,
  Table,
} from "../../shared/backend/backend.ts";
import { BackendError } from "../../shared/backend/backend.ts";
import { MemoryBackend } from "../../shared/backend/memory-backend.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Prng } from "../../shared/base/prng.ts";
import type { LogStore, LogWrite } from "../../shared/raft/log-store.ts";
import { MemoryLogStore } from "../../shared/raft/memory-log-store.ts";
import type { Entry, HardState } from "../../shared/raft/types.ts";
import type { Mutant } from "./mutants.ts";
import type { SimProcess } from "./sim-process.ts";

/** How often a crash tears the first lost write instead of losing it whole. */
const TORN = 0.5;
/** How often an apply is made durable by itself, untold. */
const SPONTANEOUS_FLUSH = 0.2;
/** Before the switch to a received snapshot, and between the switch and its being told, each. */
const INSTALL_MILLISECONDS_MAX = 50;

export class SimDisk {
  /** Milliseconds of a flush, at most; a slow disk has a higher one. */
  flushMillisecondsMax: number;
  #log = new MemoryLogStore({ flush: "explicit" });
  #backend = new MemoryBackend({ durability: "flush" });
  #opened: SimLogStore | undefined;
  readonly #mutant: Mutant | undefined;

  constructor(flushMillisecondsMax: number, mutant: Mutant | undefined) {
    this.flushMillisecondsMax = flushMillisecondsMax;
    this.#mutant = mutant;
  }

  open(process: SimProcess): { log: SimLogStore; backend: Backend } {
    const delay = (): number => process.prng.between(100, this.flushMillisecondsMax * 1000) / 1000;
    this.#opened = new SimLogStore(process, this.#log, { delay, mutant: this.#mutant });
    return {
      log: this.#opened,
      backend: new SimBackend(process, this.#backend, { delay, mutant: this.#mutant }),
    };
  }

  /** The process on it has died. */
  crash(prng: Prng): void {
    this.#log = this.#opened?.crashed(prng) ?? this.#log;
    this.#backend = this.#backend.crashed();
  }
}

interface DiskOptions {
  readonly delay: () => number;
  readonly mutant: Mutant | undefined;
}

export class SimLogStore implements LogStore {
  onDurable: (sequence: number) => void = () => {};
  readonly #process: SimProcess;
  readonly #store: MemoryLogStore;
  readonly #options: DiskOptions;
  #unflushed: LogWrite[] = [];
  #flushing = false;

  constructor(process: SimProcess, store: MemoryLogStore, options: DiskOptions) {
    this.#process = process;
    this.#store = store;
    this.#options = options;
    store.onDurable = (sequence) => {
      if (options.mutant !== "ackBeforeDurable") this.onDurable(sequence);
    };
  }

  get hardState(): HardState | undefined {
    return this.#store.hardState;
  }
  get firstIndex(): number {
    return this.#store.firstIndex;
  }
  get lastIndex(): number {
    return this.#store.lastIndex;
  }
  termOf(index: number): number | undefined {
    return this.#store.termOf(index);
  }
  slice(low: number, high: number, bytesMax: number): readonly Entry[] {
    return this.#store.slice(low, high, bytesMax);
  }
  compact(index: number): void {
    this.#store.compact(index);
  }

  append(write: LogWrite): void {
    if (!this.#process.alive) return;
    const { mutant } = this.#options;
    this.#store.append(write);
    this.#unflushed.push(write);
    if (mutant === "ackBeforeDurable") {
      this.#process.after(0, () => this.onDurable(write.sequence));
    }
    if (!this.#flushing) this.#flush();
  }

  /** What a machine finds after a crash. */
  crashed(prng: Prng): MemoryLogStore {
    this.#store.onDurable = () => {};
    const survivors = prng.below(this.#unflushed.length + 1);
    this.#store.flush(survivors);
    const lost = this.#unflushed[survivors];
    const found = this.#store.crash();
    if (lost === undefined || !prng.chance(TORN)) return found;
    const entries = lost.entries.slice(0, prng.below(lost.entries.length + 1));
    found.append({ ...lost, sequence: 1, entries });
    found.flush();
    return found.crash();
  }

  #flush(): void {
    this.#flushing = true;
    const count = this.#unflushed.length;
    this.#process.after(this.#options.delay(), () => {
      this.#unflushed = this.#unflushed.slice(count);
      this.#store.flush(count);
      if (this.#unflushed.length > 0) this.#flush();
      else this.#flushing = false;
    });
  }
}

class SimBackend implements Backend {
  readonly #process: SimProcess;
  readonly #base: MemoryBackend;
  readonly #options: DiskOptions;
  #durableIndex: number;
  #flushing = false;
  #wanted = false;

  constructor(process: SimProcess, base: MemoryBackend, options: DiskOptions) {
    this.#process = process;
    this.#base = base;
    this.#options = options;
    this.#durableIndex = base.durableIndex;
  }

  get visibleIndex(): number {
    const { visibleIndex } = this.#base;
    // The mutant forgets its last applies after a restart, but not their effects.
    const forgets = this.#options.mutant === "applyTwice" && !this.#applied;
    return forgets ? Math.max(0, visibleIndex - 3) : visibleIndex;
  }
  #applied = false;

  get durableIndex(): number {
    return this.#options.mutant === "durableTooEarly"
      ? this.#base.visibleIndex
      : Math.min(this.#durableIndex, this.visibleIndex);
  }
  get congested(): boolean {
    return false;
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    return this.#base.get(table, key);
  }
  scan(table: Table, options: ScanOptions, visit: (key: Bytes, value: Bytes) => boolean): void {
    this.#base.scan(table, options, visit);
  }
  pin(): PinnedReader {
    return this.#base.pin();
  }
  sizes(): BackendSizes {
    return this.#base.sizes();
  }
  defragment(): Promise<void> {
    return this.#base.defragment();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }

  apply(index: number, fill: (writer: BatchWriter) => void): void {
    this.#assertAlive();
    this.#base.apply(Math.max(index, this.#base.visibleIndex), fill);
    this.#applied = true;
    if (!this.#process.prng.chance(SPONTANEOUS_FLUSH)) return;
    if (this.#options.mutant !== "durableTooEarly") this.#base.flush();
  }

  flush(): void {
    this.#assertAlive();
    this.#wanted = true;
    if (!this.#flushing) this.#flush();
  }

  shadow(): ShadowBackend {
    this.#assertAlive();
    const shadow = this.#base.shadow();
    return {
      apply: (fill) => {
        this.#assertAlive();
        shadow.apply(fill);
      },
      install: async (index, switched) => {
        await this.#process.sleep(this.#process.prng.below(INSTALL_MILLISECONDS_MAX));
        this.#assertAlive();
        await shadow.install(index, () => {
          this.#durableIndex = index;
          switched?.();
        });
        await this.#process.sleep(this.#process.prng.below(INSTALL_MILLISECONDS_MAX));
      },
      discard: () => shadow.discard(),
    };
  }

  #flush(): void {
    this.#flushing = true;
    this.#wanted = false;
    if (this.#options.mutant !== "durableTooEarly") this.#base.flush();
    const index = this.#base.visibleIndex;
    this.#process.after(this.#options.delay() * 3, () => {
      this.#durableIndex = Math.max(this.#durableIndex, index);
      this.#flushing = false;
      if (this.#wanted) this.#flush();
    });
  }

  #assertAlive(): void {
    if (!this.#process.alive) throw new BackendError("the machine is down");
  }
}
