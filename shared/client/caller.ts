/**
 * The seam of the client: something that carries a request to a peer. `LinkCaller` (WebSocket,
 * with watches) and `PostCaller` (one POST a call) implement it; both fail over between endpoints
 * and never repeat a write that may have happened.
 */
import { RpcError, STATUS, errorCodeOf, rpcError } from "../api/errors.ts";
import type { StatusName } from "../api/errors.ts";
import type {
  LinkAnswerOf,
  LinkFailure,
  LinkMethod,
  LinkRequestOf,
  LinkWatchCreate,
  LinkWatchResponse,
} from "../wire/link.ts";

export interface CallOptions {
  /** Withdraws the call; a write's outcome is then unknown. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the call fails with "deadline exceeded"; the client's own default otherwise. */
  readonly timeoutMilliseconds?: number | undefined;
}

export interface WatchListener {
  response(response: LinkWatchResponse): void;
  /** Nothing follows. */
  end(error: RpcError): void;
}

export interface WatchHandle {
  close(): void;
}

export interface Caller {
  call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options?: CallOptions,
  ): Promise<LinkAnswerOf<Method>>;
  /** One watch on a stream of its own; rejects when no endpoint can be reached in time. */
  watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle>;
  close(): void;
}

/** The typed error of a failure that came over the link. */
export function errorOf(failure: LinkFailure): RpcError {
  const status: StatusName = Object.hasOwn(STATUS, failure.status)
    ? (failure.status as StatusName)
    : "unknown";
  const code = errorCodeOf(failure.message);
  const { outcome, message } = failure;
  return new RpcError(status, message, code === undefined ? { outcome } : { code, outcome });
}

/** The call was given up by its caller. */
export function cancelledError(options: { write: boolean; cause?: unknown }): RpcError {
  return rpcError("canceled", {
    outcome: options.write ? "unknown" : "none",
    cause: options.cause,
  });
}

export function deadlineError(options: { write: boolean; cause?: unknown }): RpcError {
  return rpcError("deadlineExceeded", {
    outcome: options.write ? "unknown" : "none",
    cause: options.cause,
  });
}

/** True when the same call may be sent again without harm, and may then succeed. */
export function mayRepeat(error: unknown): error is RpcError {
  return error instanceof RpcError && error.outcome === "none" && error.status === "unavailable";
}
