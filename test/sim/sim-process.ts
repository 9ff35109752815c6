/**
 * One run of a member, from start to crash. Every input of the production code comes through
 * `enter`: a dead process gets none, a paused one gets them all when it goes on, as a stopped
 * virtual machine would. Its clocks are its own: the steady one has a rate and a zero of its own,
 * the wall clock is wrong by any amount and jumps.
 */
import type { Prng } from "../../shared/base/prng.ts";
import type { World } from "./world.ts";

/** The steady clock's zero means nothing; this keeps anyone from comparing two of them. */
const CLOCK_ZERO_MILLISECONDS_MAX = 1_000_000_000;
const EPOCH_MILLISECONDS = 1_700_000_000_000;

export class SimProcess {
  readonly world: World;
  readonly name: string;
  readonly prng: Prng;
  /** Milliseconds of this clock to one of the world. */
  readonly clockRate: number;
  /** How wrong the wall clock is. */
  wallErrorMilliseconds = 0;
  alive = true;
  readonly #clockZero: number;
  #paused = false;
  #held: (() => void)[] = [];

  constructor(world: World, options: { name: string; clockRate: number }) {
    this.world = world;
    this.name = options.name;
    this.clockRate = options.clockRate;
    this.prng = world.prng.fork();
    this.#clockZero = this.prng.below(CLOCK_ZERO_MILLISECONDS_MAX);
  }

  get paused(): boolean {
    return this.#paused;
  }

  now(): number {
    return this.#clockZero + this.world.now * this.clockRate;
  }

  wallClock(): number {
    return EPOCH_MILLISECONDS + Math.floor(this.world.now) + this.wallErrorMilliseconds;
  }

  enter(run: () => void): void {
    if (!this.alive) return;
    if (this.#paused) this.#held.push(run);
    else run();
  }

  /** Milliseconds of the world. */
  after(milliseconds: number, run: () => void): () => void {
    return this.world.schedule(milliseconds, () => this.enter(run));
  }

  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(milliseconds, resolve);
    });
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    // Each held input is an event of its own, so that promises settle in between.
    for (const run of this.#held.splice(0)) this.after(0, run);
  }

  kill(): void {
    this.alive = false;
    this.#held = [];
  }
}
