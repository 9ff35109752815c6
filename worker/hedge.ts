/**
 * Hedged reads ("The Tail at Scale", CACM 2013): a read whose answer is late is asked of a second
 * peer as well, and the first answer wins. Every answer is one that its peer would have given alone,
 * so a hedged read is as linearizable as any; writes are never hedged.
 *
 * Late means later than most of the isolate's recent reads, and than a floor: when all peers slow
 * down, so does the hedging. And hedges are paid from a bucket that each read fills by a tenth of
 * one, so a cluster that is overloaded gets a tenth more at most, never twice as much.
 */
import { assert } from "../shared/base/assert.ts";
import { LIMITS } from "../shared/base/limits.ts";
import { pause } from "../shared/client/platform.ts";

export interface HedgeOptions {
  /** No read is hedged earlier. */
  readonly floorMilliseconds: number;
  /** Milliseconds that never step back. */
  now(): number;
  /** Resolves after so many milliseconds, or when the signal aborts. */
  readonly pause?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

/** One way to the answer; given up when the signal aborts. */
export type Ask<Answer> = (signal: AbortSignal) => Promise<Answer>;

export interface Asks<Answer> {
  readonly first: Ask<Answer>;
  /** Asked once if the first is late. Its failure counts for nothing: the first's fate decides. */
  readonly second: Ask<Answer>;
  /** The caller's own. */
  readonly signal: AbortSignal | undefined;
}

export interface Hedged<Answer> {
  readonly answer: Answer;
  readonly by: "first" | "second";
  /** Hedged reads in a row whose first peer lost, with this one; no other answer came between. */
  readonly losses: number;
}

/** What the reads of an isolate have in common. */
export class Hedges {
  readonly #options: Required<HedgeOptions>;
  /** Milliseconds of the last reads, in a ring. */
  readonly #recent: number[] = [];
  #position = 0;
  #late: number;
  #tokens: number = LIMITS.hedgeBurst;
  #losses = 0;

  constructor(options: HedgeOptions) {
    this.#options = { pause, ...options };
    this.#late = Math.max(options.floorMilliseconds, LIMITS.hedgeUnknownMilliseconds);
  }

  /** When a read is late: above nineteen of twenty recent ones, and never below the floor. */
  get lateMilliseconds(): number {
    return this.#late;
  }

  /** Rejects as the first does, unless the second answers before. */
  async read<Answer>({ first, second, signal }: Asks<Answer>): Promise<Hedged<Answer>> {
    const { now } = this.#options;
    this.#tokens = Math.min(LIMITS.hedgeBurst, this.#tokens + LIMITS.hedgeShare);
    const began = now();
    const firstAborter = new AbortController();
    const stopped = new AbortController();
    const asked = first(joined(signal, firstAborter)).finally(() => stopped.abort());
    // Whoever awaits it hears of its failure; here it only ends the wait.
    asked.catch(() => undefined);
    await this.#options.pause(this.#late, stopped.signal);
    const isLate = !stopped.signal.aborted && signal?.aborted !== true;
    try {
      const { answer, by } =
        isLate && this.#take()
          ? await race(asked, { second, signal, firstAborter })
          : { answer: await asked, by: "first" as const };
      this.#losses = by === "second" ? this.#losses + 1 : 0;
      const losses = this.#losses;
      if (losses >= LIMITS.hedgeLossesMax) this.#losses = 0;
      return { answer, by, losses };
    } finally {
      // A first that lost took at least so long.
      this.#learn(now() - began);
    }
  }

  #take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  #learn(milliseconds: number): void {
    this.#recent[this.#position % LIMITS.hedgeSamples] = Math.max(0, milliseconds);
    this.#position += 1;
    // Sorting is dearer than a read should be; until the ring is full nothing is known well.
    if (this.#position % LIMITS.hedgeLearnEvery !== 0) return;
    if (this.#recent.length < LIMITS.hedgeSamples) return;
    const sorted = [...this.#recent].sort((a, b) => a - b);
    const late = sorted[Math.floor(LIMITS.hedgeSamples * LIMITS.hedgeQuantile)];
    assert(late !== undefined, "the quantile is one of the samples");
    this.#late = Math.max(this.#options.floorMilliseconds, late);
  }
}

/** The first answer of two; the loser is given up. */
function race<Answer>(
  asked: Promise<Answer>,
  options: Omit<Asks<Answer>, "first"> & { readonly firstAborter: AbortController },
): Promise<Omit<Hedged<Answer>, "losses">> {
  const { second, signal, firstAborter } = options;
  const secondAborter = new AbortController();
  const other = second(joined(signal, secondAborter));
  return new Promise((resolve, reject) => {
    asked
      .then((answer) => resolve({ answer, by: "first" }), reject)
      .finally(() => secondAborter.abort());
    other.then(
      (answer) => {
        resolve({ answer, by: "second" });
        firstAborter.abort();
      },
      () => undefined,
    );
  });
}

function joined(signal: AbortSignal | undefined, aborter: AbortController): AbortSignal {
  return signal === undefined ? aborter.signal : AbortSignal.any([signal, aborter.signal]);
}
