/**
 * The seam of the client: something that carries a request to a peer. `LinkCaller` (WebSocket,
 * with watches) and `PostCaller` (one POST a call) implement it; both fail over between endpoints,
 * and repeat a write that may have happened only under its identity (`attempts.ts`).
 */
import { RpcError } from "../api/errors.ts";
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
  /** Asks how far the watch has come: an answer without events, once it has been shown all there is. */
  progress?(): void;
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
  const { outcome, message, code } = failure;
  // A newer peer may know more names; they pass as they are.
  const named = code === undefined ? {} : { code: code as ErrorCode };
  return new RpcError(failure.status as StatusName, message, { ...named, outcome });
}

interface GivenUp {
  /** It was a write, and may have happened. */
  readonly write: boolean;
  readonly cause?: unknown;
}

/** The call was given up by its caller. */
export function cancelledError(how: GivenUp): RpcError {
  return givenUp("canceled", "the call was cancelled", how);
}

export function deadlineError(how: GivenUp): RpcError {
  return givenUp("deadlineExceeded", "no answer came in time", how);
}

function givenUp(
  code: "canceled" | "deadlineExceeded",
  text: string,
  { write, cause }: GivenUp,
): RpcError {
  return new RpcError(code, text, { code, outcome: write ? "unknown" : "none", cause });
}

/** True when the same call may be sent again without harm, and may then succeed. */
export function mayRepeat(error: unknown): error is RpcError {
  return error instanceof RpcError && error.outcome === "none" && error.status === "unavailable";
}

/** The same error, as it looks from where more is known of its effect. */
export function withOutcome(error: RpcError, outcome: RpcError["outcome"]): RpcError {
  const { status, message, code } = error;
  const named = code === undefined ? {} : { code };
  return new RpcError(status, message, { ...named, outcome, cause: error });
}
