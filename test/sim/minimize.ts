/**
 * Makes a failing run smaller: shorter, with fewer strikes (halves of them, then quarters, down to
 * single ones), with fewer clients. A smaller run counts when it fails, with whatever message: what
 * is smaller draws other chances.
 */
import type { SimulationOptions, SimulationResult } from "./simulation.ts";

export interface Minimized {
  readonly run: SimulationOptions;
  readonly failure: string;
  readonly runs: number;
}

type Run = (options: SimulationOptions) => Promise<SimulationResult>;

const RUNS_MAX = 200;
/** More than any run has of what isn't limited. */
const UNBOUNDED = 1_000_000;
/** Time is cut in such steps at the end. */
const TIME_STEP_MILLISECONDS = 250;

/** Undefined when the run doesn't fail in the first place. `note` hears of each success. */
export async function minimize(
  run: SimulationOptions,
  simulate: Run,
  note: (run: SimulationOptions) => void,
): Promise<Minimized | undefined> {
  const search = new Search(simulate, note);
  if (!(await search.tries(run))) return undefined;
  for (let before = -1; search.size < before || before < 0;) {
    before = search.size;
    await search.shorten();
    await search.leaveStrikesOut();
    await search.sendClientsAway();
  }
  return search.best;
}

class Search {
  readonly #simulate: Run;
  readonly #note: (run: SimulationOptions) => void;
  #run: SimulationOptions = { seed: 0 };
  #result: SimulationResult | undefined;
  #runs = 0;

  constructor(simulate: Run, note: (run: SimulationOptions) => void) {
    this.#simulate = simulate;
    this.#note = note;
  }

  get best(): Minimized {
    return { run: this.#run, failure: this.#result?.failure ?? "", runs: this.#runs };
  }

  /** What is to become less. */
  get size(): number {
    const { time, clients, leases, locks, watchers } = this.#run;
    const counts = [clients, leases, locks, watchers].map((count) => count ?? UNBOUNDED);
    const clientCount = counts.reduce((sum, count) => sum + count, 0);
    return (time ?? UNBOUNDED) + 1000 * (this.#strikes.length + clientCount);
  }

  get #strikes(): readonly number[] {
    return this.#result?.strikes.map(({ number }) => number) ?? [];
  }

  /** Keeps it as the best one if it fails. */
  async tries(run: SimulationOptions): Promise<boolean> {
    if (this.#runs >= RUNS_MAX) return false;
    this.#runs += 1;
    const result = await this.#simulate(run);
    if (result.failure === undefined) return false;
    this.#run = run;
    this.#result = result;
    this.#note(run);
    return true;
  }

  async shorten(): Promise<void> {
    const ended = this.#result?.ended ?? 0;
    const atFailure = Math.ceil(ended / TIME_STEP_MILLISECONDS) * TIME_STEP_MILLISECONDS;
    const time = Math.min(this.#run.time ?? Infinity, atFailure);
    await this.tries({ ...this.#run, time });
    for (const part of [0.25, 0.5, 0.75, 0.9]) {
      const shorter = Math.round((time * part) / TIME_STEP_MILLISECONDS) * TIME_STEP_MILLISECONDS;
      if (await this.tries({ ...this.#run, time: shorter })) return;
    }
  }

  async leaveStrikesOut(): Promise<void> {
    const listed = this.#run.strikes?.length ?? UNBOUNDED;
    // Those behind the failure were never done.
    if (listed > this.#strikes.length) await this.tries({ ...this.#run, strikes: this.#strikes });
    for (let size = Math.ceil(this.#strikes.length / 2); size >= 1; size = Math.floor(size / 2)) {
      for (let from = 0; from < this.#strikes.length;) {
        const strikes = this.#strikes.filter((_, place) => place < from || place >= from + size);
        if (!(await this.tries({ ...this.#run, strikes }))) from += size;
      }
    }
  }

  async sendClientsAway(): Promise<void> {
    for (const kind of ["watchers", "locks", "leases", "clients"] as const) {
      for (const count of [0, 1, 2]) {
        if ((this.#run[kind] ?? Infinity) <= count) break;
        if (await this.tries({ ...this.#run, [kind]: count })) break;
      }
    }
  }
}
