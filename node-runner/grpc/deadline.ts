/**
 * Deadlines of calls. Most calls end long before theirs, so setting and clearing one must be
 * cheap: calls wait in slices of time, and one timer stands for the next slice that has calls.
 */
import { LIMITS } from "../../shared/base/limits.ts";

export interface Expiring {
  /** In milliseconds on the clock of `performance.now()`. */
  readonly deadline: number;
  expire(): void;
}

const SLICE = LIMITS.grpcDeadlineSliceMilliseconds;
/** setTimeout takes no longer delay; a timer that fires before its slice just waits again. */
const DELAY_MAX = 0x7fff_ffff;

const UNITS: ReadonlyMap<string, number> = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1000],
  ["m", 1],
  ["u", 1e-3],
  ["n", 1e-6],
]);
const TIMEOUT = /^([0-9]{1,8})([HMSmun])$/;

/** Milliseconds of a `grpc-timeout`, or undefined when it is malformed. */
export function parseTimeout(text: string): number | undefined {
  const match = TIMEOUT.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * (UNITS.get(match[2] as string) as number);
}

export class Deadlines {
  readonly #slices = new Map<number, Set<Expiring>>();
  #timer: NodeJS.Timeout | undefined;
  /** The slice that the timer waits for. */
  #next = Infinity;

  add(call: Expiring): void {
    const slice = Math.ceil(call.deadline / SLICE);
    const calls = this.#slices.get(slice);
    if (calls === undefined) this.#slices.set(slice, new Set([call]));
    else calls.add(call);
    if (slice < this.#next) this.#wait(slice);
  }

  delete(call: Expiring): void {
    const slice = Math.ceil(call.deadline / SLICE);
    const calls = this.#slices.get(slice);
    if (calls === undefined) return;
    calls.delete(call);
    if (calls.size === 0) this.#slices.delete(slice);
  }

  get count(): number {
    let count = 0;
    for (const calls of this.#slices.values()) count += calls.size;
    return count;
  }

  #wait(slice: number): void {
    clearTimeout(this.#timer);
    this.#next = slice;
    const delay = Math.min(Math.max(slice * SLICE - performance.now(), 0) + 1, DELAY_MAX);
    this.#timer = setTimeout(() => this.#fire(), delay);
    this.#timer.unref();
  }

  #fire(): void {
    this.#next = Infinity;
    const now = performance.now();
    let next = Infinity;
    for (const [slice, calls] of this.#slices) {
      if (slice * SLICE > now) {
        next = Math.min(next, slice);
        continue;
      }
      this.#slices.delete(slice);
      for (const call of calls) call.expire();
    }
    if (next < this.#next) this.#wait(next);
  }
}
