/**
 * Errors as RFC 9457 problem JSON: the HTTP status, etcd's text as the title, its gRPC code, and
 * what the caller may do next (`retryable`, `outcome`).
 */
import { RpcError, STATUS } from "../shared/api/errors.ts";
import { HTTP_STATUS } from "../shared/api/http-status.ts";

/** A refusal of the HTTP layer itself: the request never became a call. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

function httpStatusOf(error: RpcError): number {
  if (error.code === "compacted") return 410;
  if (error.code === "noSpace") return 507;
  if (error.code === "requestTooLarge") return 413;
  if (error.code === "leaseExist") return 409;
  if (error.code === "requestTooManyRequests") return 429;
  return HTTP_STATUS[error.status];
}

/** `more`: members beside the standard ones (the current state with a 412). */
export function problemResponse(error: unknown, more: object = {}): Response {
  const { status, body, headers } = describe(error);
  return new Response(`${JSON.stringify({ ...body, ...more })}\n`, {
    status,
    headers: {
      "content-type": "application/problem+json",
      "cache-control": "no-store",
      ...headers,
    },
  });
}

/** The problem alone, for streams whose head has left. */
export function problemOf(error: unknown): object {
  return describe(error).body;
}

function describe(error: unknown): {
  status: number;
  body: object;
  headers: Readonly<Record<string, string>>;
} {
  if (error instanceof HttpError) {
    const { status, message, headers } = error;
    const body = { type: "about:blank", title: message, status, retryable: false, outcome: "none" };
    return { status, body, headers };
  }
  const known =
    error instanceof RpcError
      ? error
      : new RpcError("internal", "the edge failed: see its log", { outcome: "unknown" });
  const status = httpStatusOf(known);
  const wait = status === 503 || status === 429;
  return {
    status,
    body: {
      type: known.code === undefined ? "about:blank" : `urn:quorate:error:${known.code}`,
      title: known.message,
      status,
      code: STATUS[known.status],
      grpcStatus: known.status,
      retryable: known.retryable,
      outcome: known.outcome,
    },
    headers: wait ? { "retry-after": "1" } : {},
  };
}
