/**
 * Time for hosts in tests that a test moves by hand. It gives what a `Host` needs of time: `now`, timers, and the end
 * of a turn; the machine's own is `RealClock`.
 */

export interface Clock {
  now(): number;
  schedule(milliseconds: number, callback: () => void): () => void;
  defer(callback: () => void): void;
}

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/** A clock that stands still until `advance`. Timers run in the order of their times, then of their making. */
export class ManualClock implements Clock {
  #now = 1000;
  #order = 0;
  #timers: Timer[] = [];
  #deferred: (() => void)[] = [];

  now(): number {
    return this.#now;
  }

  schedule(milliseconds: number, callback: () => void): () => void {
    this.#order += 1;
    const timer: Timer = {
      at: this.#now + Math.max(0, milliseconds),
      order: this.#order,
      callback,
    };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  defer(callback: () => void): void {
    this.#deferred.push(callback);
  }

  /** Ends turns, and lets promises run, until nothing is deferred. Time stands. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 10_000; turn += 1) {
      await microtasks();
      const due = this.#deferred;
      if (due.length === 0) return;
      this.#deferred = [];
      for (const callback of due) callback();
    }
    throw new Error("something defers for ever");
  }

  /** Moves time on, running what comes due. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    await this.settle();
    for (;;) {
      const next = this.#nextTimer(end);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
      await this.settle();
    }
    this.#now = end;
  }

  /** Moves time on in steps until the condition holds; fails after `limit` milliseconds. */
  async until(holds: () => boolean, limit = 30_000): Promise<void> {
    const end = this.#now + limit;
    await this.settle();
    while (!holds()) {
      if (this.#now >= end) throw new Error(`not within ${limit} ms: ${holds.toString()}`);
      await this.advance(10);
    }
  }

  #nextTimer(end: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.at > end) continue;
      if (next === undefined || timer.at < next.at) next = timer;
      else if (timer.at === next.at && timer.order < next.order) next = timer;
    }
    return next;
  }
}

/** Lets all promises that are settled by now, and those that they settle, run. */
async function microtasks(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}
