/**
 * Deadlines of calls. Most calls end long before theirs, so setting and clearing one must be
 * cheap: calls wait in slices of time, and one timer stands for the next slice that has calls.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import { RisingMap } from "../../shared/base/rising-map.ts";

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
  /** Calls by ticket, in slices by the time at which they end. */
  readonly #slices = new Map<number, RisingMap<Expiring>>();
  #ticket = 0;
  #timer: NodeJS.Timeout | undefined;
  /** The slice that the timer waits for. */
  #next = Infinity;

  /** Returns the ticket that `delete` wants. */
  add(call: Expiring): number {
    const slice = Math.ceil(call.deadline / SLICE);
    let calls = this.#slices.get(slice);
    if (calls === undefined) {
      calls = new RisingMap();
      this.#slices.set(slice, calls);
    }
    this.#ticket += 1;
    calls.add(this.#ticket, call);
    if (slice < this.#next) this.#wait(slice);
    return this.#ticket;
  }

  /** The call has ended; no effect if its time was over. */
  delete(call: Expiring, ticket: number): void {
    const slice = Math.ceil(call.deadline / SLICE);
    const calls = this.#slices.get(slice);
    if (calls === undefined) return;
    calls.delete(ticket);
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
      for (const call of calls.values()) call.expire();
    }
    if (next < this.#next) this.#wait(next);
  }
}
