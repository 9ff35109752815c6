/**
 * Calls without a connection: each is one POST of a batch, for runtimes and requests in which no
 * socket may stay. Reads (and renewals, which do no harm) go on to the next endpoint when one
 * fails. A write goes to an endpoint that has just answered, if need be to a greeting sent first;
 * when its own POST breaks its outcome is unknown, and it is not sent again. No watches.
 */
import { RpcError } from "../api/errors.ts";
import { LINK_LIMITS as LIMITS } from "../base/link-limits.ts";
import type {
  LinkAnswer,
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
} from "../wire/link.ts";
import { isLinkWrite } from "../wire/link-writes.ts";
import { cancelledError, errorOf, mayRepeat } from "./caller.ts";
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
    const { platform, endpoints } = this.#options;
    const { signal } = options;
    const deadline =
      platform.now() + (options.timeoutMilliseconds ?? this.#options.timeoutMilliseconds);
    let reasons: string[] = [];
    for (let attempt = 0; ; attempt += 1) {
      if (signal?.aborted === true) throw cancelledError({ write: false, cause: signal.reason });
      const endpoint = endpoints.current;
      const turns = endpoints.count - (attempt % endpoints.count);
      try {
        const answer = await this.#try(endpoint, request as LinkRequest, {
          deadline,
          turns,
          signal,
        });
        return answer as LinkAnswerOf<Method>;
      } catch (error) {
        const late = error instanceof RpcError && error.status === "deadlineExceeded";
        const repeat = mayRepeat(error) || (late && error.outcome === "none");
        if (!repeat) {
          if (error instanceof RpcError && error.outcome === "unknown") endpoints.leave(endpoint);
          throw error;
        }
        endpoints.leave(endpoint);
        reasons = [...reasons, `${endpoint}: ${error.message}`].slice(-endpoints.count);
        // Once every endpoint had its turn, the cluster gets time: an election takes a second.
        const rounds = Math.floor((attempt + 1) / endpoints.count);
        const delay = turns === 1 ? backoff(rounds, platform.random()) : 0;
        if (platform.now() + delay >= deadline) {
          if (error.code !== undefined && !late) throw error;
          const text = `no endpoint can be reached: ${reasons.join("; ")}`;
          throw new RpcError("unavailable", text, { cause: error });
        }
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
    request: LinkRequest,
    options: { deadline: number; turns: number; signal: AbortSignal | undefined },
  ): Promise<LinkAnswer> {
    const { platform, endpoints, role, token } = this.#options;
    const { deadline, turns, signal } = options;
    const write = isLinkWrite(request);
    const greeting = { role, token };
    const share = (): number => Math.max(1, (deadline - platform.now()) / turns);
    if (write && !endpoints.answered(endpoint, platform.now())) {
      const timeoutMilliseconds = Math.min(share(), LIMITS.clientConnectMilliseconds);
      const probe = { greeting, timeoutMilliseconds, signal, write: false };
      await postFrames(platform, endpoint, [], probe);
    }
    const timeoutMilliseconds = write ? Math.max(1, deadline - platform.now()) : share();
    const frame = {
      kind: "call",
      id: 1,
      timeoutMilliseconds: Math.ceil(timeoutMilliseconds),
      requireLeader: true,
      request,
    } as const;
    const how = { greeting, timeoutMilliseconds, signal, write };
    const replies = await postFrames(platform, endpoint, [frame], how);
    endpoints.hasAnswered(endpoint, platform.now());
    for (const reply of replies) {
      if (reply.kind === "result" && reply.id === 1) return reply.answer;
      if (reply.kind === "error" && reply.id === 1) throw errorOf(reply.failure);
    }
    throw new RpcError("unavailable", `${endpoint} left the call without an answer`, {
      outcome: write ? "unknown" : "none",
    });
  }
}
