/**
 * Calls without a connection: each is one POST of a batch, for runtimes and requests in which no
 * socket may stay. A connection that breaks under a POST doesn't tell whether the peer got it, so
 * only reads (and renewals, which do no harm) go on to the next endpoint; a write's outcome is
 * then unknown. No watches.
 */
import { RpcError } from "../api/errors.ts";
import type { Bytes } from "../base/bytes.ts";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../wire/link-codec.ts";
import { LINK_VERSION } from "../wire/link.ts";
import type {
  LinkAnswer,
  LinkAnswerOf,
  LinkMethod,
  LinkReplyFrame,
  LinkRequest,
  LinkRequestOf,
} from "../wire/link.ts";
import { isLinkWrite } from "../wire/link-writes.ts";
import { cancelledError, deadlineError, errorOf, mayRepeat } from "./caller.ts";
import type { CallOptions, Caller, WatchHandle } from "./caller.ts";
import { postUrl } from "./endpoints.ts";
import { backoff } from "./link-caller.ts";
import type { CallerOptions } from "./link-caller.ts";
import { pause } from "./platform.ts";

export class PostCaller implements Caller {
  readonly #options: CallerOptions;

  constructor(options: CallerOptions) {
    this.#options = options;
  }

  async call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options: CallOptions = {},
  ): Promise<LinkAnswerOf<Method>> {
    const { platform, endpoints } = this.#options;
    const deadline =
      platform.now() + (options.timeoutMilliseconds ?? this.#options.timeoutMilliseconds);
    let reasons: string[] = [];
    for (let attempt = 0; ; attempt += 1) {
      if (options.signal?.aborted === true) {
        throw cancelledError({ write: false, cause: options.signal.reason });
      }
      const endpoint = endpoints.current;
      // Each endpoint gets its share of the time, so that one that hangs leaves some for the others.
      const rest = deadline - platform.now();
      const turns = endpoints.count - (attempt % endpoints.count);
      const share = isLinkWrite(request as LinkRequest) ? rest : rest / turns;
      try {
        const answer = await this.#post(endpoint, request as LinkRequest, {
          timeoutMilliseconds: Math.max(1, share),
          signal: options.signal,
        });
        return answer as LinkAnswerOf<Method>;
      } catch (error) {
        const late = error instanceof RpcError && error.status === "deadlineExceeded";
        const repeat = mayRepeat(error) || (late && error.outcome === "none");
        if (!repeat) throw error;
        endpoints.leave(endpoint);
        reasons = [...reasons, `${endpoint}: ${error.message}`].slice(-endpoints.count);
        // Once every endpoint had its turn, the cluster gets time: an election takes a second.
        const rounds = Math.floor((attempt + 1) / endpoints.count);
        const delay =
          (attempt + 1) % endpoints.count === 0 ? backoff(rounds, platform.random()) : 0;
        if (platform.now() + delay >= deadline) {
          if (error.code !== undefined && !late) throw error;
          const text = `no endpoint can be reached: ${reasons.join("; ")}`;
          throw new RpcError("unavailable", text, { cause: error });
        }
        if (delay > 0) await pause(delay, options.signal);
      }
    }
  }

  watch(): Promise<WatchHandle> {
    const text = 'watching needs a WebSocket: connect without `transport: "post"`';
    return Promise.reject(new RpcError("failedPrecondition", text));
  }

  close(): void {
    // Nothing stays open between calls.
  }

  async #post(
    endpoint: string,
    request: LinkRequest,
    options: { timeoutMilliseconds: number; signal: AbortSignal | undefined },
  ): Promise<LinkAnswer> {
    const { platform, role, token } = this.#options;
    const { timeoutMilliseconds, signal } = options;
    const write = isLinkWrite(request);
    const body = joinFrames([
      encodeCallFrame({ kind: "hello", version: LINK_VERSION, role, token }),
      encodeCallFrame({
        kind: "call",
        id: 1,
        timeoutMilliseconds: Math.ceil(timeoutMilliseconds),
        requireLeader: true,
        request,
      }),
    ]);
    const aborter = new AbortController();
    const timer = setTimeout(() => aborter.abort("deadline"), timeoutMilliseconds);
    const abort = (): void => aborter.abort(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    let status: number;
    let answer: Bytes;
    try {
      const response = await platform.fetch(postUrl(endpoint), {
        method: "POST",
        headers: { "content-type": "application/cbor" },
        body,
        signal: aborter.signal,
      });
      status = response.status;
      answer = new Uint8Array(await response.arrayBuffer());
    } catch (cause) {
      if (signal?.aborted === true) throw cancelledError({ write, cause: signal.reason });
      if (aborter.signal.aborted) throw deadlineError({ write, cause });
      const text = cause instanceof Error ? cause.message : String(cause);
      const outcome = write && !neverSent(cause) ? "unknown" : "none";
      throw new RpcError("unavailable", text, { outcome, cause });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
    return readAnswer({ endpoint, status, answer, write });
  }
}

/**
 * Node says when no connection was made; other runtimes don't tell, and then the request may have
 * arrived.
 */
function neverSent(cause: unknown): boolean {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return inner instanceof Error && "code" in inner && inner.code === "ECONNREFUSED";
}

function readAnswer(reply: {
  endpoint: string;
  status: number;
  answer: Bytes;
  write: boolean;
}): LinkAnswer {
  const { endpoint, status, answer, write } = reply;
  // A refusal of the whole POST comes before any of its calls is made; an answer of 5xx may come
  // from anywhere between.
  if (status !== 200) {
    const outcome = write && status >= 500 ? "unknown" : "none";
    const name = status >= 500 ? "unavailable" : "failedPrecondition";
    throw new RpcError(name, `${endpoint} answered HTTP ${status} to a link batch`, { outcome });
  }
  let frames: LinkReplyFrame[];
  try {
    frames = decodeReplyBatch(answer);
  } catch (cause) {
    const outcome = write ? "unknown" : "none";
    const text = `${endpoint} does not speak the link protocol`;
    throw new RpcError("unavailable", text, { outcome, cause });
  }
  for (const frame of frames) {
    if (frame.kind === "result" && frame.id === 1) return frame.answer;
    if (frame.kind === "error" && frame.id === 1) throw errorOf(frame.failure);
    if (frame.kind === "bye") throw errorOf(frame.failure);
  }
  throw new RpcError("unavailable", `${endpoint} left the call without an answer`, {
    outcome: write ? "unknown" : "none",
  });
}
