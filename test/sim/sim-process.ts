/**
 * One run of a member, from start to crash. Every input of the production code comes through `enter`: a dead process
 * gets none, a paused one gets them all when it goes on, as a stopped virtual machine would. Its clock has a rate of
 * its own.
 */
import type { Prng } from "../../shared/base/prng.ts";
import type { World } from "./world.ts";

export class SimProcess {
  readonly world: World;
  readonly name: string;
  readonly prng: Prng;
  /** Milliseconds of this clock to one of the world. */
  readonly clockRate: number;
  alive = true;
  #paused = false;
  #held: (() => void)[] = [];

  constructor(world: World, options: { name: string; clockRate: number }) {
    this.world = world;
    this.name = options.name;
    this.clockRate = options.clockRate;
    this.prng = world.prng.fork();
  }

  get paused(): boolean {
    return this.#paused;
  }

  now(): number {
    return this.world.now * this.clockRate;
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
