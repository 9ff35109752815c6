/**
 * A log store in memory. Its writes are durable at once, or (`flush: "explicit"`) only once
 * `flush` is called, so that tests and the simulator decide what a crash loses: `crash` gives a
 * store that holds what was flushed and nothing else.
 */
import { assert } from "../base/assert.ts";
import type { LogStore, LogWrite } from "./log-store.ts";
import { MemoryLog } from "./memory-log.ts";
import type { Entry, HardState } from "./types.ts";

/** A log with its hard state, as it is seen or as it is durable. */
class Image {
  readonly log: MemoryLog;
  hardState: HardState | undefined;

  constructor(log: MemoryLog, hardState: HardState | undefined) {
    this.log = log;
    this.hardState = hardState;
  }

  write(write: LogWrite): void {
    if (write.snapshot !== undefined) this.log.reset(write.snapshot);
    if (write.hardState !== undefined) this.hardState = write.hardState;
    this.log.append(write.entries);
  }

  copy(): Image {
    const base = this.log.firstIndex - 1;
    const log = new MemoryLog({ index: base, term: this.log.termOf(base) ?? 0 });
    log.append(this.log.slice(this.log.firstIndex, this.log.lastIndex + 1, Infinity));
    return new Image(log, this.hardState);
  }
}

export type FlushMode = "atOnce" | "explicit";

export class MemoryLogStore implements LogStore {
  onDurable: (sequence: number) => void = () => {};

  readonly #mode: FlushMode;
  readonly #visible: Image;
  readonly #durable: Image;
  /** Taken and not yet durable, in order. */
  #pending: LogWrite[] = [];
  #sequence = 0;

  constructor(options: { flush?: FlushMode; from?: Image } = {}) {
    this.#mode = options.flush ?? "atOnce";
    this.#visible = options.from?.copy() ?? new Image(new MemoryLog(), undefined);
    this.#durable = options.from?.copy() ?? new Image(new MemoryLog(), undefined);
  }

  get hardState(): HardState | undefined {
    return this.#visible.hardState;
  }

  get firstIndex(): number {
    return this.#visible.log.firstIndex;
  }

  get lastIndex(): number {
    return this.#visible.log.lastIndex;
  }

  /** Writes that a crash would lose. */
  get pendingWrites(): number {
    return this.#pending.length;
  }

  termOf(index: number): number | undefined {
    return this.#visible.log.termOf(index);
  }

  slice(low: number, high: number, bytesMax: number): readonly Entry[] {
    return this.#visible.log.slice(low, high, bytesMax);
  }

  append(write: LogWrite): void {
    assert(write.sequence > this.#sequence, `write ${write.sequence} after ${this.#sequence}`);
    this.#sequence = write.sequence;
    this.#visible.write(write);
    this.#pending.push(write);
    if (this.#mode === "atOnce") this.flush();
  }

  /** Makes the oldest `count` pending writes durable (all, if not said) and reports it. */
  flush(count = this.#pending.length): void {
    const flushed = this.#pending.splice(0, count);
    for (const write of flushed) this.#durable.write(write);
    const last = flushed.at(-1);
    if (last !== undefined) this.onDurable(last.sequence);
  }

  compact(index: number): void {
    assert(index <= this.lastIndex, `compact(${index}) of a log up to ${this.lastIndex}`);
    this.#visible.log.compact(index);
    const durableEnd = this.#durable.log.lastIndex;
    this.#durable.log.compact(index < durableEnd ? index : durableEnd);
  }

  /** What a restart finds: the flushed writes only. This store must not be used any more. */
  crash(): MemoryLogStore {
    return new MemoryLogStore({ flush: this.#mode, from: this.#durable });
  }
}
