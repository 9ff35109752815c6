/**
 * One request and its reply. Octets are pushed both ways: the listener gets what arrives, `write`
 * says whether to go on. What is delivered counts as consumed, so a listener that can't keep up
 * calls `pause`: the client is then held to its window.
 */
import { assert } from "../../shared/base/assert.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { PreparedHeaders } from "./hpack-encoder.ts";
import { ERROR } from "./protocol.ts";
import type { RequestHead } from "./request-head.ts";
import type { Sender, SendingStream } from "./sender.ts";

/**
 * Who answers a request. Called from within the connection's reading, never after the stream is
 * over.
 */
export interface StreamListener {
  /** Octets of the body; they belong to the listener. */
  onData(chunk: Buffer): void;
  /** The request is complete. */
  onEnd(): void;
  /** After `write` returned false: the queue is short again. */
  onWritable(): void;
  /**
   * The stream is over before its time: the client cancelled, broke a rule, or is gone. Nothing
   * more can be sent.
   */
  onReset(code: number): void;
}

/** What a stream needs of its connection. */
export interface StreamOwner {
  readonly sender: Sender;
  /** Counts octets that listeners hold for unfinished messages; false when they are too many. */
  hold(bytes: number): boolean;
  /** Gives octets of the connection's receive window back. */
  consumed(length: number): void;
  /**
   * The stream is over. `isReset`: the server has sent RST_STREAM, so late frames are no fault of
   * the client.
   */
  streamOver(stream: Http2Stream, isReset: boolean): void;
}

const IGNORED: StreamListener = { onData() {}, onEnd() {}, onWritable() {}, onReset() {} };
const WINDOW_STEP = LIMITS.http2StreamWindowBytes / 2;

export class Http2Stream implements SendingStream {
  readonly id: number;
  readonly head: RequestHead;
  readonly #owner: StreamOwner;
  listener: StreamListener = IGNORED;

  /** Octets that the client may still send, and those consumed since its window was last raised. */
  #receiveWindow: number = LIMITS.http2StreamWindowBytes;
  #consumedBytes = 0;
  #bodyBytes = 0;
  #isPaused = false;
  /** Arrived while paused; the client gets no credit for it. */
  #waiting: Buffer | undefined;
  #waitingBytes = 0;
  #heldBytes = 0;
  #hasEnded = false;
  #isEndDelivered = false;

  sendWindow: number;
  queuedBytes = 0;
  isReady = false;
  #queue: Bytes[] | undefined;
  /** Octets of the queue's first part that are sent. */
  #queueOffset = 0;
  #trailers: PreparedHeaders | undefined;
  #hasResponded = false;
  #isEnding = false;
  #wantsDrain = false;
  #isOver = false;

  constructor(owner: StreamOwner, id: number, head: RequestHead) {
    this.#owner = owner;
    this.id = id;
    this.head = head;
    this.sendWindow = owner.sender.streamWindow;
  }

  /** Nothing more can be sent or will be received. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** The client has sent its END_STREAM. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  get endsWithData(): boolean {
    return this.#isEnding && this.#trailers === undefined;
  }

  /* Receiving. */

  /**
   * A DATA frame of `flowBytes` octets with padding. False: the client has exceeded the stream's
   * window.
   */
  receive(chunk: Buffer, flowBytes: number): boolean {
    this.#receiveWindow -= flowBytes;
    if (this.#receiveWindow < 0) return false;
    this.#bodyBytes += chunk.length;
    if (!this.#isPaused) {
      this.#deliver(chunk, flowBytes);
      return true;
    }
    this.#consume(flowBytes - chunk.length);
    this.#keep(chunk);
    return true;
  }

  /** False: the body is longer, or at its end shorter, than content-length said. */
  isBodyAsAnnounced(atEnd: boolean): boolean {
    const announced = this.head.contentLength;
    if (announced < 0) return true;
    return atEnd ? this.#bodyBytes === announced : this.#bodyBytes <= announced;
  }

  /** The client's END_STREAM. */
  receiveEnd(): void {
    this.#hasEnded = true;
    this.#deliverEnd();
  }

  /** Copied into one buffer: small frames must not each hold on to the chunk that they came in. */
  #keep(chunk: Buffer): void {
    const length = this.#waitingBytes + chunk.length;
    const waiting = this.#waiting;
    if (waiting === undefined || waiting.length < length) {
      this.#waiting = Buffer.allocUnsafeSlow(Math.max(1024, 2 * length));
      waiting?.copy(this.#waiting, 0, 0, this.#waitingBytes);
    }
    if (this.#waiting !== undefined) chunk.copy(this.#waiting, this.#waitingBytes);
    this.#waitingBytes = length;
  }

  #deliver(chunk: Buffer, flowBytes: number): void {
    if (chunk.length > 0) this.listener.onData(chunk);
    this.#consume(flowBytes);
  }

  #consume(length: number): void {
    if (length === 0) return;
    this.#owner.consumed(length);
    this.#consumedBytes += length;
    if (this.#consumedBytes < WINDOW_STEP || this.#hasEnded || this.#isOver) return;
    this.#owner.sender.windowUpdate(this.id, this.#consumedBytes);
    this.#receiveWindow += this.#consumedBytes;
    this.#consumedBytes = 0;
  }

  /** Nothing is delivered until `resume`. */
  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    const waiting = this.#waiting;
    if (waiting !== undefined && !this.#isOver) {
      const length = this.#waitingBytes;
      this.#waiting = undefined;
      this.#waitingBytes = 0;
      this.#deliver(waiting.subarray(0, length), length);
    }
    this.#deliverEnd();
  }

  #deliverEnd(): void {
    if (!this.#hasEnded || this.#isEndDelivered || this.#isPaused || this.#isOver) return;
    this.#isEndDelivered = true;
    this.listener.onEnd();
  }

  /**
   * Counts `bytes` (negative: gives them back) that the listener keeps of an unfinished message.
   * False: the connection holds more than its share, and this request should be refused.
   */
  hold(bytes: number): boolean {
    this.#heldBytes += bytes;
    return this.#owner.hold(bytes);
  }

  /* Sending. */

  /** Sends the response's headers, once; `ends`: nothing follows. */
  respond(headers: PreparedHeaders, ends = false): void {
    assert(!this.#hasResponded, "a response begins once");
    if (this.#isOver) return;
    this.#hasResponded = true;
    this.#isEnding = ends;
    this.#owner.sender.headers(this.id, headers, ends);
    if (ends) this.#sentAll();
  }

  /** Sends interim headers (status 1xx). */
  inform(headers: PreparedHeaders): void {
    if (!this.#isOver && !this.#hasResponded) this.#owner.sender.headers(this.id, headers, false);
  }

  get hasResponded(): boolean {
    return this.#hasResponded;
  }

  /**
   * Sends `bytes`, after a short `prefix` if given. The server keeps `bytes` until they are sent
   * (so they must not change), but copies `prefix`. False: wait for `onWritable` before writing
   * more; these octets are queued all the same.
   */
  write(bytes: Bytes, prefix?: Bytes): boolean {
    if (this.#isOver || this.#isEnding) return false;
    assert(this.#hasResponded, "headers come before data");
    const { sender } = this.#owner;
    const length = bytes.length + (prefix === undefined ? 0 : prefix.length);
    if (length === 0) return true;
    if (this.queuedBytes === 0 && sender.canSend(this, length)) {
      sender.data(this, prefix, bytes);
      return true;
    }
    if (sender.queuedBytes > LIMITS.http2ConnectionQueueBytesMax) {
      this.fail(ERROR.enhanceYourCalm);
      return false;
    }
    this.#queue ??= [];
    if (prefix !== undefined) this.#queue.push(Uint8Array.from(prefix));
    this.#queue.push(bytes);
    this.queuedBytes += length;
    sender.queuedBytes += length;
    sender.ready(this);
    const isShort = this.queuedBytes <= LIMITS.http2StreamQueueBytes;
    if (!isShort) this.#wantsDrain = true;
    return isShort;
  }

  /** Ends the response behind what is queued, with trailers if given. */
  end(trailers?: PreparedHeaders): void {
    if (this.#isOver || this.#isEnding) return;
    assert(this.#hasResponded, "headers come before the end");
    this.#isEnding = true;
    this.#trailers = trailers;
    if (this.queuedBytes === 0) this.#sendEnd();
  }

  /** Sender's: see `SendingStream`. */
  takeQueued(target: Buffer, offset: number, length: number): void {
    const queue = this.#queue;
    assert(queue !== undefined && length <= this.queuedBytes, "only queued octets are taken");
    let at = offset;
    let parts = 0;
    for (let rest = length; rest > 0;) {
      const part = queue[parts] as Bytes;
      const take = Math.min(rest, part.length - this.#queueOffset);
      target.set(part.subarray(this.#queueOffset, this.#queueOffset + take), at);
      at += take;
      rest -= take;
      this.#queueOffset += take;
      if (this.#queueOffset < part.length) break;
      this.#queueOffset = 0;
      parts += 1;
    }
    this.queuedBytes -= length;
    if (this.queuedBytes === 0) this.#queue = undefined;
    else if (parts > 0) queue.splice(0, parts);
  }

  /** Sender's: see `SendingStream`. */
  frameSent(): void {
    if (this.#isEnding) {
      if (this.queuedBytes > 0) return;
      if (this.#trailers === undefined) this.#sentAll();
      else this.#sendEnd();
      return;
    }
    if (this.#wantsDrain && this.queuedBytes <= LIMITS.http2StreamQueueBytes / 2) {
      this.#wantsDrain = false;
      this.listener.onWritable();
    }
  }

  #sendEnd(): void {
    if (this.#trailers === undefined) this.#owner.sender.endData(this.id);
    else this.#owner.sender.headers(this.id, this.#trailers, true);
    this.#sentAll();
  }

  /** END_STREAM is sent. A client that is still sending is told to stop (RFC 9113 section 8.1). */
  #sentAll(): void {
    if (!this.#hasEnded) this.#owner.sender.rstStream(this.id, ERROR.none);
    this.#over(!this.#hasEnded);
  }

  /** Ends the stream at once, with an error. The listener is not told. */
  reset(code: number): void {
    if (this.#isOver) return;
    this.#owner.sender.rstStream(this.id, code);
    this.#over(true);
  }

  /** Like `reset`, when the listener doesn't know yet. */
  fail(code: number): void {
    if (this.#isOver) return;
    this.reset(code);
    this.listener.onReset(code);
  }

  /** The client's RST_STREAM, or the connection's end. */
  receiveReset(code: number): void {
    if (this.#isOver) return;
    this.#over(false);
    this.listener.onReset(code);
  }

  #over(isReset: boolean): void {
    assert(!this.#isOver, "a stream ends once");
    this.#isOver = true;
    const owner = this.#owner;
    owner.sender.queuedBytes -= this.queuedBytes;
    this.queuedBytes = 0;
    this.#queue = undefined;
    owner.hold(-this.#heldBytes);
    this.#heldBytes = 0;
    if (this.#waitingBytes > 0) owner.consumed(this.#waitingBytes);
    this.#waiting = undefined;
    owner.streamOver(this, isReset);
  }
}
