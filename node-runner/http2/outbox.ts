/**
 * A connection's output. Frames are written into pooled chunks; all that one turn of the event
 * loop produces goes to the socket in one write. While the socket is full the chunks wait here:
 * whoever frames DATA asks `hasRoom` first, and what is not DATA (acks, small replies) is bounded
 * by not reading from the connection.
 */
import type { Socket } from "node:net";
import { LIMITS } from "../../shared/base/limits.ts";

/** Most turns produce little, so the first chunk is small; a large one holds any frame. */
const SMALL_CHUNK_BYTES = 2048;
const LARGE_CHUNK_BYTES = 2 * LIMITS.http2FrameBytesMax;
const POOLED_CHUNKS_MAX = 64;

const NONE = Buffer.alloc(0);
const smallPool: Buffer[] = [];
const largePool: Buffer[] = [];

function take(pool: Buffer[], bytes: number): Buffer {
  return pool.pop() ?? Buffer.allocUnsafeSlow(bytes);
}

function giveBack(chunk: Buffer): void {
  const pool = chunk.length === SMALL_CHUNK_BYTES ? smallPool : largePool;
  if (pool.length < POOLED_CHUNKS_MAX) pool.push(chunk);
}

export class Outbox {
  readonly #socket: Socket;
  /** The chunk being filled; `reserve` says where. */
  chunk: Buffer = NONE;
  #used = 0;
  /** Filled chunks and the octets used of each. */
  #filled: { chunk: Buffer; used: number }[] = [];
  /** Chunks that the socket has and will give back, oldest first. */
  readonly #lent: Buffer[] = [];
  #bytes = 0;
  #isFull = false;
  #isCorked = false;
  #isScheduled = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Octets that have not been given to the socket. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The socket has asked to wait for its `drain` event. */
  get isFull(): boolean {
    return this.#isFull;
  }

  get hasRoom(): boolean {
    return !this.#isFull && this.#bytes < LIMITS.http2OutboxBytes;
  }

  /**
   * Takes `length` octets of `chunk`, at most what a frame has, and returns their offset. They
   * will be sent, so the caller writes them before anything else happens; `give` returns octets at
   * their end that it didn't need.
   */
  reserve(length: number): number {
    if (this.#used + length > this.chunk.length) this.#nextChunk(length);
    const offset = this.#used;
    this.#used += length;
    this.#bytes += length;
    if (!this.#isCorked && !this.#isScheduled) this.#schedule();
    return offset;
  }

  give(length: number): void {
    this.#used -= length;
    this.#bytes -= length;
  }

  #nextChunk(length: number): void {
    if (this.#used > 0) this.#filled.push({ chunk: this.chunk, used: this.#used });
    const isFirst = this.chunk === NONE && length <= SMALL_CHUNK_BYTES;
    this.chunk = isFirst ? take(smallPool, SMALL_CHUNK_BYTES) : take(largePool, LARGE_CHUNK_BYTES);
    this.#used = 0;
  }

  #schedule(): void {
    this.#isScheduled = true;
    // After all input of this turn of the event loop: replies that it has caused leave together.
    setImmediate(flushScheduled, this);
  }

  /** Holds output back until `uncork`, while a chunk of input is worked through. */
  cork(): void {
    this.#isCorked = true;
  }

  uncork(): void {
    this.#isCorked = false;
    this.flush();
  }

  /** Gives everything to the socket, unless that is full. */
  flush(): void {
    this.#isScheduled = false;
    if (this.#bytes === 0 || this.#isFull || !this.#socket.writable) return;
    const filled = this.#filled;
    const last = this.chunk;
    const used = this.#used;
    this.chunk = NONE;
    this.#used = 0;
    this.#bytes = 0;
    if (filled.length === 0) {
      this.#send(last, used);
      return;
    }
    this.#filled = [];
    this.#socket.cork();
    for (const part of filled) this.#send(part.chunk, part.used);
    if (used > 0) this.#send(last, used);
    this.#socket.uncork();
  }

  #send(chunk: Buffer, used: number): void {
    this.#lent.push(chunk);
    if (!this.#socket.write(chunk.subarray(0, used), this.#written)) this.#isFull = true;
  }

  readonly #written = (error?: Error | null): void => {
    const chunk = this.#lent.shift();
    // After an error the kernel or the TLS layer may still look at it.
    if (chunk !== undefined && !error) giveBack(chunk);
  };

  /** The socket has drained: what waited goes out. */
  drained(): void {
    this.#isFull = false;
    this.flush();
  }
}

function flushScheduled(outbox: Outbox): void {
  outbox.flush();
}
