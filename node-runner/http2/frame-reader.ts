/**
 * Cuts a connection's input into frames, in one pass over each chunk. A frame that lies within a
 * chunk is handed out where it lies; one that is spread over several is put together in a buffer
 * of its own size, so that a slow writer costs no more than the frame it has announced.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import { FRAME_HEADER_BYTES, PREFACE } from "./protocol.ts";

export interface FrameSink {
  /** One frame; its payload is `source[start, end)`. Returns false to stop reading. */
  frame(header: FrameHeader, source: Buffer, start: number, end: number): boolean;
  /** The input can't be HTTP/2, or a frame is larger than announced. Nothing is read afterwards. */
  unreadable(reason: "preface" | "frame size"): void;
}

export interface FrameHeader {
  type: number;
  flags: number;
  id: number;
}

export class FrameReader {
  readonly #sink: FrameSink;
  /** Reused for every frame: sinks read it and don't keep it. */
  readonly #header: FrameHeader = { type: 0, flags: 0, id: 0 };
  /** The start of an unfinished frame, in a buffer for all of it once its header is known. */
  #partial: Buffer | undefined;
  #partialBytes = 0;
  #prefaceBytes = 0;
  #isStopped = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** True while a frame has begun and not ended. */
  get isWithinFrame(): boolean {
    return this.#partial !== undefined;
  }

  read(chunk: Buffer): void {
    if (this.#isStopped) return;
    let at = this.#prefaceBytes < PREFACE.length ? this.#preface(chunk) : 0;
    while (this.#partial !== undefined && at < chunk.length && !this.#isStopped) {
      at = this.#complete(this.#partial, chunk, at);
    }
    while (!this.#isStopped && chunk.length - at >= FRAME_HEADER_BYTES) {
      const start = at + FRAME_HEADER_BYTES;
      const end = start + this.#payloadBytes(chunk, at);
      if (this.#isStopped || end > chunk.length) break;
      this.#deliver(chunk, at, end);
      at = end;
    }
    if (!this.#isStopped && at < chunk.length) this.#keep(chunk, at);
  }

  /** Checks the preface (RFC 9113 section 3.4) and returns the offset behind its octets. */
  #preface(chunk: Buffer): number {
    let at = 0;
    while (this.#prefaceBytes < PREFACE.length && at < chunk.length) {
      if (chunk[at] !== PREFACE[this.#prefaceBytes]) {
        this.#isStopped = true;
        this.#sink.unreadable("preface");
        return at;
      }
      this.#prefaceBytes += 1;
      at += 1;
    }
    return at;
  }

  #payloadBytes(source: Buffer, at: number): number {
    const length =
      ((source[at] as number) << 16) |
      ((source[at + 1] as number) << 8) |
      (source[at + 2] as number);
    if (length > LIMITS.http2FrameBytesMax) {
      this.#isStopped = true;
      this.#sink.unreadable("frame size");
    }
    return length;
  }

  #deliver(source: Buffer, at: number, end: number): void {
    const header = this.#header;
    header.type = source[at + 3] as number;
    header.flags = source[at + 4] as number;
    header.id =
      (((source[at + 5] as number) & 0x7f) << 24) |
      ((source[at + 6] as number) << 16) |
      ((source[at + 7] as number) << 8) |
      (source[at + 8] as number);
    if (!this.#sink.frame(header, source, at + FRAME_HEADER_BYTES, end)) this.#isStopped = true;
  }

  #keep(chunk: Buffer, at: number): void {
    const rest = chunk.length - at;
    const whole =
      rest < FRAME_HEADER_BYTES
        ? FRAME_HEADER_BYTES
        : FRAME_HEADER_BYTES + this.#payloadBytes(chunk, at);
    if (this.#isStopped) return;
    this.#partial = Buffer.allocUnsafeSlow(whole);
    this.#partialBytes = rest;
    chunk.copy(this.#partial, 0, at);
  }

  /**
   * Adds to the unfinished frame, delivers it when it is whole, and returns the offset behind what
   * was taken.
   */
  #complete(partial: Buffer, chunk: Buffer, at: number): number {
    const take = Math.min(partial.length - this.#partialBytes, chunk.length - at);
    chunk.copy(partial, this.#partialBytes, at, at + take);
    this.#partialBytes += take;
    if (this.#partialBytes < partial.length) return at + take;
    const whole = FRAME_HEADER_BYTES + this.#payloadBytes(partial, 0);
    if (this.#isStopped) return at + take;
    if (whole > partial.length) {
      this.#partial = Buffer.allocUnsafeSlow(whole);
      partial.copy(this.#partial);
    } else {
      this.#partial = undefined;
      this.#deliver(partial, 0, whole);
    }
    return at + take;
  }
}
