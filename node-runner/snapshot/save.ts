/**
 * Saves a snapshot of a running member, Quorate's or etcd's: Maintenance.Snapshot over gRPC, by Node's
 * own HTTP/2 client. The file gets its name only when its hash has been checked and it is durable.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as http2 from "node:http2";
import { dirname } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { SnapshotResponseSchema } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { FILE_HASH_BYTES } from "../../shared/peer/state/snapshot-file.ts";

export interface SaveOptions {
  /** `http://host:port` or `https://host:port`. */
  readonly endpoint: string;
  readonly path: string;
  readonly tls: http2.SecureClientSessionOptions;
}

/** The snapshot couldn't be had or kept, and why. */
export class SaveError extends Error {
  override readonly name = "SaveError";
}

const FRAME_HEAD_BYTES = 5;
/** Silence of the member after which it is given up. */
const SILENCE_MILLISECONDS = 30_000;
const EMPTY_REQUEST = new Uint8Array(FRAME_HEAD_BYTES);

/** Returns the file's size in bytes. Throws `SaveError`; then no file is left behind. */
export async function save({ endpoint, path, tls }: SaveOptions): Promise<number> {
  const part = `${path}.part`;
  let descriptor: number;
  try {
    descriptor = fs.openSync(part, "w", 0o600);
  } catch (cause) {
    throw new SaveError(`${part} can't be written: ${(cause as Error).message}`, { cause });
  }
  try {
    const size = await receive(endpoint, tls, descriptor);
    fs.fsyncSync(descriptor);
    fs.renameSync(part, path);
    syncFolder(dirname(path));
    return size;
  } catch (cause) {
    fs.rmSync(part, { force: true });
    if (cause instanceof SaveError) throw cause;
    throw new SaveError((cause as Error).message, { cause });
  } finally {
    fs.closeSync(descriptor);
  }
}

function syncFolder(path: string): void {
  const descriptor = fs.openSync(path, "r");
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

async function receive(
  endpoint: string,
  tls: http2.SecureClientSessionOptions,
  descriptor: number,
): Promise<number> {
  const session = http2.connect(endpoint, tls);
  const failed = new Promise<never>((_resolve, reject) => {
    session.once("error", (cause: Error) => {
      reject(new SaveError(`${endpoint} can't be reached: ${cause.message}`, { cause }));
    });
  });
  failed.catch(() => undefined);
  try {
    return await Promise.race([stream(session, endpoint, descriptor), failed]);
  } finally {
    session.destroy();
  }
}

async function stream(
  session: http2.ClientHttp2Session,
  endpoint: string,
  descriptor: number,
): Promise<number> {
  const call = session.request({
    ":method": "POST",
    ":path": "/etcdserverpb.Maintenance/Snapshot",
    "content-type": "application/grpc",
    te: "trailers",
  });
  call.setTimeout(SILENCE_MILLISECONDS, () => {
    call.destroy(new SaveError(`${endpoint} has said nothing for ${SILENCE_MILLISECONDS} ms`));
  });
  const status = new Status();
  call.on("response", (headers) => status.see(headers));
  call.on("trailers", (trailers) => status.see(trailers));
  call.end(EMPTY_REQUEST);
  const file = new HashedFile(descriptor);
  let rest = Buffer.alloc(0);
  for await (const chunk of call) {
    rest = Buffer.concat([rest, chunk as Buffer]);
    for (let frame = frameOf(rest); frame !== undefined; frame = frameOf(rest)) {
      file.write(fromBinary(SnapshotResponseSchema, frame).blob);
      rest = rest.subarray(FRAME_HEAD_BYTES + frame.length);
    }
  }
  status.assertOk(endpoint);
  if (rest.length > 0) throw new SaveError(`the stream of ${endpoint} ended within a message`);
  return file.finish();
}

/** The first message, if it is there whole. */
function frameOf(bytes: Buffer): Buffer | undefined {
  if (bytes.length < FRAME_HEAD_BYTES) return undefined;
  if (bytes[0] !== 0) throw new SaveError("a compressed message came unasked");
  const end = FRAME_HEAD_BYTES + bytes.readUInt32BE(1);
  return bytes.length < end ? undefined : bytes.subarray(FRAME_HEAD_BYTES, end);
}

/** The outcome of a call, from its headers or trailers. */
class Status {
  #http: number | undefined;
  #code: string | undefined;
  #message = "";

  see(headers: http2.IncomingHttpHeaders & { ":status"?: number | undefined }): void {
    this.#http = headers[":status"] ?? this.#http;
    const code = headers["grpc-status"];
    if (typeof code !== "string") return;
    this.#code = code;
    this.#message = decodeURIComponent(String(headers["grpc-message"] ?? ""));
  }

  assertOk(endpoint: string): void {
    if (this.#code === "0") return;
    const reason =
      this.#code === undefined
        ? `its answer is not gRPC's (HTTP ${this.#http})`
        : `${this.#message} (gRPC status ${this.#code})`;
    throw new SaveError(`${endpoint} refused: ${reason}`);
  }
}

/** Writes what comes, and checks at the end that its last 32 bytes are the hash of those before. */
class HashedFile {
  readonly #descriptor: number;
  readonly #hash = createHash("sha256");
  /** The last bytes, which may be the hash. */
  #tail = Buffer.alloc(0);
  #size = 0;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      at += fs.writeSync(this.#descriptor, bytes, at, bytes.length - at);
    }
    this.#size += bytes.length;
    const seen = Buffer.concat([this.#tail, bytes]);
    const sure = Math.max(0, seen.length - FILE_HASH_BYTES);
    this.#hash.update(seen.subarray(0, sure));
    this.#tail = Buffer.from(seen.subarray(sure));
  }

  finish(): number {
    if (this.#tail.equals(this.#hash.digest())) return this.#size;
    throw new SaveError(
      "what came doesn't end with its own hash: the stream was cut short or damaged",
    );
  }
}
