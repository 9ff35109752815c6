/** What the clients of one run share: whether it measures or ends, its samples and its failures. */
import { Prng } from "../../shared/base/prng.ts";

/** Samples there is room for at first; the array doubles as a run needs. */
const SAMPLES_FIRST = 1 << 16;

export interface LoadResult {
  readonly calls: number;
  readonly errors: number;
  /** The first failure's text. */
  readonly firstError: string;
  readonly seconds: number;
  readonly callsPerSecond: number;
  readonly p50Milliseconds: number;
  readonly p99Milliseconds: number;
  /** CPU of the generator for each measured call. */
  readonly generatorMicroseconds: number;
}

/** When a run measures. */
export interface Window {
  readonly warmupMilliseconds: number;
  readonly measureMilliseconds: number;
  /** Called at the edges of the measured window, with the members that work. */
  onWindow(edge: "begin" | "end"): void;
}

export const sleep = (milliseconds: number) =>
  new Promise<void>((resolve) => {
    setTimeout(resolve, milliseconds);
  });

export class Run {
  readonly seed: number;
  /** How many keys range workloads read. */
  readonly keys: number;
  readonly prng: Prng;
  stopping = false;
  nextKey = 0;
  errors = 0;
  firstError = "";
  /** Writes that were acknowledged, and the revisions they got. */
  writesDone = 0;
  revisions: number[] = [];
  /** Clients that have not ended yet; the last one calls `finished`. */
  active = 0;
  finished: (() => void) | undefined;
  #measuring = false;
  #samples = new Float64Array(SAMPLES_FIRST);
  #sampleCount = 0;
  #seconds = 0;
  #generatorMicroseconds = 0;

  constructor(options: { readonly seed: number; readonly keys?: number }) {
    this.seed = options.seed;
    this.keys = options.keys ?? 0;
    this.prng = new Prng(options.seed);
  }

  /** A call that began at `startedAt` (performance.now) has ended well. */
  done(startedAt: number): void {
    if (!this.#measuring) return;
    if (this.#sampleCount === this.#samples.length) {
      const grown = new Float64Array(2 * this.#samples.length);
      grown.set(this.#samples);
      this.#samples = grown;
    }
    this.#samples[this.#sampleCount] = performance.now() - startedAt;
    this.#sampleCount += 1;
  }

  fail(text: string): void {
    this.errors += 1;
    if (this.firstError === "") this.firstError = text;
  }

  clientEnded(): void {
    this.active -= 1;
    if (this.active === 0) this.finished?.();
  }

  /** Warms up, then counts what ends within the window. */
  async measure(window: Window): Promise<void> {
    await sleep(window.warmupMilliseconds);
    window.onWindow("begin");
    const [began, cpu] = [performance.now(), process.cpuUsage()];
    this.#measuring = true;
    await sleep(window.measureMilliseconds);
    this.#measuring = false;
    this.#seconds = (performance.now() - began) / 1000;
    const spent = process.cpuUsage(cpu);
    window.onWindow("end");
    this.#generatorMicroseconds = (spent.user + spent.system) / Math.max(1, this.#sampleCount);
  }

  /** Writes are whole when revisions are distinct and the store grew by exactly their number. */
  checkWrites(before: number, after: number): void {
    const revisions = Float64Array.from(this.revisions).sort();
    let twice = 0;
    for (let at = 1; at < revisions.length; at += 1) {
      if (revisions[at] === revisions[at - 1]) twice += 1;
    }
    if (twice > 0) this.fail(`${twice} revisions were given to two writes`);
    const grown = after - before;
    // A failed write may have been applied, so failures leave room.
    if (grown < this.writesDone || grown > this.writesDone + this.errors) {
      this.fail(`${this.writesDone} writes, but the revision grew by ${grown}`);
    }
  }

  result(): LoadResult {
    const sorted = this.#samples.subarray(0, this.#sampleCount).sort();
    const at = (quantile: number) =>
      sorted[Math.min(sorted.length - 1, Math.floor(quantile * sorted.length))] ?? Number.NaN;
    return {
      calls: this.#sampleCount,
      errors: this.errors,
      firstError: this.firstError,
      seconds: this.#seconds,
      callsPerSecond: this.#sampleCount / this.#seconds,
      p50Milliseconds: at(0.5),
      p99Milliseconds: at(0.99),
      generatorMicroseconds: this.#generatorMicroseconds,
    };
  }
}
