/**
 * A member's backend on a simulated disk, as wide as its interface allows. "behind the log", as the
 * production one: what is durable never gets ahead of the durable log. "ahead of the log": an apply
 * may become durable by itself, untold, so that after a crash the backend is anywhere between
 * `durableIndex` and `visibleIndex`.
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
import type { MemoryBackend } from "../../shared/backend/memory-backend.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { SimProcess } from "./sim-process.ts";

/** How often an apply is made durable by itself, untold. */
const SPONTANEOUS_FLUSH = 0.2;
/** Before the switch to a received snapshot, and between the switch and its being told, each. */
const INSTALL_MILLISECONDS_MAX = 50;
/** How often a flush is done as soon as it is asked for, and only told later. */
const FLUSHED_EARLY = 0.5;
const RETRY_MILLISECONDS = 1;

export type BackendOrder = "behind the log" | "ahead of the log";

/** Moments at which a crash is worth most. */
export type DiskPoint = "beforeSwitch" | "switched" | "flushing" | "flushed";

export interface SimBackendOptions {
  readonly order: BackendOrder;
  /** Milliseconds of a flush of the log; the backend's takes longer. */
  delay(): number;
  logDurableIndex(): number;
  /** The disk's fault, if it doesn't work now. */
  fault(): Error | undefined;
  onFault(fault: Error): void;
  reached(point: DiskPoint): void;
  /** A received snapshot is durable: the log may end before this index. */
  installed(index: number): void;
}

export class SimBackend implements Backend {
  readonly #process: SimProcess;
  readonly #base: MemoryBackend;
  readonly #options: SimBackendOptions;
  #durableIndex: number;
  #flushing = false;
  #wanted = false;

  constructor(process: SimProcess, base: MemoryBackend, options: SimBackendOptions) {
    this.#process = process;
    this.#base = base;
    this.#options = options;
    this.#durableIndex = base.durableIndex;
  }

  get visibleIndex(): number {
    return this.#base.visibleIndex;
  }
  get durableIndex(): number {
    return Math.min(this.#durableIndex, this.visibleIndex);
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
    this.#base.apply(index, fill);
    if (this.#mayFlush && this.#process.prng.chance(SPONTANEOUS_FLUSH)) this.#base.flush();
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
      congested: shadow.congested,
      apply: (fill) => {
        this.#assertAlive();
        shadow.apply(fill);
      },
      install: async (index, switched) => {
        this.#options.reached("beforeSwitch");
        await this.#process.sleep(this.#process.prng.below(INSTALL_MILLISECONDS_MAX));
        this.#assertAlive();
        await shadow.install(index, () => {
          this.#durableIndex = index;
          this.#options.installed(index);
          switched?.();
        });
        this.#options.reached("switched");
        await this.#process.sleep(this.#process.prng.below(INSTALL_MILLISECONDS_MAX));
      },
      discard: () => shadow.discard(),
    };
  }

  /** The durable log has all that is applied, or that doesn't matter. */
  get #mayFlush(): boolean {
    if (this.#options.order === "ahead of the log") return true;
    return this.#options.logDurableIndex() >= this.#base.visibleIndex;
  }

  #flush(): void {
    this.#flushing = true;
    if (!this.#mayFlush) {
      this.#process.after(RETRY_MILLISECONDS, () => this.#flush());
      return;
    }
    const fault = this.#options.fault();
    if (fault !== undefined) return this.#options.onFault(fault);
    this.#wanted = false;
    this.#options.reached("flushing");
    // It may reach the disk long before it is told, or just then.
    const early = this.#process.prng.chance(FLUSHED_EARLY);
    if (early) this.#base.flush();
    const index = this.#base.visibleIndex;
    this.#process.after(this.#options.delay() * 3, () => {
      if (early) this.#flushed(index);
      else this.#flushLate();
    });
  }

  #flushLate(): void {
    if (!this.#mayFlush) {
      this.#process.after(RETRY_MILLISECONDS, () => this.#flushLate());
      return;
    }
    this.#base.flush();
    this.#flushed(this.#base.visibleIndex);
  }

  #flushed(index: number): void {
    this.#durableIndex = Math.max(this.#durableIndex, index);
    this.#flushing = false;
    this.#options.reached("flushed");
    if (this.#wanted) this.#flush();
  }

  #assertAlive(): void {
    if (!this.#process.alive) throw new BackendError("the machine is down");
  }
}
