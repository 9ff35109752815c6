/**
 * The server's side of one HTTP/2 connection (RFC 9113): frames in, streams, windows, floods, and
 * the connection's end. It never throws for what a client sends: a broken rule ends the stream or
 * the connection with the RFC's error code.
 */
import type { Socket } from "node:net";
import { LIMITS } from "../../shared/base/limits.ts";
import { RisingMap } from "../../shared/base/rising-map.ts";
import { FloodGuard } from "./flood-guard.ts";
import { FrameReader, type FrameHeader, type FrameSink } from "./frame-reader.ts";
import { HeaderBlock } from "./header-block.ts";
import { prepareHeaders } from "./hpack-encoder.ts";
import { HeaderDecoder } from "./hpack-decoder.ts";
import { Outbox } from "./outbox.ts";
import { ERROR, FLAG, FRAME, INITIAL_WINDOW, SETTING, STREAM_ID_MAX } from "./protocol.ts";
import { WINDOW_MAX, readUint32 } from "./protocol.ts";
import { RequestHead } from "./request-head.ts";
import { Sender } from "./sender.ts";
import { readSettings } from "./settings.ts";
import { Http2Stream, type StreamListener, type StreamOwner } from "./stream.ts";

export interface ConnectionOptions {
  /** A request has begun; the returned listener gets its body. */
  onStream(stream: Http2Stream, connection: Http2Connection): StreamListener;
  onClose(connection: Http2Connection): void;
  readonly streamsMax: number;
  /** Octets that listeners of all connections hold for unfinished messages. */
  readonly held: { bytes: number };
  /**
   * Seconds without input after which the server pings, and then waits for input before it gives
   * the client up.
   */
  readonly keepaliveSeconds: number;
  readonly keepaliveTimeoutSeconds: number;
}

const HEADERS_TOO_LARGE = prepareHeaders([[":status", "431"]]);
const WINDOW_STEP = LIMITS.http2ConnectionWindowBytes / 2;
/** Streams that the server has reset lately: frames that were under way then are no fault. */
const RECENT_RESETS_MAX = 128;
const PING_PAYLOAD = Buffer.from("quorate!", "latin1");

export class Http2Connection implements FrameSink, StreamOwner {
  readonly socket: Socket;
  readonly sender: Sender;
  /**
   * Handlers at work for this connection, also those whose stream is gone: kept by the layer
   * above.
   */
  runningCalls = 0;
  readonly #options: ConnectionOptions;
  readonly #outbox: Outbox;
  readonly #reader: FrameReader;
  readonly #decoder = new HeaderDecoder();
  readonly #guard = new FloodGuard();
  readonly #streams = new RisingMap<Http2Stream>();
  readonly #recentResets = new Set<number>();
  #openHeaderBytes = 0;
  #heldBytes = 0;
  /** The highest stream that the client has opened. */
  #lastId = 0;
  #block: HeaderBlock | undefined;
  #receiveWindow: number = LIMITS.http2ConnectionWindowBytes;
  #consumedBytes = 0;
  #hasSettings = false;
  #replyFramesSeen = 0;
  /**
   * `draining`: GOAWAY is announced; `drained`: new streams are ignored; `failed`: input is
   * dropped, then comes the end.
   */
  #state: "open" | "draining" | "drained" | "failed" | "closed" = "open";
  /** No stream above it will be served; the GOAWAY that says so can only lower it. */
  #goawayId: number = STREAM_ID_MAX;
  #lingerSeconds = 0;
  /**
   * Seconds since the connection, its unfinished header block or its failure began, and since the
   * last input.
   */
  #seconds = 0;
  #idleSeconds = 0;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.socket = socket;
    this.#options = options;
    this.#outbox = new Outbox(socket);
    this.sender = new Sender(this.#outbox);
    this.#reader = new FrameReader(this);
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("drain", () => this.#drained());
    socket.on("end", () => {
      if (this.#state !== "failed") this.#closed();
    });
    socket.on("close", () => this.#closed());
    socket.on("error", () => this.#closed());
    this.sender.settings([
      [SETTING.maxConcurrentStreams, options.streamsMax],
      [SETTING.initialWindowSize, LIMITS.http2StreamWindowBytes],
      [SETTING.maxHeaderListSize, LIMITS.http2HeaderListBytesMax],
    ]);
    this.sender.windowUpdate(0, LIMITS.http2ConnectionWindowBytes - INITIAL_WINDOW);
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  /* Input. */

  receive(chunk: Buffer): void {
    this.#idleSeconds = 0;
    if (this.#state === "failed" || this.#state === "closed") return;
    this.#outbox.cork();
    this.#reader.read(chunk);
    this.#outbox.uncork();
    const unread = this.#outbox.bytes + this.sender.queuedBytes;
    if (this.#outbox.isFull && unread > LIMITS.http2UnreadOutputBytesMax) this.socket.pause();
  }

  #drained(): void {
    this.#outbox.drained();
    if (this.#state === "failed") {
      this.#endSocket();
      return;
    }
    this.sender.pump();
    this.#outbox.flush();
    if (this.socket.isPaused() && !this.#outbox.isFull) this.socket.resume();
  }

  unreadable(reason: "preface" | "frame size"): void {
    this.#fail(reason === "preface" ? ERROR.protocol : ERROR.frameSize, `bad ${reason}`);
  }

  frame(header: FrameHeader, source: Buffer, start: number, end: number): boolean {
    const { type, flags, id } = header;
    if (this.#state === "failed" || this.#state === "closed") return false;
    if (this.#block !== undefined && (type !== FRAME.continuation || id !== this.#block.id)) {
      return this.#fail(ERROR.protocol, "a header block is interrupted");
    }
    if (!this.#hasSettings && (type !== FRAME.settings || (flags & FLAG.ack) !== 0)) {
      return this.#fail(ERROR.protocol, "the first frame must be SETTINGS");
    }
    switch (type) {
      case FRAME.data:
        return this.#data(id, flags, source, start, end);
      case FRAME.headers:
        return this.#headers(id, flags, source, start, end);
      case FRAME.priority:
        return this.#priority(id, end - start);
      case FRAME.rstStream:
        return this.#rstStream(id, source, start, end);
      case FRAME.settings:
        return this.#settings(id, flags, source, start, end);
      case FRAME.pushPromise:
        return this.#fail(ERROR.protocol, "clients don't push");
      case FRAME.ping:
        return this.#ping(id, flags, source, start, end);
      case FRAME.goaway:
        if (id !== 0) return this.#fail(ERROR.protocol, "GOAWAY on a stream");
        if (end - start < 8) return this.#fail(ERROR.frameSize, "GOAWAY is too short");
        return true;
      case FRAME.windowUpdate:
        return this.#windowUpdate(id, source, start, end);
      case FRAME.continuation:
        return this.#continuation(flags, source, start, end);
      default:
        return this.#guard.takeIdleFrame() || this.#flooded("unknown frames");
    }
  }

  #isIdle(id: number): boolean {
    return id > this.#lastId || (id & 1) === 0;
  }

  #data(id: number, flags: number, source: Buffer, start: number, end: number): boolean {
    if (id === 0) return this.#fail(ERROR.protocol, "DATA on stream 0");
    if (this.#isIdle(id)) return this.#fail(ERROR.protocol, "DATA on an idle stream");
    const flowBytes = end - start;
    const ends = (flags & FLAG.endStream) !== 0;
    let from = start;
    let to = end;
    if ((flags & FLAG.padded) !== 0) {
      to -= start < end ? (source[start] as number) : 0;
      from += 1;
      if (from > to) return this.#fail(ERROR.protocol, "padding exceeds the frame");
    }
    if (from === to && !ends && !this.#guard.takeIdleFrame()) return this.#flooded("empty DATA");
    this.#receiveWindow -= flowBytes;
    if (this.#receiveWindow < 0) return this.#fail(ERROR.flowControl, "window exceeded");
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.hasEnded) {
      this.consumed(flowBytes);
      if (this.#recentResets.has(id)) return true;
      return this.#streamError(id, ERROR.streamClosed);
    }
    if (!stream.receive(source.subarray(from, to), flowBytes)) {
      this.consumed(flowBytes);
      return this.#streamError(id, ERROR.flowControl);
    }
    if (stream.isOver) return true;
    if (!stream.isBodyAsAnnounced(ends)) return this.#streamError(id, ERROR.protocol);
    if (ends) stream.receiveEnd();
    return true;
  }

  #headers(id: number, flags: number, source: Buffer, start: number, end: number): boolean {
    if ((id & 1) === 0) return this.#fail(ERROR.protocol, "HEADERS on a stream of the server");
    let from = start;
    let to = end;
    if ((flags & FLAG.padded) !== 0) {
      to -= start < end ? (source[start] as number) : 0;
      from += 1;
    }
    if ((flags & FLAG.priority) !== 0) from += 5;
    if (from > to) return this.#fail(ERROR.protocol, "padding exceeds the frame");
    const ends = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) return this.#header(id, ends, source, from, to);
    this.#block = new HeaderBlock(id, ends);
    this.#seconds = 0;
    this.#block.add(source, from, to);
    return true;
  }

  #continuation(flags: number, source: Buffer, start: number, end: number): boolean {
    const block = this.#block;
    if (block === undefined) return this.#fail(ERROR.protocol, "CONTINUATION without HEADERS");
    if (!block.add(source, start, end)) return this.#flooded("header block too large");
    if ((flags & FLAG.endHeaders) === 0) return true;
    this.#block = undefined;
    const whole = block.join();
    return this.#header(block.id, block.endsStream, whole, 0, whole.length);
  }

  /** A whole header block: a request, trailers, or late and ignored. */
  #header(id: number, ends: boolean, source: Buffer, start: number, end: number): boolean {
    const head = new RequestHead();
    if (!this.#decoder.decode(source, start, end, head)) {
      return this.#fail(ERROR.compression, "malformed header block");
    }
    if (id > this.#lastId) return this.#request(id, ends, head);
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      if (this.#recentResets.has(id)) return true;
      return this.#fail(ERROR.streamClosed, "HEADERS on a closed stream");
    }
    if (stream.hasEnded) return this.#streamError(id, ERROR.streamClosed);
    if (!ends || !head.isTrailers() || !stream.isBodyAsAnnounced(true)) {
      return this.#streamError(id, ERROR.protocol);
    }
    stream.receiveEnd();
    return true;
  }

  #request(id: number, ends: boolean, head: RequestHead): boolean {
    this.#lastId = id;
    if (this.#state === "drained") {
      this.sender.rstStream(id, ERROR.refusedStream);
      this.#rememberReset(id);
      return true;
    }
    if (
      this.#streams.size >= this.#options.streamsMax ||
      this.#openHeaderBytes > LIMITS.http2OpenHeaderBytesMax ||
      this.sender.queuedBytes > LIMITS.http2ConnectionQueueBytesMax
    ) {
      return this.#streamError(id, ERROR.refusedStream);
    }
    if (head.isTooLarge) {
      this.sender.headers(id, HEADERS_TOO_LARGE, true);
      return this.#streamError(id, ERROR.none);
    }
    if (!head.isRequest() || (ends && head.contentLength > 0)) {
      return this.#streamError(id, ERROR.protocol);
    }
    const stream = new Http2Stream(this, id, head);
    this.#streams.add(id, stream);
    this.#openHeaderBytes += head.bytes;
    stream.listener = this.#options.onStream(stream, this);
    if (ends && !stream.isOver) stream.receiveEnd();
    return true;
  }

  #priority(id: number, length: number): boolean {
    if (id === 0) return this.#fail(ERROR.protocol, "PRIORITY on stream 0");
    if (length !== 5) return this.#streamError(id, ERROR.frameSize);
    return this.#guard.takeIdleFrame() || this.#flooded("PRIORITY");
  }

  #rstStream(id: number, source: Buffer, start: number, end: number): boolean {
    if (end - start !== 4) return this.#fail(ERROR.frameSize, "RST_STREAM has four octets");
    if (id === 0 || this.#isIdle(id)) {
      return this.#fail(ERROR.protocol, "RST_STREAM on an idle stream");
    }
    if (!this.#guard.takeReset()) return this.#flooded("resets");
    this.#streams.get(id)?.receiveReset(readUint32(source, start));
    return true;
  }

  #settings(id: number, flags: number, source: Buffer, start: number, end: number): boolean {
    if (id !== 0) return this.#fail(ERROR.protocol, "SETTINGS on a stream");
    if ((flags & FLAG.ack) !== 0) {
      return end === start || this.#fail(ERROR.frameSize, "a SETTINGS ack is empty");
    }
    if (!this.#guard.takeSettings()) return this.#flooded("SETTINGS");
    const settings = readSettings(source, start, end);
    if (settings.error !== ERROR.none) return this.#fail(settings.error, "bad SETTINGS");
    this.#hasSettings = true;
    if (settings.headerTableBytesMin !== undefined) {
      this.sender.setHeaderTableBytes(settings.headerTableBytesMin);
    }
    this.sender.settingsAck();
    if (settings.initialWindow === undefined) return true;
    return this.#resizeStreamWindows(settings.initialWindow);
  }

  #resizeStreamWindows(window: number): boolean {
    const change = window - this.sender.streamWindow;
    this.sender.streamWindow = window;
    for (const stream of this.#streams.values()) {
      stream.sendWindow += change;
      if (stream.sendWindow > WINDOW_MAX) return this.#fail(ERROR.flowControl, "window overflow");
      if (stream.queuedBytes > 0) this.sender.ready(stream);
    }
    return true;
  }

  #ping(id: number, flags: number, source: Buffer, start: number, end: number): boolean {
    if (id !== 0) return this.#fail(ERROR.protocol, "PING on a stream");
    if (end - start !== 8) return this.#fail(ERROR.frameSize, "PING has eight octets");
    if ((flags & FLAG.ack) !== 0) {
      if (this.#state === "draining") this.#refuseStreams();
      return true;
    }
    if (this.sender.replyFrames !== this.#replyFramesSeen) {
      this.#replyFramesSeen = this.sender.replyFrames;
      this.#guard.replied();
    }
    if (!this.#guard.takePing()) return this.#flooded("PING");
    this.sender.ping(source, start, FLAG.ack);
    return true;
  }

  #windowUpdate(id: number, source: Buffer, start: number, end: number): boolean {
    if (end - start !== 4) return this.#fail(ERROR.frameSize, "WINDOW_UPDATE has four octets");
    const increment = readUint32(source, start) & WINDOW_MAX;
    if (id === 0) {
      if (increment === 0) return this.#fail(ERROR.protocol, "WINDOW_UPDATE by 0");
      this.sender.window += increment;
      if (this.sender.window > WINDOW_MAX) return this.#fail(ERROR.flowControl, "window overflow");
      this.sender.pump();
      return true;
    }
    if (this.#isIdle(id)) return this.#fail(ERROR.protocol, "WINDOW_UPDATE on an idle stream");
    const stream = this.#streams.get(id);
    if (stream === undefined) return true;
    if (increment === 0) return this.#streamError(id, ERROR.protocol);
    stream.sendWindow += increment;
    if (stream.sendWindow > WINDOW_MAX) return this.#streamError(id, ERROR.flowControl);
    if (stream.queuedBytes > 0) this.sender.ready(stream);
    return true;
  }

  /* Streams. */

  consumed(length: number): void {
    this.#consumedBytes += length;
    if (this.#consumedBytes < WINDOW_STEP) return;
    this.sender.windowUpdate(0, this.#consumedBytes);
    this.#receiveWindow += this.#consumedBytes;
    this.#consumedBytes = 0;
  }

  hold(bytes: number): boolean {
    const { held } = this.#options;
    this.#heldBytes += bytes;
    held.bytes += bytes;
    return (
      this.#heldBytes <= LIMITS.http2ConnectionHeldBytesMax &&
      held.bytes <= LIMITS.http2ServerHeldBytesMax
    );
  }

  streamOver(stream: Http2Stream, isReset: boolean): void {
    this.#streams.delete(stream.id);
    this.#openHeaderBytes -= stream.head.bytes;
    if (isReset) this.#rememberReset(stream.id);
    if (this.#state === "drained" && this.#streams.size === 0)
      this.#end(LIMITS.http2HandshakeSeconds);
  }

  #rememberReset(id: number): void {
    this.#recentResets.add(id);
    if (this.#recentResets.size <= RECENT_RESETS_MAX) return;
    for (const oldest of this.#recentResets) {
      this.#recentResets.delete(oldest);
      return;
    }
  }

  /**
   * Resets a stream for what the client did, which counts like a reset by the client
   * (MadeYouReset).
   */
  #streamError(id: number, code: number): boolean {
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      this.sender.rstStream(id, code);
      this.#rememberReset(id);
    } else {
      stream.fail(code);
    }
    return this.#guard.takeReset() || this.#flooded("provoked resets");
  }

  /* The end. */

  #flooded(what: string): false {
    return this.#fail(ERROR.enhanceYourCalm, `too many: ${what}`);
  }

  /** A connection error: GOAWAY, all streams end, and the rest of the input is dropped. */
  #fail(code: number, reason: string): false {
    if (this.#state === "failed" || this.#state === "closed") return false;
    this.sender.goaway(Math.min(this.#lastId, this.#goawayId), code, reason);
    this.#end(LIMITS.http2LingerSeconds);
    return false;
  }

  /** Sends what is due and closes; the client has some time to read it. */
  #end(lingerSeconds: number): void {
    this.#state = "failed";
    this.#seconds = 0;
    this.#lingerSeconds = lingerSeconds;
    this.#resetAll(ERROR.cancel);
    this.#outbox.flush();
    this.#endSocket();
    this.socket.resume();
  }

  #endSocket(): void {
    if (this.#outbox.bytes === 0) this.socket.end();
  }

  #closed(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#resetAll(ERROR.cancel);
    this.#options.onClose(this);
    this.socket.destroy();
  }

  #resetAll(code: number): void {
    for (const stream of this.#streams.values()) stream.receiveReset(code);
  }

  /**
   * Stops taking streams: those that the client sends until it has read the GOAWAY are still
   * served (section 6.8).
   */
  shutdown(): void {
    if (this.#state !== "open") return;
    this.#state = "draining";
    this.#seconds = 0;
    this.sender.goaway(STREAM_ID_MAX, ERROR.none, "shutdown");
    this.sender.ping(PING_PAYLOAD, 0, 0);
  }

  #refuseStreams(): void {
    this.#state = "drained";
    this.#goawayId = this.#lastId;
    this.sender.goaway(this.#goawayId, ERROR.none, "shutdown");
    if (this.#streams.size === 0) this.#end(LIMITS.http2HandshakeSeconds);
  }

  destroy(): void {
    this.#closed();
  }

  /** Called once a second. */
  sweep(): void {
    this.#guard.refill();
    this.#seconds += 1;
    this.#idleSeconds += 1;
    if (this.#state === "failed") {
      if (this.#seconds > this.#lingerSeconds) this.#closed();
      return;
    }
    if (this.#state === "draining" && this.#seconds > 1) this.#refuseStreams();
    const isWaiting = !this.#hasSettings || this.#block !== undefined;
    if (isWaiting && this.#seconds > LIMITS.http2HandshakeSeconds) {
      this.#fail(ERROR.enhanceYourCalm, "too slow");
      return;
    }
    const { keepaliveSeconds, keepaliveTimeoutSeconds } = this.#options;
    if (this.#idleSeconds === keepaliveSeconds) this.sender.ping(PING_PAYLOAD, 0, 0);
    if (this.#idleSeconds >= keepaliveSeconds + keepaliveTimeoutSeconds) this.#closed();
  }
}
