/** The machine's time for hosts in tests: `now`, timers and the end of a turn, until it is closed. */
import { defer } from "./turn.ts";

export class RealClock {
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #closed = false;

  now(): number {
    return performance.now();
  }

  /** Returns what cancels it. */
  schedule(milliseconds: number, callback: () => void): () => void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      callback();
    }, milliseconds);
    this.#timers.add(timer);
    return () => {
      clearTimeout(timer);
      this.#timers.delete(timer);
    };
  }

  defer(callback: () => void): void {
    defer(() => {
      if (!this.#closed) callback();
    });
  }

  /** Calls nothing back any more. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }
}
