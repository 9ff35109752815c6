/**
 * gzip of single messages, the one compression that is offered. Inflation is bounded before it
 * begins.
 */
import { gunzipSync, gzipSync } from "node:zlib";
import type { Bytes } from "../../shared/base/bytes.ts";
import { RpcError } from "../../shared/api/errors.ts";

/** Shorter messages don't shrink. */
const COMPRESSED_BYTES_MIN = 256;

/**
 * The message inflated; an `RpcError` with grpc-go's text when it is none, or larger than
 * `bytesMax`.
 */
export function inflateMessage(bytes: Bytes, bytesMax: number): Buffer {
  try {
    return gunzipSync(bytes, { maxOutputLength: bytesMax });
  } catch (error) {
    if ((error as { code?: unknown }).code === "ERR_BUFFER_TOO_LARGE") {
      throw new RpcError(
        "resourceExhausted",
        `grpc: received message after decompression larger than max ${bytesMax}`,
        { cause: error },
      );
    }
    throw new RpcError(
      "internal",
      `grpc: failed to decompress the received message: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

/** The message deflated, or undefined when that isn't worth while. */
export function deflateMessage(bytes: Bytes): Buffer | undefined {
  if (bytes.length < COMPRESSED_BYTES_MIN) return undefined;
  const deflated = gzipSync(bytes, { level: 1 });
  return deflated.length < bytes.length ? deflated : undefined;
}
