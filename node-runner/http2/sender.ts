/**
 * Frames out. Control frames are written at once; DATA obeys the connection's window, its
 * stream's, and the room in the outbox. Streams with queued octets take turns, a frame each, so a
 * large reply doesn't starve small ones.
 */
import { assert } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { HeaderEncoder, type PreparedHeaders } from "./hpack-encoder.ts";
import type { Outbox } from "./outbox.ts";
import { FLAG, FRAME, FRAME_HEADER_BYTES, INITIAL_WINDOW, writeUint32 } from "./protocol.ts";

/** What the sender knows of a stream. */
export interface SendingStream {
  readonly id: number;
  /** Octets that the client still takes; negative after it shrank its initial window. */
  sendWindow: number;
  readonly queuedBytes: number;
  /** It stands in the sender's queue. Only the sender writes this. */
  isReady: boolean;
  /** No more octets will be queued and no trailers follow: the last frame ends the stream. */
  readonly endsWithData: boolean;
  /** Moves `length` queued octets to `target` at `offset`. */
  takeQueued(target: Buffer, offset: number, length: number): void;
  /** A frame of its queue has been written: the stream ends or asks for more if it is time to. */
  frameSent(): void;
}

export class Sender {
  readonly #outbox: Outbox;
  readonly #encoder = new HeaderEncoder();
  /** The connection's window: octets that the client still takes. */
  window: number = INITIAL_WINDOW;
  /** The client's SETTINGS_INITIAL_WINDOW_SIZE. */
  streamWindow: number = INITIAL_WINDOW;
  /** Octets queued on all streams. */
  queuedBytes = 0;
  /**
   * Reply frames written since the connection began: tells apart pings that measure from pings
   * that flood.
   */
  replyFrames = 0;
  #ready: SendingStream[] = [];
  #isPumping = false;

  constructor(outbox: Outbox) {
    this.#outbox = outbox;
  }

  setHeaderTableBytes(bytes: number): void {
    this.#encoder.setTableBytes(bytes);
  }

  /**
   * A frame of `length` payload octets; the caller writes them into the outbox's chunk at the
   * returned offset.
   */
  #frame(type: number, flags: number, id: number, length: number): number {
    const offset = this.#outbox.reserve(FRAME_HEADER_BYTES + length);
    const chunk = this.#outbox.chunk;
    chunk[offset] = 0;
    chunk[offset + 1] = length >>> 8;
    chunk[offset + 2] = length;
    chunk[offset + 3] = type;
    chunk[offset + 4] = flags;
    writeUint32(chunk, offset + 5, id);
    return offset + FRAME_HEADER_BYTES;
  }

  settings(settings: readonly (readonly [id: number, value: number])[]): void {
    let at = this.#frame(FRAME.settings, 0, 0, settings.length * 6);
    for (const [id, value] of settings) {
      this.#outbox.chunk[at] = 0;
      this.#outbox.chunk[at + 1] = id;
      writeUint32(this.#outbox.chunk, at + 2, value);
      at += 6;
    }
  }

  settingsAck(): void {
    this.#frame(FRAME.settings, FLAG.ack, 0, 0);
  }

  /** A ping with the eight octets of `source` at `start`. */
  ping(source: Buffer, start: number, flags: number): void {
    const at = this.#frame(FRAME.ping, flags, 0, 8);
    source.copy(this.#outbox.chunk, at, start, start + 8);
  }

  goaway(lastId: number, code: number, reason: string): void {
    const at = this.#frame(FRAME.goaway, 0, 0, 8 + reason.length);
    writeUint32(this.#outbox.chunk, at, lastId);
    writeUint32(this.#outbox.chunk, at + 4, code);
    this.#outbox.chunk.write(reason, at + 8, "latin1");
  }

  rstStream(id: number, code: number): void {
    const at = this.#frame(FRAME.rstStream, 0, id, 4);
    writeUint32(this.#outbox.chunk, at, code);
  }

  windowUpdate(id: number, increment: number): void {
    const at = this.#frame(FRAME.windowUpdate, 0, id, 4);
    writeUint32(this.#outbox.chunk, at, increment);
  }

  headers(id: number, headers: PreparedHeaders, endsStream: boolean): void {
    this.replyFrames += 1;
    const flags = endsStream ? FLAG.endStream : 0;
    const bytesMax = this.#encoder.bytesMax(headers);
    if (bytesMax > LIMITS.http2FrameBytesMax) {
      this.#longHeaders(id, headers, flags);
      return;
    }
    const at = this.#frame(FRAME.headers, flags | FLAG.endHeaders, id, bytesMax);
    const chunk = this.#outbox.chunk;
    const length = this.#encoder.encode(headers, chunk, at) - at;
    assert(length <= bytesMax, "a header block fits in what was reserved");
    chunk[at - 8] = length >>> 8;
    chunk[at - 7] = length;
    this.#outbox.give(bytesMax - length);
  }

  /** A block that needs CONTINUATION frames. */
  #longHeaders(id: number, headers: PreparedHeaders, flags: number): void {
    const block = Buffer.allocUnsafe(this.#encoder.bytesMax(headers));
    const length = this.#encoder.encode(headers, block, 0);
    for (let from = 0; from < length; from += LIMITS.http2FrameBytesMax) {
      const to = Math.min(from + LIMITS.http2FrameBytesMax, length);
      const at = this.#frame(
        from === 0 ? FRAME.headers : FRAME.continuation,
        (from === 0 ? flags : 0) | (to === length ? FLAG.endHeaders : 0),
        id,
        to - from,
      );
      block.copy(this.#outbox.chunk, at, from, to);
    }
  }

  /** True when one frame of `length` octets may leave now. */
  canSend(stream: SendingStream, length: number): boolean {
    return (
      length <= LIMITS.http2FrameBytesMax &&
      length <= stream.sendWindow &&
      length <= this.window &&
      this.#outbox.hasRoom
    );
  }

  /** One DATA frame of two parts; `canSend` has been asked. */
  data(stream: SendingStream, first: Bytes | undefined, second: Bytes): void {
    const firstLength = first === undefined ? 0 : first.length;
    const length = firstLength + second.length;
    const at = this.#frame(FRAME.data, 0, stream.id, length);
    const chunk = this.#outbox.chunk;
    if (first !== undefined) chunk.set(first, at);
    chunk.set(second, at + firstLength);
    this.#spend(stream, length);
  }

  /** An empty DATA frame that ends the stream; it needs no window. */
  endData(id: number): void {
    this.#frame(FRAME.data, FLAG.endStream, id, 0);
    this.replyFrames += 1;
  }

  #spend(stream: SendingStream, length: number): void {
    this.replyFrames += 1;
    this.window -= length;
    stream.sendWindow -= length;
    assert(this.window >= 0 && stream.sendWindow >= 0, "no more is sent than the windows allow");
  }

  /** The stream has queued octets, or its window has opened. */
  ready(stream: SendingStream): void {
    if (!stream.isReady && stream.sendWindow > 0) {
      stream.isReady = true;
      this.#ready.push(stream);
    }
    this.pump();
  }

  /** Sends queued octets, a frame a stream, until something is full. */
  pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    while (this.#ready.length > 0 && this.window > 0 && this.#outbox.hasRoom) {
      const round = this.#ready;
      this.#ready = [];
      for (let place = 0; place < round.length; place += 1) {
        if (this.window <= 0 || !this.#outbox.hasRoom) {
          this.#ready = round.slice(place).concat(this.#ready);
          break;
        }
        this.#sendQueued(round[place] as SendingStream);
      }
    }
    this.#isPumping = false;
  }

  #sendQueued(stream: SendingStream): void {
    stream.isReady = false;
    const length = Math.min(
      stream.queuedBytes,
      stream.sendWindow,
      this.window,
      LIMITS.http2FrameBytesMax,
    );
    // Its queue was dropped with the stream, or its window shrank, while it stood in line.
    if (length <= 0) return;
    const ends = stream.endsWithData && length === stream.queuedBytes;
    const at = this.#frame(FRAME.data, ends ? FLAG.endStream : 0, stream.id, length);
    stream.takeQueued(this.#outbox.chunk, at, length);
    this.queuedBytes -= length;
    this.#spend(stream, length);
    stream.frameSent();
    if (stream.queuedBytes > 0 && stream.sendWindow > 0 && !stream.isReady) {
      stream.isReady = true;
      this.#ready.push(stream);
    }
  }
}
