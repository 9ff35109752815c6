/**
 * Memory for readers that don't keep up: what the edge holds for each of its watches and links, and
 * for all of an isolate together. A reader that takes nothing for too long while something waits
 * for it, or whose bytes are the ones too many, is ended: it resumes where it was, by revision, and
 * nothing is lost. When all hold too much, the one that has taken nothing for longest goes first.
 *
 * A runtime's own buffers (sockets, pending frames) don't show here; `watch-routes.ts` and
 * `link-proxy.ts` see to it that little gets there unasked.
 */
import { assert } from "../shared/base/assert.ts";
import { RpcError } from "../shared/api/errors.ts";

export interface ReaderLimits {
  /** Of all readers. One message more than this may be held for a moment. */
  readonly bytesMax: number;
  /** Of one reader, before the message that it is ended for. */
  readonly readerBytesMax: number;
  /** A reader that lets bytes wait for longer takes nothing any more. */
  readonly stallMilliseconds: number;
  /** Milliseconds that never step back. */
  now(): number;
}

/** What a reader is told in the end, if it still listens. */
export function tooSlow(): RpcError {
  const text = "the reader is too slow: begin anew after the last event that arrived";
  return new RpcError("unavailable", text);
}

export class Readers {
  readonly #limits: ReaderLimits;
  #bytes = 0;
  #ended = 0;
  /** Those for whom something waits; who has taken nothing for longest comes first. */
  readonly #waiting = new Set<Reader>();

  constructor(limits: ReaderLimits) {
    this.#limits = limits;
  }

  /** Held for all readers. */
  get bytes(): number {
    return this.#bytes;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Readers that were too slow, so far. */
  get ended(): number {
    return this.#ended;
  }

  get stallMilliseconds(): number {
    return this.#limits.stallMilliseconds;
  }

  /** `end` lets go of all that is held for the reader; it is called once, and not after `leave`. */
  enter(end: () => void): Reader {
    const ended = (): void => {
      this.#ended += 1;
      end();
    };
    return new Reader(ended, {
      now: () => this.#limits.now(),
      changed: (reader, bytes) => this.#changed(reader, bytes),
      isOver: (reader) => this.#isOver(reader),
    });
  }

  #isOver({ bytes, stalledMilliseconds }: Reader): boolean {
    const { readerBytesMax, stallMilliseconds } = this.#limits;
    return bytes > readerBytesMax || stalledMilliseconds > stallMilliseconds;
  }

  /** `reader` holds so many bytes more, or less. */
  #changed(reader: Reader, bytes: number): void {
    this.#bytes += bytes;
    assert(this.#bytes >= 0, "what is given back was held");
    // Who took something goes to the end of the line; who only got more stays.
    if (bytes < 0) this.#waiting.delete(reader);
    if (reader.bytes > 0) this.#waiting.add(reader);
    while (this.#bytes > this.#limits.bytesMax) {
      const [longest] = this.#waiting;
      assert(longest !== undefined, "whose bytes are held is waited for");
      longest.end();
    }
  }
}

interface Counter {
  now(): number;
  changed(reader: Reader, bytes: number): void;
  isOver(reader: Reader): boolean;
}

export class Reader {
  readonly #counter: Counter;
  #end: (() => void) | undefined;
  #bytes = 0;
  #since = 0;

  constructor(end: () => void, counter: Counter) {
    this.#end = end;
    this.#counter = counter;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Ended, or left by itself: nothing more is held for it. */
  get isOver(): boolean {
    return this.#end === undefined;
  }

  /** For how long something has been waiting while nothing was taken; 0: nothing waits. */
  get stalledMilliseconds(): number {
    return this.#bytes === 0 ? 0 : this.#counter.now() - this.#since;
  }

  /** So many bytes more wait for the reader; it is ended if that is too much. */
  hold(bytes: number): void {
    if (this.isOver || bytes === 0) return;
    if (this.#counter.isOver(this)) {
      this.end();
      return;
    }
    if (this.#bytes === 0) this.#since = this.#counter.now();
    this.#bytes += bytes;
    this.#counter.changed(this, bytes);
  }

  /** The reader has taken so many of them. */
  took(bytes: number): void {
    if (this.isOver || bytes === 0) return;
    assert(bytes <= this.#bytes, "a reader takes what waits for it");
    this.#bytes -= bytes;
    this.#since = this.#counter.now();
    this.#counter.changed(this, -bytes);
  }

  /** Ends the reader if it has stalled: for who looks now and then. */
  check(): void {
    if (!this.isOver && this.#counter.isOver(this)) this.end();
  }

  end(): void {
    const end = this.#end;
    this.leave();
    end?.();
  }

  /** The reader went by itself. */
  leave(): void {
    if (this.isOver) return;
    this.#end = undefined;
    const held = this.#bytes;
    this.#bytes = 0;
    if (held > 0) this.#counter.changed(this, -held);
  }
}
