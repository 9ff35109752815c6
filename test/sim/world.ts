/**
 * Virtual time: a queue of events, and the one source of chance of a simulation. Between two events
 * all promises that can settle do settle, so a run depends on nothing but its seed. The trace is a
 * running checksum over what happened; two runs of one seed must end with the same.
 */
import { assert } from "../../shared/base/assert.ts";
import { utf8 } from "../../shared/base/bytes.ts";
import { crc32c } from "../../shared/base/crc32c.ts";
import { Heap } from "../../shared/base/heap.ts";
import { Prng } from "../../shared/base/prng.ts";

interface Scheduled {
  readonly time: number;
  run: (() => void) | undefined;
}

/** Events of one microsecond run in the order in which they were scheduled. */
const EVENTS_PER_MICROSECOND = 1_000_000;

export class World {
  readonly prng: Prng;
  /** Milliseconds since the beginning, in whole microseconds. */
  now = 0;
  events = 0;
  /** The first violation; the run ends with it. */
  failure: string | undefined;
  readonly #queue = new Heap<Scheduled>();
  readonly #print: ((line: string) => void) | undefined;
  #scheduled = 0;
  #trace = 0;

  constructor(seed: number, print?: (line: string) => void) {
    this.prng = new Prng(seed);
    this.#print = print;
  }

  /** The checksum of everything noted so far. */
  get trace(): number {
    return this.#trace;
  }

  /** Runs `run` after so many milliseconds; returns a function that cancels it. */
  schedule(milliseconds: number, run: () => void): () => void {
    const microseconds = Math.round((this.now + Math.max(0, milliseconds)) * 1000);
    const event: Scheduled = { time: microseconds / 1000, run };
    this.#scheduled += 1;
    const place = this.#scheduled % EVENTS_PER_MICROSECOND;
    this.#queue.push(microseconds * EVENTS_PER_MICROSECOND + place, event);
    return () => {
      event.run = undefined;
    };
  }

  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      this.schedule(milliseconds, resolve);
    });
  }

  /** Adds to the trace. */
  note(what: string): void {
    const line = `${this.now.toFixed(3)} ${what}`;
    this.#trace = crc32c(utf8(line), { previous: this.#trace });
    this.#print?.(line);
  }

  /** Something that must never be. */
  fail(what: string): void {
    this.note(`FAILURE ${what}`);
    this.failure ??= `at ${this.now.toFixed(3)} ms: ${what}`;
  }

  /** Runs events up to `time`, or until `done` answers true, or until a failure. */
  async run(time: number, done: () => boolean = () => false): Promise<void> {
    await settled();
    while (this.failure === undefined && !done()) {
      const next = this.#queue.peek();
      if (next === undefined || next.time > time) {
        this.now = Math.max(this.now, time);
        return;
      }
      this.#queue.pop();
      const { run } = next;
      if (run === undefined) continue;
      assert(next.time >= this.now, "time goes on");
      this.now = next.time;
      this.events += 1;
      run();
      await settled();
    }
  }
}

/** A turn of the real event loop: by its end every promise that can settle has settled. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
