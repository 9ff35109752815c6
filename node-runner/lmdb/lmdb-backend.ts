/**
 * The node's `Backend`: an LMDB environment as the committed base, and what it doesn't hold yet in
 * memory on top.
 *
 * `apply` writes to the active overlay only; reads merge active, frozen and base. A batch freezes
 * the active overlay and commits it, with its index, in one LMDB transaction on another thread;
 * when that is flushed, `durableIndex` is the batch's index and the frozen overlay goes. One batch
 * is under way at a time; the next one takes all that came meanwhile. Readers may see a commit in
 * LMDB before its overlay goes: both then say the same.
 *
 * A batch waits for `commitLimit`, the log's durable index: otherwise a crash could leave the
 * backend ahead of the log, with entries that a quorum holds but this log doesn't.
 *
 * The JS heap holds what waits to be committed, never all keys. A pin holds an LMDB read
 * transaction and O(1) clones of the overlays. The first fault of LMDB is final: every later call
 * throws it.
 */
import { assert, assertCount } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { BackendError } from "../../shared/backend/backend.ts";
import type {
  Backend,
  BackendSizes,
  BatchWriter,
  PinnedReader,
  ScanOptions,
  ShadowBackend,
  Table,
} from "../../shared/backend/backend.ts";
import type { Files } from "../files/files.ts";
import { Defragmentation, sizesWith } from "./defragmentation.ts";
import { Environment } from "./environment.ts";
import { Generations } from "./generations.ts";
import { layeredGet, layeredScan, layersHaveLonger } from "./layers.ts";
import { Lease } from "./lease.ts";
import { Overlay } from "../../shared/backend/overlay.ts";
import { LmdbPin } from "./pin.ts";
import { LmdbShadow } from "./shadow.ts";

export interface LmdbBackendOptions {
  readonly files: Files;
  readonly directory: string;
  /** The highest index that may be committed now; by default any. */
  readonly commitLimit?: () => number;
  /** Hears the first fault, at the latest when a call throws it; the peer must stop. */
  readonly onFault?: (fault: BackendError) => void;
  /** Hears how many seconds each committed batch took. */
  readonly onCommit?: ((seconds: number) => void) | undefined;
}

/** How often a batch looks whether the log has caught up. */
const LIMIT_POLL_MILLISECONDS = 2;

interface Frozen {
  readonly overlay: Overlay;
  readonly index: number;
}

export class LmdbBackend implements Backend {
  readonly #options: LmdbBackendOptions;
  readonly #generations: Generations;
  #base: Lease;
  #active = new Overlay();
  #frozen: Frozen | undefined;
  #layers: readonly Overlay[] = [this.#active];
  #visibleIndex: number;
  #durableIndex: number;
  #batchTimer: NodeJS.Timeout | undefined;
  #flushWanted = false;
  #state: "open" | "applying" | "closing" | "broken" = "open";
  #fault: BackendError | undefined;
  #idle: (() => void)[] = [];
  #defragmentation: { readonly work: Defragmentation; readonly done: Promise<void> } | undefined;
  /** A defragmentation lets no batch begin, and waits until none is under way. */
  #batchesPaused = false;

  /** Opens or makes the database. Throws `BackendError` with the reason. */
  static open(options: LmdbBackendOptions): LmdbBackend {
    const generations = Generations.open(options.files, options.directory);
    if (generations.current !== 0) {
      return new LmdbBackend(options, generations, Environment.open(generations.currentPath));
    }
    const { number, path } = generations.begin();
    const environment = Environment.open(path);
    generations.switchTo(number);
    return new LmdbBackend(options, generations, environment);
  }

  private constructor(
    options: LmdbBackendOptions,
    generations: Generations,
    environment: Environment,
  ) {
    this.#options = options;
    this.#generations = generations;
    this.#base = new Lease(environment);
    this.#visibleIndex = environment.index;
    this.#durableIndex = this.#visibleIndex;
  }

  get visibleIndex(): number {
    return this.#visibleIndex;
  }

  get durableIndex(): number {
    return this.#durableIndex;
  }

  /** The index that the snapshot had which was installed last; `undefined`: none ever was. */
  get installedIndex(): number | undefined {
    this.#assertUsable();
    return this.#base.environment.installedIndex;
  }

  get congested(): boolean {
    const frozen = this.#frozen?.overlay;
    const rows = this.#active.rows + (frozen?.rows ?? 0);
    const bytes = this.#active.bytes + (frozen?.bytes ?? 0);
    if (rows > LIMITS.backendPendingRowsMax || bytes > LIMITS.backendPendingBytesMax) return true;
    return (this.#defragmentation?.work.keptBytes ?? 0) > LIMITS.defragmentBytesMax;
  }

  get(table: Table, key: Bytes): Bytes | undefined {
    this.#assertUsable();
    try {
      return layeredGet(this.#layers, this.#base.environment, table, key);
    } catch (cause) {
      throw cause instanceof BackendError ? this.#faultOf(cause) : cause;
    }
  }

  scan(table: Table, options: ScanOptions, visit: (key: Bytes, value: Bytes) => boolean): void {
    this.#assertUsable();
    try {
      layeredScan(this.#layers, this.#base.environment, { table, options, visit });
    } catch (cause) {
      throw cause instanceof BackendError ? this.#faultOf(cause) : cause;
    }
  }

  apply(index: number, fill: (writer: BatchWriter) => void): void {
    this.#assertUsable();
    assert(this.#state === "open", "no apply inside an apply, nor while closing");
    assertCount(index, "index");
    assert(index >= this.#visibleIndex, `index ${index} falls behind ${this.#visibleIndex}`);
    this.#state = "applying";
    try {
      fill(this.#active);
    } catch (cause) {
      this.#state = "broken";
      throw cause;
    }
    this.#state = "open";
    this.#visibleIndex = index;
    this.#startBatchSoon();
  }

  flush(): void {
    this.#assertUsable();
    this.#flushWanted = true;
    if (this.#frozen === undefined) this.#startBatch();
  }

  pin(): PinnedReader {
    this.#assertUsable();
    assert(this.#state === "open", "no pin inside an apply");
    const layers = [new Overlay(this.#active)];
    if (this.#frozen !== undefined) layers.push(this.#frozen.overlay);
    return new LmdbPin(this.#visibleIndex, layers, this.#base);
  }

  shadow(): ShadowBackend {
    this.#assertUsable();
    const { number, path } = this.#generations.begin();
    return new LmdbShadow(Environment.open(path), {
      install: (environment, index) => this.#install(environment, index, number),
      discard: () => this.#generations.remove(number),
    });
  }

  sizes(): BackendSizes {
    this.#assertUsable();
    const pendingBytes = this.#active.bytes + (this.#frozen?.overlay.bytes ?? 0);
    return sizesWith(this.#base.environment.sizes(), pendingBytes);
  }

  defragment(): Promise<void> {
    this.#assertUsable();
    assert(this.#state === "open", "no defragmentation inside an apply, nor while closing");
    if (this.#defragmentation !== undefined) return this.#defragmentation.done;
    const base = this.#base;
    base.hold();
    const work = new Defragmentation(
      {
        generations: this.#generations,
        environment: () =>
          this.#state === "open" && this.#fault === undefined ? this.#base.environment : undefined,
        pauseBatches: () => {
          this.#batchesPaused = true;
          return this.#untilIdle();
        },
        resumeBatches: () => {
          this.#batchesPaused = false;
          if (this.#fault !== undefined || this.#state === "closing") return;
          if (this.#flushWanted && this.#frozen === undefined) this.#startBatch();
          else this.#startBatchSoon();
        },
        switchTo: (environment, number) => this.#replaceBase(environment, number),
      },
      base.environment,
    );
    const done = this.#run(work, base);
    this.#defragmentation = { work, done };
    return done;
  }

  async #run(work: Defragmentation, base: Lease): Promise<void> {
    try {
      await work.run();
    } finally {
      this.#defragmentation = undefined;
      await base.release();
    }
  }

  async close(): Promise<void> {
    if (this.#state === "closing") return;
    const wasUsable = this.#fault === undefined && this.#state === "open";
    this.#state = "closing";
    // It sees that it is wanted no more; what goes wrong with it now is nobody's concern.
    await this.#defragmentation?.done.catch(() => {});
    if (wasUsable) this.#flushWanted = true;
    clearTimeout(this.#batchTimer);
    if (wasUsable && this.#frozen === undefined) this.#startBatch();
    await this.#untilIdle();
    this.#fault ??= new BackendError("the backend is closed");
    await this.#base.release();
  }

  #install(environment: Environment, index: number, number: number): void {
    this.#assertUsable();
    assert(this.#state === "open", "no install inside an apply, nor while closing");
    this.#replaceBase(environment, number);
    this.#active = new Overlay();
    this.#frozen = undefined;
    this.#layers = [this.#active];
    this.#visibleIndex = index;
    this.#durableIndex = index;
    this.#flushWanted = false;
  }

  /** Durable when it returns. Pins may still read the old one; its space goes with the last of them. */
  #replaceBase(environment: Environment, number: number): void {
    const replaced = this.#generations.current;
    try {
      this.#generations.switchTo(number);
    } catch (cause) {
      // Which one a restart would open isn't known: nothing may be written to either.
      throw this.#faultOf(cause);
    }
    const old = this.#base;
    this.#base = new Lease(environment);
    void old.release().then(
      () => this.#generations.remove(replaced),
      () => {},
    );
  }

  get #isBatchFull(): boolean {
    const { rows, bytes } = this.#active;
    return rows >= LIMITS.backendBatchRowsMax || bytes >= LIMITS.backendBatchBytesMax;
  }

  #startBatchSoon(): void {
    if (this.#frozen !== undefined || this.#batchesPaused) return;
    if (this.#isBatchFull) return this.#startBatch();
    this.#batchTimer ??= setTimeout(() => {
      this.#batchTimer = undefined;
      if (this.#frozen === undefined && this.#fault === undefined) this.#startBatch();
    }, LIMITS.backendBatchMilliseconds).unref();
  }

  /** Freezes what is there and commits it once the log allows. */
  #startBatch(): void {
    assert(this.#frozen === undefined, "one batch at a time");
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
    if (this.#batchesPaused) return;
    if (this.#visibleIndex === this.#durableIndex && this.#active.rows === 0) {
      this.#flushWanted = false;
      return this.#becomeIdle();
    }
    const frozen = { overlay: this.#active, index: this.#visibleIndex };
    this.#active = new Overlay();
    this.#frozen = frozen;
    this.#layers = [this.#active, frozen.overlay];
    this.#flushWanted = false;
    this.#commitWhenAllowed(frozen);
  }

  #commitWhenAllowed(frozen: Frozen): void {
    if (this.#frozen !== frozen) return;
    const limit = this.#options.commitLimit?.() ?? Infinity;
    if (frozen.index > limit) {
      // The log stopped before it had all: a restart applies the rest anew.
      if (this.#state === "closing") {
        this.#frozen = undefined;
        return this.#becomeIdle();
      }
      setTimeout(() => this.#commitWhenAllowed(frozen), LIMIT_POLL_MILLISECONDS).unref();
      return;
    }
    const environment = this.#base.environment;
    const overlays = [frozen.overlay];
    const hasLonger = layersHaveLonger(overlays, environment);
    const began = performance.now();
    environment.commit({ overlays, index: frozen.index, hasLonger, installs: false }).then(
      () => {
        this.#options.onCommit?.((performance.now() - began) / 1000);
        this.#endBatch(frozen);
      },
      (cause: unknown) => {
        this.#faultOf(cause);
        this.#becomeIdle();
      },
    );
  }

  #endBatch(frozen: Frozen): void {
    // A shadow may have replaced the environment meanwhile.
    if (this.#frozen === frozen) {
      this.#base.environment.refresh();
      this.#frozen = undefined;
      this.#layers = [this.#active];
      this.#durableIndex = frozen.index;
      this.#defragmentation?.work.committed(frozen);
    }
    if (this.#frozen !== undefined) return;
    if (this.#batchesPaused) return this.#becomeIdle();
    if (this.#isBatchFull || this.#flushWanted || this.#state === "closing") this.#startBatch();
    else if (this.#active.rows > 0 || this.#visibleIndex > this.#durableIndex)
      this.#startBatchSoon();
  }

  #untilIdle(): Promise<void> {
    if (this.#frozen === undefined || this.#fault !== undefined) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #becomeIdle(): void {
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #assertUsable(): void {
    if (this.#fault !== undefined) throw this.#fault;
    if (this.#state === "broken") throw new BackendError("a fill has thrown");
  }

  /** Remembers the first fault. */
  #faultOf(cause: unknown): BackendError {
    if (this.#fault === undefined) {
      const text = cause instanceof Error ? cause.message : String(cause);
      const known = cause instanceof BackendError;
      this.#fault = known ? cause : new BackendError(`the database failed: ${text}`, { cause });
      this.#options.onFault?.(this.#fault);
    }
    return this.#fault;
  }
}
