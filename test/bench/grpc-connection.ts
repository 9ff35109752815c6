/**
 * A gRPC client connection of the load generator: HTTP/2 frames by hand on a plain socket, so that a call costs a few
 * microseconds here and the server is what is measured. One pass over each chunk that arrives; all requests that it
 * causes leave in one write. Request headers repeat through the dynamic table, as real clients' do.
 *
 * It honours the server's flow control, answers pings and settings, and treats whatever it doesn't expect (resets,
 * goaway, a broken frame) as the failure of the calls concerned. It never retries.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { HeaderField } from "../../node-runner/http2/header-field.ts";
import { HeaderDecoder } from "../../node-runner/http2/hpack-decoder.ts";
import {
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  INITIAL_WINDOW,
  PREFACE,
  SETTING,
  WINDOW_MAX,
  writeFrameHeader,
  writeUint32,
} from "../../node-runner/http2/protocol.ts";

const OUT_BYTES = 64 * 1024;
/** What is read at once; the server writes at most as much for all its answers of a turn. */
const IN_BYTES = 64 * 1024;
/** The server gets new connection window when this much of the first grant is used. */
const WINDOW_REFILL = 0x4000_0000;
const DYNAMIC_FIRST = 62;
const MESSAGE_PREFIX_BYTES = 5;

/** One call; its owner keeps the object and uses it again for the next call. */
export interface Call {
  readonly path: string;
  /** The message as gRPC frames it: a zero byte, four bytes of length, the protobuf. */
  readonly message: Buffer;
  /** Also ends the request; false opens a stream that `send` goes on with. */
  readonly unary: boolean;
  /** A response message: `source[start, end)` is its protobuf, valid during the call only. */
  onMessage(source: Buffer, start: number, end: number): void;
  /** The end: the status of the trailers, or -1 when the stream or connection broke. */
  onEnd(status: number, text: string): void;
}

interface Stream {
  readonly call: Call;
  /** The beginning of a message that DATA frames cut. */
  partial: Buffer | undefined;
}

/** A field with the index of its name in the static table, or its name. */
interface RequestField {
  readonly name: number | string;
  readonly value: string;
}

/** Pseudo-headers come first. Static names: 4 is :path, 1 :authority, 31 content-type, 58 user-agent. */
function requestFields(path: string, authority: string): readonly RequestField[] {
  return [
    { name: 4, value: path },
    { name: 1, value: authority },
    { name: 31, value: "application/grpc" },
    { name: "te", value: "trailers" },
    { name: 58, value: "quorate-bench" },
  ];
}

/** A literal field that the decoder adds to its dynamic table; texts are not Huffman-coded. */
function literal(field: RequestField): Buffer {
  const text = (value: string) => {
    if (value.length > 126) throw new Error(`longer than this encoder writes: ${value}`);
    return Buffer.concat([Buffer.of(value.length), Buffer.from(value, "latin1")]);
  };
  const name =
    typeof field.name === "number"
      ? Buffer.of(0x40 | field.name)
      : Buffer.concat([Buffer.of(0x40), text(field.name)]);
  return Buffer.concat([name, text(field.value)]);
}

/** Request header blocks: a field's first use fills the dynamic table, later ones are an index. */
class RequestHeaders {
  readonly #authority: string;
  readonly #blocks = new Map<string, Buffer>();
  /** Which insertion into the dynamic table a field was. */
  readonly #positions = new Map<string, number>();

  constructor(authority: string) {
    this.#authority = authority;
  }

  blockOf(path: string): Buffer {
    const known = this.#blocks.get(path);
    if (known !== undefined) return known;
    const before = this.#positions.size;
    // :method POST and :scheme http are static.
    const parts: Buffer[] = [Buffer.of(0x83, 0x86)];
    for (const field of requestFields(path, this.#authority)) {
      const key = `${field.name}=${field.value}`;
      const position = this.#positions.get(key);
      if (position === undefined) {
        parts.push(literal(field));
        this.#positions.set(key, this.#positions.size);
      } else {
        parts.push(Buffer.of(0x80 | (DYNAMIC_FIRST + this.#positions.size - 1 - position)));
      }
    }
    const block = Buffer.concat(parts);
    if (this.#positions.size === before) this.#blocks.set(path, block);
    else this.#blocks.clear();
    return block;
  }
}

export class GrpcConnection {
  readonly #socket: Socket;
  readonly #headers: RequestHeaders;
  readonly #decoder = new HeaderDecoder();
  readonly #streams = new Map<number, Stream>();
  /** What the connection's send window has no room for yet, in order. */
  readonly #waiting: { readonly bytes: number; run(): void }[] = [];
  #nextStream = 1;
  #out = Buffer.allocUnsafeSlow(OUT_BYTES);
  #outEnd = 0;
  #rest: Buffer | undefined;
  #sendWindow = INITIAL_WINDOW;
  #received = 0;
  #settled: (() => void) | undefined;
  #insideChunk = false;
  #closed = false;
  #status = -1;
  #statusText = "";
  readonly #sink = { add: (field: HeaderField) => this.#field(field) };

  private constructor(address: string) {
    const [host, port] = address.split(":");
    this.#headers = new RequestHeaders(address);
    // One buffer for all that is read, and no stream machinery behind it: half of what a chunk costs.
    const callback = (bytes: number, source: Uint8Array) => {
      this.#chunk(source as Buffer, bytes);
      return true;
    };
    const onread = { buffer: Buffer.allocUnsafeSlow(IN_BYTES), callback };
    const socket = connect({ host: host ?? "", port: Number(port), noDelay: true, onread });
    socket.on("error", () => this.#broken());
    socket.on("close", () => this.#broken());
    this.#socket = socket;
  }

  /** Connects to `host:port` and waits for the server's settings. */
  static async open(address: string): Promise<GrpcConnection> {
    const connection = new GrpcConnection(address);
    const socket = connection.#socket;
    await once(socket, "connect");
    const settled = new Promise<void>((resolve) => {
      connection.#settled = resolve;
    });
    const hello = Buffer.alloc(PREFACE.length + FRAME_HEADER_BYTES + 12 + FRAME_HEADER_BYTES + 4);
    PREFACE.copy(hello);
    let at = PREFACE.length;
    writeFrameHeader(hello, at, { length: 12, type: FRAME.settings, flags: 0, id: 0 });
    hello.writeUInt16BE(SETTING.enablePush, at + 9);
    hello.writeUInt16BE(SETTING.initialWindowSize, at + 15);
    writeUint32(hello, at + 17, WINDOW_MAX);
    at += FRAME_HEADER_BYTES + 12;
    writeFrameHeader(hello, at, { length: 4, type: FRAME.windowUpdate, flags: 0, id: 0 });
    writeUint32(hello, at + FRAME_HEADER_BYTES, WINDOW_MAX - INITIAL_WINDOW);
    socket.write(hello);
    await settled;
    return connection;
  }

  /** Starts the call; it leaves with the others of this turn, at the latest at `flush`. Gives its stream. */
  start(call: Call): number {
    if (this.#closed) {
      call.onEnd(-1, "the connection is closed");
      return 0;
    }
    const id = this.#nextStream;
    this.#nextStream += 2;
    this.#streams.set(id, { call, partial: undefined });
    this.#whenRoom(call.message.length, () => this.#startNow(id, call));
    return id;
  }

  /** Sends a further message of a stream; like `start`, at the latest at `flush`. */
  send(id: number, message: Buffer): void {
    this.#whenRoom(message.length, () => {
      this.#reserve(FRAME_HEADER_BYTES + message.length);
      this.#frame(FRAME.data, 0, id, message);
    });
  }

  #whenRoom(bytes: number, run: () => void): void {
    if (this.#waiting.length > 0 || this.#sendWindow < bytes) {
      this.#waiting.push({ bytes, run });
      return;
    }
    this.#sendWindow -= bytes;
    run();
  }

  #startNow(id: number, call: Call): void {
    const block = this.#headers.blockOf(call.path);
    const needed = 2 * FRAME_HEADER_BYTES + block.length + call.message.length;
    this.#reserve(needed);
    this.#frame(FRAME.headers, FLAG.endHeaders, id, block);
    this.#frame(FRAME.data, call.unary ? FLAG.endStream : 0, id, call.message);
  }

  /** Writes what was started outside of a callback. */
  flush(): void {
    if (this.#insideChunk || this.#outEnd === 0 || this.#closed) return;
    // The socket may keep the buffer until the kernel takes it, so it is given away.
    this.#socket.write(this.#out.subarray(0, this.#outEnd));
    const left = this.#out.length - this.#outEnd;
    this.#out = left >= 4096 ? this.#out.subarray(this.#outEnd) : Buffer.allocUnsafeSlow(OUT_BYTES);
    this.#outEnd = 0;
  }

  /** Ends the connection; calls under way end with status -1. */
  close(): void {
    this.#socket.destroy();
    this.#broken();
  }

  #reserve(bytes: number): void {
    if (this.#outEnd + bytes <= this.#out.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(OUT_BYTES, 2 * (this.#outEnd + bytes)));
    this.#out.copy(grown, 0, 0, this.#outEnd);
    this.#out = grown;
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    writeFrameHeader(this.#out, this.#outEnd, { length: payload.length, type, flags, id });
    payload.copy(this.#out, this.#outEnd + FRAME_HEADER_BYTES);
    this.#outEnd += FRAME_HEADER_BYTES + payload.length;
  }

  #control(type: number, flags: number, payload: Buffer): void {
    this.#reserve(FRAME_HEADER_BYTES + payload.length);
    this.#frame(type, flags, 0, payload);
  }

  /** Takes the first `bytes` of the buffer that is read into; what is needed later is copied. */
  #chunk(chunk: Buffer, bytes: number): void {
    let [source, end] = [chunk, bytes];
    if (this.#rest !== undefined) {
      source = Buffer.concat([this.#rest, chunk.subarray(0, bytes)]);
      end = source.length;
    }
    let at = 0;
    this.#insideChunk = true;
    while (at + FRAME_HEADER_BYTES <= end) {
      const length = source.readUIntBE(at, 3);
      const start = at + FRAME_HEADER_BYTES;
      if (start + length > end) break;
      const id = source.readUInt32BE(at + 5) & WINDOW_MAX;
      const flags = source[at + 4] as number;
      this.#frameReceived(source[at + 3] as number, flags, id, source, start, start + length);
      at = start + length;
    }
    this.#insideChunk = false;
    this.#rest = at === end ? undefined : Buffer.from(source.subarray(at, end));
    this.flush();
  }

  #frameReceived(
    type: number,
    flags: number,
    id: number,
    source: Buffer,
    start: number,
    end: number,
  ): void {
    switch (type) {
      case FRAME.data:
        this.#data(id, flags, source, start, end);
        return;
      case FRAME.headers:
        this.#trailers(id, flags, source, start, end);
        return;
      case FRAME.settings:
        if ((flags & FLAG.ack) === 0) this.#settings(source, start, end);
        return;
      case FRAME.ping:
        if ((flags & FLAG.ack) === 0) {
          this.#control(FRAME.ping, FLAG.ack, Buffer.from(source.subarray(start, end)));
        }
        return;
      case FRAME.windowUpdate:
        if (id === 0) this.#window(source.readUInt32BE(start));
        return;
      case FRAME.rstStream:
        this.#finish(id, -1, `reset with ${source.readUInt32BE(start)}`);
        return;
      case FRAME.goaway:
        this.close();
        return;
      default:
    }
  }

  #data(id: number, flags: number, source: Buffer, start: number, end: number): void {
    this.#received += end - start;
    if (this.#received >= WINDOW_REFILL) {
      const credit = Buffer.alloc(4);
      writeUint32(credit, 0, this.#received);
      this.#control(FRAME.windowUpdate, 0, credit);
      this.#received = 0;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    if ((flags & FLAG.padded) !== 0) throw new Error("padded DATA is not understood");
    if (stream.partial !== undefined) {
      const whole = Buffer.concat([stream.partial, source.subarray(start, end)]);
      this.#messages(stream, whole, 0, whole.length);
    } else {
      this.#messages(stream, source, start, end);
    }
  }

  #messages(stream: Stream, source: Buffer, start: number, end: number): void {
    let at = start;
    while (at + MESSAGE_PREFIX_BYTES <= end) {
      const next = at + MESSAGE_PREFIX_BYTES + source.readUInt32BE(at + 1);
      if (next > end) break;
      stream.call.onMessage(source, at + MESSAGE_PREFIX_BYTES, next);
      at = next;
    }
    stream.partial = at === end ? undefined : Buffer.from(source.subarray(at, end));
  }

  #trailers(id: number, flags: number, source: Buffer, start: number, end: number): void {
    if ((flags & FLAG.endHeaders) === 0) throw new Error("CONTINUATION is not understood");
    const priority = (flags & FLAG.priority) === 0 ? 0 : 5;
    this.#status = -1;
    this.#statusText = "";
    if (!this.#decoder.decode(source, start + priority, end, this.#sink)) {
      this.close();
      return;
    }
    if ((flags & FLAG.endStream) !== 0) this.#finish(id, this.#status, this.#statusText);
  }

  #field(field: HeaderField): void {
    if (field.name === "grpc-status") this.#status = Number(field.value);
    else if (field.name === "grpc-message") this.#statusText = field.value;
    else if (field.name === ":status" && field.value !== "200") this.#statusText = field.value;
  }

  #finish(id: number, status: number, text: string): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#streams.delete(id);
    stream.call.onEnd(status, text);
  }

  #settings(source: Buffer, start: number, end: number): void {
    for (let at = start; at + 6 <= end; at += 6) {
      const [setting, value] = [source.readUInt16BE(at), source.readUInt32BE(at + 2)];
      if (setting === SETTING.headerTableSize && value < 4096) {
        throw new Error(`the server's header table of ${value} bytes is not understood`);
      }
      if (setting === SETTING.initialWindowSize && value < 4096) {
        throw new Error(`the server's stream window of ${value} bytes is not understood`);
      }
    }
    this.#control(FRAME.settings, FLAG.ack, Buffer.alloc(0));
    this.#settled?.();
    this.#settled = undefined;
  }

  #window(credit: number): void {
    this.#sendWindow += credit;
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#sendWindow < next.bytes) return;
      this.#sendWindow -= next.bytes;
      this.#waiting.shift();
      next.run();
    }
  }

  #broken(): void {
    if (this.#closed) return;
    this.#closed = true;
    const calls = [...this.#streams.values()].map((stream) => stream.call);
    this.#streams.clear();
    this.#waiting.length = 0;
    for (const call of calls) call.onEnd(-1, "connection lost");
  }
}
