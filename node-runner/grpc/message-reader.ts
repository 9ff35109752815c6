/**
 * Cuts a request's body into gRPC's length-prefixed messages (a flag octet, four octets of length,
 * the message). A message that lies within a chunk is handed out where it lies. One that is spread
 * over chunks is gathered in a buffer that grows with what has really come, up to the announced
 * length, and is counted against the connection's share.
 */
import { readUint32 } from "../http2/protocol.ts";

export interface MessageSink {
  /** One message. `flag`: 0 plain, 1 compressed, anything else is the client's error. */
  message(bytes: Buffer, flag: number): void;
  /** A message of this length is announced, and won't be read. */
  tooLarge(length: number): void;
  /** Counts octets held for an unfinished message; false ends the reading. */
  hold(bytes: number): boolean;
  /** True stops the delivery until `resume`. */
  readonly isPaused: boolean;
}

export const PREFIX_BYTES = 5;
const FIRST_CAPACITY = 64 * 1024;

export class MessageReader {
  readonly #sink: MessageSink;
  readonly #messageBytesMax: number;
  /** An unfinished message with its prefix; `#length` octets of it have come. */
  #partial: Buffer | undefined;
  #length = 0;
  /** Came while the sink was paused. */
  #rest: Buffer | undefined;
  #isStopped = false;

  constructor(sink: MessageSink, messageBytesMax: number) {
    this.#sink = sink;
    this.#messageBytesMax = messageBytesMax;
  }

  /** True when the body ends between two messages. */
  get isAtBoundary(): boolean {
    return this.#partial === undefined && this.#rest === undefined;
  }

  /** Reads no more. */
  stop(): void {
    this.#isStopped = true;
    this.#partial = undefined;
    this.#rest = undefined;
  }

  read(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.#isStopped) {
      if (this.#sink.isPaused) {
        this.#rest = chunk.subarray(at);
        return;
      }
      at = this.#partial === undefined ? this.#whole(chunk, at) : this.#gather(chunk, at);
    }
  }

  /** Goes on with what came while the sink was paused. */
  resume(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest !== undefined) this.read(rest);
  }

  /** Delivers the message at `at` if all of it is in the chunk; else begins to gather it. */
  #whole(chunk: Buffer, at: number): number {
    const start = at + PREFIX_BYTES;
    if (start > chunk.length) return this.#begin(chunk, at, PREFIX_BYTES);
    const length = readUint32(chunk, at + 1);
    if (!this.#isAllowed(length)) return chunk.length;
    const end = start + length;
    if (end > chunk.length) return this.#begin(chunk, at, PREFIX_BYTES + length);
    this.#sink.message(chunk.subarray(start, end), chunk[at] as number);
    return end;
  }

  #isAllowed(length: number): boolean {
    if (length <= this.#messageBytesMax) return true;
    this.stop();
    this.#sink.tooLarge(length);
    return false;
  }

  #begin(chunk: Buffer, at: number, whole: number): number {
    this.#length = 0;
    this.#partial = this.#grown(undefined, Math.max(chunk.length - at, FIRST_CAPACITY), whole);
    return this.#gather(chunk, at);
  }

  /**
   * A buffer for at least `capacity` octets, never more than the `whole` message, with what is
   * there already.
   */
  #grown(partial: Buffer | undefined, capacity: number, whole: number): Buffer | undefined {
    const bytes = Math.min(whole, capacity);
    if (!this.#sink.hold(bytes - (partial?.length ?? 0))) {
      this.stop();
      return undefined;
    }
    const grown = Buffer.allocUnsafeSlow(bytes);
    partial?.copy(grown, 0, 0, this.#length);
    return grown;
  }

  /** Adds to the unfinished message what the chunk has of it, and delivers it once it is whole. */
  #gather(chunk: Buffer, at: number): number {
    const partial = this.#partial;
    if (partial === undefined) return chunk.length;
    const target = this.#length < PREFIX_BYTES ? PREFIX_BYTES : this.#wholeBytes(partial);
    const taken = Math.min(target - this.#length, chunk.length - at);
    const room = this.#length + taken <= partial.length ? partial : this.#double(partial, target);
    if (room === undefined) return chunk.length;
    chunk.copy(room, this.#length, at, at + taken);
    this.#length += taken;
    if (this.#length === PREFIX_BYTES && !this.#isAllowed(readUint32(room, 1))) return chunk.length;
    if (this.#length >= PREFIX_BYTES && this.#length === this.#wholeBytes(room)) {
      this.#partial = undefined;
      this.#sink.hold(-room.length);
      this.#sink.message(room.subarray(PREFIX_BYTES, this.#length), room[0] as number);
    }
    return at + taken;
  }

  #wholeBytes(partial: Buffer): number {
    return PREFIX_BYTES + readUint32(partial, 1);
  }

  #double(partial: Buffer, whole: number): Buffer | undefined {
    this.#partial = this.#grown(partial, Math.max(2 * partial.length, FIRST_CAPACITY), whole);
    return this.#partial;
  }
}
