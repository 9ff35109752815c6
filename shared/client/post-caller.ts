/**
 * Calls without a connection: each is one POST of a batch, for runtimes and requests in which no
 * socket may stay. When an endpoint fails the call goes on to the next one: a read (or a renewal,
 * which does no harm) as it is, a write under its identity, so that it applies once. The first
 * write of all is preceded by a greeting, which brings the floor of its identity. No watches.
 */
import { RpcError } from "../api/errors.ts";
import { LINK_LIMITS as LIMITS } from "../base/link-limits.ts";
import type {
  LinkAnswer,
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
  LinkWelcome,
} from "../wire/link.ts";
import { Attempts } from "./attempts.ts";
import { cancelledError, deadlineError, errorOf } from "./caller.ts";
import type { CallOptions, Caller, WatchHandle } from "./caller.ts";
import { backoff } from "./link-caller.ts";
import type { CallerOptions } from "./link-caller.ts";
import { postFrames } from "./link-post.ts";
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
    const { platform, timeoutMilliseconds } = this.#options;
    const deadline = platform.now() + (options.timeoutMilliseconds ?? timeoutMilliseconds);
    const attempts = new Attempts(request as LinkRequest, this.#options);
    try {
      return (await this.#untilAnswered(attempts, {
        deadline,
        signal: options.signal,
      })) as LinkAnswerOf<Method>;
    } finally {
      attempts.end();
    }
  }

  async #untilAnswered(
    attempts: Attempts,
    { deadline, signal }: { deadline: number; signal: AbortSignal | undefined },
  ): Promise<LinkAnswer> {
    const { platform, endpoints } = this.#options;
    let reasons: string[] = [];
    for (let attempt = 0; ; attempt += 1) {
      if (signal?.aborted === true) {
        throw cancelledError({ write: attempts.uncertain, cause: signal.reason });
      }
      const endpoint = endpoints.current;
      const turns = endpoints.count - (attempt % endpoints.count);
      try {
        return await this.#try(endpoint, attempts, { deadline, turns, signal });
      } catch (error) {
        const after = attempts.failed(error);
        if (after.kind === "over") {
          if (error instanceof RpcError && error.outcome === "unknown") endpoints.leave(endpoint);
          throw after.error;
        }
        // A floor came with the refusal's own welcome.
        if (after.kind === "again") endpoints.leave(endpoint);
        reasons = [...reasons, `${endpoint}: ${after.error.message}`].slice(-endpoints.count);
        // Once every endpoint had its turn, the cluster gets time: an election takes a second.
        const rounds = Math.floor((attempt + 1) / endpoints.count);
        const delay = turns === 1 ? backoff(rounds, platform.random()) : 0;
        if (platform.now() + delay >= deadline) throw lastError(after.error, attempts, reasons);
        if (delay > 0) await pause(delay, signal);
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

  /**
   * One endpoint's turn. `turns`: how many, with this one, are left of the round; each gets its
   * share of the time, so that an endpoint that hangs leaves some for the others.
   */
  async #try(
    endpoint: string,
    attempts: Attempts,
    options: { deadline: number; turns: number; signal: AbortSignal | undefined },
  ): Promise<LinkAnswer> {
    const { platform, lanes, role, token } = this.#options;
    const { deadline, turns, signal } = options;
    const { request, write } = attempts;
    const heard = (welcome: LinkWelcome): void => {
      lanes.heard(welcome.appliedIndex);
      this.#options.answeredBy?.(welcome);
    };
    const greeting = { role, token };
    const share = (): number => Math.max(1, (deadline - platform.now()) / turns);
    let identity = attempts.identity();
    if (write && identity === undefined) {
      const timeoutMilliseconds = Math.min(share(), LIMITS.clientConnectMilliseconds);
      const probe = { greeting, timeoutMilliseconds, signal, write: false, heard };
      await postFrames(platform, endpoint, [], probe);
      identity = attempts.identity();
    }
    const timeoutMilliseconds = share();
    const frame = {
      kind: "call",
      id: 1,
      timeoutMilliseconds: Math.ceil(timeoutMilliseconds),
      requireLeader: true,
      request,
      identity,
    } as const;
    const how = { greeting, timeoutMilliseconds, signal, write, heard };
    const replies = await postFrames(platform, endpoint, [frame], how);
    for (const reply of replies) {
      if (reply.kind === "result" && reply.id === 1) return reply.answer;
      if (reply.kind === "error" && reply.id === 1) throw errorOf(reply.failure);
    }
    throw new RpcError("unavailable", `${endpoint} left the call without an answer`, {
      outcome: write ? "unknown" : "none",
    });
  }
}

/** When the time is over: what the peers said, if they said something, else whom was tried. */
function lastError(error: RpcError, attempts: Attempts, reasons: readonly string[]): RpcError {
  const late = error.status === "deadlineExceeded";
  if (attempts.uncertain && late) return deadlineError({ write: true, cause: error });
  if (error.code !== undefined && !late) return error;
  const outcome = attempts.uncertain ? "unknown" : "none";
  const text = `no endpoint can be reached: ${reasons.join("; ")}`;
  return new RpcError("unavailable", text, { outcome, cause: error });
}
