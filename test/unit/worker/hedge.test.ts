/** worker/hedge: when a second peer is asked, how often, and whose answer counts. */
import { array, assert, asyncProperty, nat } from "fast-check";
import { describe, expect, test } from "vitest";
import { LIMITS } from "../../../shared/base/limits.ts";
import { Hedges } from "../../../worker/hedge.ts";
import type { Hedged } from "../../../worker/hedge.ts";

/** A clock that moves by hand, and the pauses that it ends. */
class Clock {
  now = 0;
  readonly #pauses = new Set<{ until: number; end: () => void }>();

  readonly pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const entry = { until: this.now + milliseconds, end: resolve };
      this.#pauses.add(entry);
      signal.addEventListener("abort", () => {
        this.#pauses.delete(entry);
        resolve();
      });
    });

  async advance(milliseconds: number): Promise<void> {
    await settled();
    this.now += milliseconds;
    for (const entry of this.#pauses) {
      if (entry.until > this.now) continue;
      this.#pauses.delete(entry);
      entry.end();
    }
    await settled();
  }
}

/** Everything that follows of what has happened. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A peer whose answers are given by hand; counts who asked, and who gave up before the answer. */
class Peer {
  asked = 0;
  aborted = 0;
  #settle: { resolve: (value: string) => void; reject: (error: Error) => void }[] = [];

  readonly ask = (signal: AbortSignal): Promise<string> => {
    this.asked += 1;
    return new Promise((resolve, reject) => {
      const waiting = { resolve, reject };
      this.#settle.push(waiting);
      signal.addEventListener("abort", () => {
        if (!this.#settle.includes(waiting)) return;
        this.aborted += 1;
        this.#settle = this.#settle.filter((each) => each !== waiting);
        reject(new Error("cancelled"));
      });
    });
  };

  answer(value: string): void {
    for (const { resolve } of this.#settle.splice(0)) resolve(value);
  }

  /** Refuses, or breaks. */
  fail(text: string): void {
    for (const { reject } of this.#settle.splice(0)) reject(new Error(text));
  }
}

const FLOOR = 30;
const LATE = LIMITS.hedgeUnknownMilliseconds;

interface Setting {
  readonly clock: Clock;
  readonly hedges: Hedges;
  readonly near: Peer;
  readonly far: Peer;
  readonly read: () => Promise<Hedged<string>>;
}

function start(): Setting {
  const clock = new Clock();
  const hedges = new Hedges({ floorMilliseconds: FLOOR, now: () => clock.now, pause: clock.pause });
  const [near, far] = [new Peer(), new Peer()];
  const read = (): Promise<Hedged<string>> =>
    hedges.read({ first: near.ask, second: far.ask, signal: undefined });
  return { clock, hedges, near, far, read };
}

describe("a hedged read", () => {
  test("asks nobody else while the first is in time", async () => {
    const { clock, near, far, read } = start();
    const reading = read();
    await clock.advance(LATE - 1);
    near.answer("near");
    expect(await reading).toEqual({ answer: "near", by: "first", losses: 0 });
    await clock.advance(10 * LATE);
    expect(far.asked).toBe(0);
  });

  test("asks a second peer when the first is late; the first answer counts, the loser is given up", async () => {
    const { clock, near, far, read } = start();
    const reading = read();
    await clock.advance(LATE);
    expect([near.asked, far.asked]).toEqual([1, 1]);
    far.answer("far");
    expect(await reading).toEqual({ answer: "far", by: "second", losses: 1 });
    expect([near.aborted, far.aborted]).toEqual([1, 0]);
    const again = read();
    await clock.advance(LATE);
    near.answer("near");
    expect(await again).toEqual({ answer: "near", by: "first", losses: 0 });
    await settled();
    expect([near.aborted, far.aborted]).toEqual([1, 1]);
  });

  test("ends with the first's failure, and never with the second's", async () => {
    const { clock, near, far, read } = start();
    const answered = read();
    await clock.advance(LATE);
    far.fail("far broke");
    await settled();
    near.answer("near");
    expect(await answered).toMatchObject({ answer: "near", by: "first" });
    const refused = read();
    refused.catch(() => undefined);
    await clock.advance(LATE);
    near.fail("near refuses");
    await expect(refused).rejects.toThrow("near refuses");
    const early = read();
    early.catch(() => undefined);
    await clock.advance(1);
    near.fail("refused at once");
    await expect(early).rejects.toThrow("refused at once");
    expect(far.asked).toBe(2);
  });

  test("late follows what recent reads took, down to the floor and up with a slow cluster", async () => {
    const { clock, hedges, near, read } = start();
    const reads = async (milliseconds: number): Promise<void> => {
      for (let each = 0; each < LIMITS.hedgeSamples; each += 1) {
        const reading = read();
        await clock.advance(milliseconds);
        near.answer("near");
        await reading;
      }
    };
    await reads(2);
    expect(hedges.lateMilliseconds).toBe(FLOOR);
    await reads(200);
    expect(hedges.lateMilliseconds).toBe(200);
  });

  test("a caller that gives up ends both", async () => {
    const { clock, hedges, near, far } = start();
    const caller = new AbortController();
    const reading = hedges.read({ first: near.ask, second: far.ask, signal: caller.signal });
    reading.catch(() => undefined);
    await clock.advance(LATE);
    caller.abort();
    expect([near.aborted, far.aborted]).toEqual([1, 1]);
    await expect(reading).rejects.toThrow("cancelled");
  });
});

test("however slow the peers, hedges are a tenth of the reads and what was saved up", async () => {
  await assert(
    asyncProperty(array(nat(2), { maxLength: 120 }), async (fates) => {
      const { clock, near, far, read } = start();
      const readings: Promise<unknown>[] = [];
      for (const fate of fates) {
        readings.push(read());
        // In time, late, or together with those that follow.
        if (fate > 0) await clock.advance(fate === 1 ? 1 : LATE);
        if (fate > 0) near.answer("near");
      }
      await clock.advance(LATE);
      near.answer("near");
      await Promise.all(readings);
      expect(near.asked).toBe(fates.length);
      expect(far.asked).toBeLessThanOrEqual(LIMITS.hedgeBurst + LIMITS.hedgeShare * fates.length);
    }),
    { numRuns: 30 },
  );
});
