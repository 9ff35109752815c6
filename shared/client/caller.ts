/**
 * The seam of the client: something that carries a request to a peer. `LinkCaller` (WebSocket,
 * with watches) and `PostCaller` (one POST a call) implement it; both fail over between endpoints,
 * and repeat a write that may have happened only under its identity (`attempts.ts`).
 */
import { RpcError, STATUS } from "../api/errors.ts";
import type { ErrorCode, StatusName } from "../api/errors.ts";
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
  const { outcome, message, code } = failure;
  return code === undefined
    ? new RpcError(status, message, { outcome })
    : new RpcError(status, message, { code: code as ErrorCode, outcome });
}

/** The call was given up by its caller. */
export function cancelledError(options: { write: boolean; cause?: unknown }): RpcError {
  const outcome = options.write ? "unknown" : "none";
  const { cause } = options;
  return new RpcError("canceled", "the call was cancelled", { code: "canceled", outcome, cause });
}

export function deadlineError(options: { write: boolean; cause?: unknown }): RpcError {
  const outcome = options.write ? "unknown" : "none";
  const text = "no answer came before the call's deadline";
  return new RpcError("deadlineExceeded", text, {
    code: "deadlineExceeded",
    outcome,
    cause: options.cause,
  });
}

/** True when the same call may be sent again without harm, and may then succeed. */
export function mayRepeat(error: unknown): error is RpcError {
  return error instanceof RpcError && error.outcome === "none" && error.status === "unavailable";
}
