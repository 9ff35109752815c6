/**
 * The chunks of one snapshot, made once, for several streams: what was under way when a stream broke
 * is still here, so that the next one goes on at the chunk that its receiver lacks. How many may be
 * under way is the receiver's window; those before it are forgotten.
 */
import { assert } from "../../base/assert.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";

/** Besides the window, one that waits for it, and one that is being consumed. */
const KEPT_CHUNKS = LIMITS.snapshotWindowChunks + 2;

export class ResumableChunks {
  readonly #source: AsyncGenerator<Bytes, void, undefined>;
  /** The newest chunks, of which the first has the number `#first`; numbers begin with 0. */
  readonly #kept: Bytes[] = [];
  #first = 0;
  #pulling: Promise<void> | undefined;
  #ended = false;

  constructor(source: AsyncGenerator<Bytes, void, undefined>) {
    this.#source = source;
  }

  /** How many have been made. */
  get made(): number {
    return this.#first + this.#kept.length;
  }

  /** A stream can begin with the chunk of this number. */
  canResumeAt(number: number): boolean {
    return number >= this.#first && number <= this.made;
  }

  /** The chunks from this number on. One stream at a time; one that is given up may be left alone. */
  async *from(number: number): AsyncGenerator<Bytes, void, undefined> {
    for (let next = number; ; next += 1) {
      while (next === this.made) {
        if (this.#ended) return;
        await this.#pull();
      }
      const chunk = this.#kept[next - this.#first];
      assert(chunk !== undefined, `chunk ${next} of a snapshot is forgotten`);
      yield chunk;
    }
  }

  /** Ends the source; resolves once nothing reads what it is made of. */
  async end(): Promise<void> {
    this.#ended = true;
    await this.#source.return();
  }

  /** A stream that was given up may still wait for a chunk: then the next one waits with it. */
  #pull(): Promise<void> {
    this.#pulling ??= this.#take().finally(() => {
      this.#pulling = undefined;
    });
    return this.#pulling;
  }

  async #take(): Promise<void> {
    const { done, value } = await this.#source.next();
    if (done === true) this.#ended = true;
    else this.#kept.push(value);
    if (this.#kept.length <= KEPT_CHUNKS) return;
    this.#kept.shift();
    this.#first += 1;
  }
}
