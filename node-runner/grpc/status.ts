/**
 * How gRPC puts a call's outcome into HTTP/2 headers: prepared blocks for the usual cases, and
 * grpc-message's encoding.
 */
import { AssertionError } from "../../shared/base/assert.ts";
import { utf8 } from "../../shared/base/bytes.ts";
import { RpcError, STATUS } from "../../shared/api/errors.ts";
import { prepareHeaders, type PreparedHeaders } from "../http2/hpack-encoder.ts";

/** Repeated by every reply, and therefore sent as indexes from the second on. */
const indexed = { indexed: true };
export const REPLY_HEADERS = prepareHeaders(
  [
    [":status", "200"],
    ["content-type", "application/grpc"],
  ],
  indexed,
);
export const GZIP_REPLY_HEADERS: PreparedHeaders = [
  ...REPLY_HEADERS,
  ...prepareHeaders([["grpc-encoding", "gzip"]], indexed),
];
export const OK_TRAILERS = prepareHeaders([["grpc-status", "0"]], indexed);

/** A call's outcome other than OK. */
export interface Failure {
  readonly code: number;
  readonly message: string;
}

/**
 * What a handler's error tells the client. A broken invariant is no answer: it is thrown on, and
 * the peer stops.
 */
export function failureOf(error: unknown): Failure {
  if (error instanceof RpcError) return { code: STATUS[error.status], message: error.message };
  if (error instanceof AssertionError) throw error;
  return { code: STATUS.unknown, message: error instanceof Error ? error.message : String(error) };
}

export function failureTrailers(failure: Failure): PreparedHeaders {
  return prepareHeaders([
    ["grpc-status", String(failure.code)],
    ["grpc-message", percentEncode(failure.message)],
  ]);
}

/** A reply of headers only. `httpStatus` differs from 200 only where the request is no gRPC. */
export function failureReply(failure: Failure, httpStatus = 200): PreparedHeaders {
  const status = httpStatus === 200 ? REPLY_HEADERS : unusualHeaders(httpStatus);
  return [...status, ...failureTrailers(failure)];
}

function unusualHeaders(httpStatus: number): PreparedHeaders {
  return prepareHeaders([
    [":status", String(httpStatus)],
    ["content-type", "application/grpc"],
  ]);
}

/** Longer texts are cut: they stand in one header list, and clients bound those. */
const MESSAGE_BYTES_MAX = 4096;

/**
 * UTF-8 with everything but printable ASCII, and the percent sign, as `%XX` (gRPC over HTTP2,
 * "Status-Message").
 */
function percentEncode(text: string): string {
  const bytes = utf8(text).subarray(0, MESSAGE_BYTES_MAX);
  let encoded = "";
  for (const byte of bytes) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += isPlain
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  // Blanks at either end are no part of a header value.
  return encoded.replace(/^ +| +$/g, (blanks) => "%20".repeat(blanks.length));
}
