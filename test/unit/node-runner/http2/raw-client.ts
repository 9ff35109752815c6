/**
 * A client that sends any frame, valid or not, over a real socket, and collects what comes back.
 * Headers are encoded as plain literals unless a test sends its own block.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { HeaderDecoder } from "../../../../node-runner/http2/hpack-decoder.ts";
import {
  ERROR,
  FLAG,
  FRAME,
  PREFACE,
  readUint32,
  writeFrameHeader,
  writeUint32,
} from "../../../../node-runner/http2/protocol.ts";

export interface Frame {
  type: number;
  flags: number;
  id: number;
  payload: Buffer;
}

export type Fields = readonly (readonly [name: string, value: string])[];

export const GET: Fields = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "test"],
];
export const POST: Fields = [[":method", "POST"], ...GET.slice(1)];
export const CALL: Fields = [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/test.Echo/Echo"],
  [":authority", "test"],
  ["content-type", "application/grpc"],
  ["te", "trailers"],
];

/** The fields with one's value replaced. */
export function replaced(fields: Fields, name: string, value: string): Fields {
  return fields.map((field) => (field[0] === name ? [name, value] : field));
}

/** One gRPC message. */
export function grpcMessage(body: string | Uint8Array): Buffer {
  const bytes = Buffer.from(body);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

export function frame(
  type: number,
  flags: number,
  id: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const whole = Buffer.alloc(9 + payload.length);
  writeFrameHeader(whole, 0, { length: payload.length, type, flags, id });
  whole.set(payload, 9);
  return whole;
}

/** Literals without indexing, names spelled out (RFC 7541 section 6.2.2). */
export function block(fields: Fields): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) {
    parts.push(Buffer.of(0), text(name), text(value));
  }
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes]);
  const length: number[] = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  writeUint32(bytes, 0, value);
  return bytes;
}

export function settings(...pairs: readonly (readonly [id: number, value: number])[]): Buffer {
  const parts = pairs.map(([id, value]) => Buffer.concat([Buffer.of(0, id), uint32(value)]));
  return frame(FRAME.settings, 0, 0, Buffer.concat(parts));
}

export function headers(id: number, fields: Fields, flags = 0): Buffer {
  return frame(FRAME.headers, FLAG.endHeaders | flags, id, block(fields));
}

export function data(id: number, payload: Uint8Array | string, flags = 0): Buffer {
  return frame(FRAME.data, flags, id, Buffer.from(payload));
}

/** A whole unary call: headers and one message with END_STREAM. */
export function call(id: number, method = "Echo", body = "hi"): Buffer {
  const fields = replaced(CALL, ":path", `/test.Echo/${method}`);
  return Buffer.concat([headers(id, fields), data(id, grpcMessage(body), FLAG.endStream)]);
}

/** What became of a stream or of the connection. */
export interface Outcome {
  kind: "reset" | "goaway" | "closed" | "ended";
  code: number;
}

export class RawClient {
  readonly socket: Socket;
  /** Everything received, in order. */
  readonly frames: Frame[] = [];
  isClosed = false;
  readonly #decoder = new HeaderDecoder();
  readonly #fields = new Map<Frame, Map<string, string>>();
  #buffer: Buffer = Buffer.alloc(0);
  #waiting: (() => void)[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#received(chunk));
    socket.on("error", () => this.#closed());
    socket.on("close", () => this.#closed());
  }

  /** Connects and sends preface and SETTINGS. */
  static async open(port: number, first: Buffer = settings()): Promise<RawClient> {
    const client = await RawClient.bare(port);
    client.send(PREFACE, first);
    return client;
  }

  /** Connects and sends nothing. */
  static async bare(port: number): Promise<RawClient> {
    const socket = connect(port, "127.0.0.1");
    await once(socket, "connect");
    return new RawClient(socket);
  }

  send(...parts: readonly Uint8Array[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(parts));
  }

  close(): void {
    this.socket.destroy();
  }

  /**
   * The first frame, received or still to come, that fits; fails when the connection ends before.
   */
  async next(fits: (frame: Frame) => boolean): Promise<Frame> {
    for (;;) {
      const found = this.frames.find(fits);
      if (found !== undefined) return found;
      if (this.isClosed) throw new Error("the connection ended without the awaited frame");
      await this.#change();
    }
  }

  of(type: number, id?: number): Frame[] {
    return this.frames.filter(
      (frame) => frame.type === type && (id === undefined || frame.id === id),
    );
  }

  /** Waits for a ping's answer: everything sent before has been worked through. */
  async settled(mark: string): Promise<void> {
    const payload = Buffer.from(mark.padEnd(8).slice(0, 8));
    this.send(frame(FRAME.ping, 0, 0, payload));
    await this.next(({ type, flags, payload: echo }) => {
      return type === FRAME.ping && flags === FLAG.ack && echo.equals(payload);
    });
  }

  /** How a stream ends: its END_STREAM, its reset, or the connection's end. */
  async outcome(id: number): Promise<Outcome> {
    for (;;) {
      const outcome = this.#outcome(id);
      if (outcome !== undefined) return outcome;
      await this.#change();
    }
  }

  #outcome(id: number): Outcome | undefined {
    for (const { type, flags, id: at, payload } of this.frames) {
      if (type === FRAME.goaway && readUint32(payload, 4) !== ERROR.none) {
        return { kind: "goaway", code: readUint32(payload, 4) };
      }
      if (at !== id || id === 0) continue;
      if (type === FRAME.rstStream) return { kind: "reset", code: readUint32(payload, 0) };
      if ((type === FRAME.headers || type === FRAME.data) && (flags & FLAG.endStream) !== 0) {
        return { kind: "ended", code: 0 };
      }
    }
    return this.isClosed ? { kind: "closed", code: 0 } : undefined;
  }

  /** The code of the connection's error. */
  async goaway(): Promise<number> {
    const outcome = await this.outcome(0);
    if (outcome.kind !== "goaway") throw new Error("the connection ended without GOAWAY");
    return outcome.code;
  }

  /** Waits until the server has closed the connection. */
  async ended(): Promise<void> {
    while (!this.isClosed) await this.#change();
  }

  /** The decoded fields of a HEADERS frame. */
  fields(frame: Frame): ReadonlyMap<string, string> {
    return this.#fields.get(frame) ?? new Map<string, string>();
  }

  /** The gRPC status of a call that has ended. */
  async grpcStatus(id: number): Promise<string> {
    const last = await this.next(
      ({ type, flags, id: at }) =>
        at === id && type === FRAME.headers && (flags & FLAG.endStream) !== 0,
    );
    return this.fields(last).get("grpc-status") ?? "none";
  }

  /** Octets of DATA received on a stream. */
  dataBytes(id: number): number {
    return this.of(FRAME.data, id).reduce((sum, { payload }) => sum + payload.length, 0);
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #closed(): void {
    this.isClosed = true;
    this.#wake();
  }

  #received(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    let at = 0;
    while (this.#buffer.length - at >= 9) {
      const end = at + 9 + this.#buffer.readUIntBE(at, 3);
      if (end > this.#buffer.length) break;
      const received: Frame = {
        type: this.#buffer[at + 3] as number,
        flags: this.#buffer[at + 4] as number,
        id: readUint32(this.#buffer, at + 5) & 0x7fff_ffff,
        payload: Buffer.from(this.#buffer.subarray(at + 9, end)),
      };
      this.frames.push(received);
      if (received.type === FRAME.headers) this.#decode(received);
      at = end;
    }
    this.#buffer = this.#buffer.subarray(at);
    this.#wake();
  }

  #decode(received: Frame): void {
    const fields = new Map<string, string>();
    const sink = {
      add: ({ name, value }: { name: string; value: string }) => fields.set(name, value),
    };
    const { payload } = received;
    if (!this.#decoder.decode(payload, 0, payload.length, sink)) {
      throw new Error("the server sent a malformed header block");
    }
    this.#fields.set(received, fields);
  }
}
