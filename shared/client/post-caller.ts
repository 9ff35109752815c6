/**
 * Calls without a connection: each is one POST of a batch, for runtimes and requests in which no
 * socket may stay. When an endpoint fails the call goes on to the next one: a read (or a renewal,
 * which does no harm) as it is, a write under its identity, so that it applies once. The first
 * write of all is preceded by a greeting, which brings the floor of its identity.
 */
import { RpcError } from "../api/errors.ts";
import * as LIMITS from "../base/link-limits.ts";
import type {
  LinkAnswer,
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
  LinkWelcome,
  LinkWatchCreate,
} from "../wire/link.ts";
import { callByTries } from "./attempts.ts";
import type { Attempts, Bounds } from "./attempts.ts";
import { cancelledError, deadlineError, errorOf } from "./caller.ts";
import type { CallOptions, Caller, WatchHandle, WatchListener } from "./caller.ts";
import { LinkCaller, backoff } from "./link-caller.ts";
import type { CallerOptions } from "./link-caller.ts";
import { postFrames } from "./link-post.ts";
import { pause } from "./platform.ts";

export class PostCaller implements Caller {
  readonly #options: CallerOptions;
  /** Of the watches that are open. */
  readonly #links = new Set<LinkCaller>();

  constructor(options: CallerOptions) {
    this.#options = options;
  }

  call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options: CallOptions = {},
  ): Promise<LinkAnswerOf<Method>> {
    const tries = (attempts: Attempts, bounds: Bounds): Promise<LinkAnswer> =>
      this.#untilAnswered(attempts, bounds);
    const answer = callByTries(request as LinkRequest, options, this.#options, tries);
    return answer as Promise<LinkAnswerOf<Method>>;
  }

  async #untilAnswered(attempts: Attempts, { deadline, signal }: Bounds): Promise<LinkAnswer> {
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

  /**
   * A watch has a link of its own, which ends with it: where calls go by POST, none may be shared.
   */
  async watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    const link = new LinkCaller(this.#options);
    this.#links.add(link);
    const end = (): void => {
      this.#links.delete(link);
      link.close();
    };
    try {
      const handle = await link.watch(create, {
        response: (response) => listener.response(response),
        end: (error) => {
          end();
          listener.end(error);
        },
      });
      return {
        close: () => {
          handle.close();
          end();
        },
      };
    } catch (error) {
      end();
      throw error;
    }
  }

  close(): void {
    for (const link of this.#links) link.close();
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
