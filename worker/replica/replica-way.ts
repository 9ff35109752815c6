/**
 * A request's way to the replicas: a read or a watch of a range that is followed goes to the replica near the caller.
 * What the replica refuses, or doesn't answer in time, is for the peers: then the answer here is undefined, and it is
 * never said that it came from a replica.
 */
import { RpcError } from "../../shared/api/errors.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { errorOf } from "../../shared/client/caller.ts";
import type { CallOptions, WatchHandle, WatchListener } from "../../shared/client/caller.ts";
import { Endpoints } from "../../shared/client/endpoints.ts";
import { LinkCaller } from "../../shared/client/link-caller.ts";
import type { CallerOptions } from "../../shared/client/link-caller.ts";
import { postFrames } from "../../shared/client/link-post.ts";
import { limit } from "../../shared/client/platform.ts";
import type {
  LinkAnswerOf,
  LinkRequestOf,
  LinkWatchCreate,
  LinkWelcome,
} from "../../shared/wire/link.ts";
import type { Served } from "../served.ts";
import type { FollowedRanges } from "./followed.ts";

export interface NearAnswer {
  readonly answer: LinkAnswerOf<"range">;
  readonly served: Served;
}

export class ReplicaWay {
  readonly #followed: FollowedRanges;
  readonly #options: CallerOptions;
  readonly #hint: string | undefined;
  readonly #links = new Set<LinkCaller>();

  /** `hint`: where its caller is; undefined: somewhere. */
  constructor(followed: FollowedRanges, options: CallerOptions, hint: string | undefined) {
    this.#followed = followed;
    this.#options = options;
    this.#hint = hint;
  }

  /** `clusterId`: an answer of another cluster is none; undefined: any will do. */
  async read(
    request: LinkRequestOf<"range">,
    { signal, timeoutMilliseconds }: CallOptions,
    clusterId: bigint | undefined,
  ): Promise<NearAnswer | undefined> {
    const url = this.#urlFor(request.op);
    if (url === undefined) return undefined;
    const asked = timeoutMilliseconds ?? this.#options.timeoutMilliseconds;
    const wait = Math.min(this.#followed.waitMilliseconds, asked / 2);
    const { platform, role, token } = this.#options;
    const call = { timeoutMilliseconds: Math.ceil(wait), requireLeader: true, identity: undefined };
    let welcome: LinkWelcome | undefined;
    try {
      const replies = await postFrames(platform, url, [{ kind: "call", id: 1, ...call, request }], {
        greeting: { role, token },
        timeoutMilliseconds: wait,
        signal,
        write: false,
        heard: (heard) => {
          welcome = heard;
        },
      });
      for (const reply of replies) {
        if (reply.kind === "error") throw errorOf(reply.failure);
        if (reply.kind !== "result" || reply.answer.method !== "range") continue;
        if (welcome === undefined) break;
        if (clusterId !== undefined && welcome.clusterId !== clusterId) return undefined;
        return { answer: reply.answer, served: servedBy(welcome, reply.answer) };
      }
      return undefined;
    } catch (error) {
      // Who withdraws a call has no use for another answer.
      if (signal?.aborted === true) throw error;
      this.#failed(url, error);
      return undefined;
    }
  }

  /** Undefined: the replica doesn't hold what the watch needs, or can't be reached. */
  async watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle | undefined> {
    const url = this.#urlFor(create);
    if (url === undefined) return undefined;
    const link = new LinkCaller({ ...this.#options, endpoints: new Endpoints([url]) });
    this.#links.add(link);
    const close = (): void => {
      this.#links.delete(link);
      link.close();
    };
    const first = Promise.withResolvers<boolean>();
    let state: "opening" | "open" | "over" = "opening";
    const milliseconds = this.#followed.waitMilliseconds;
    const off = limit({ milliseconds }, () => first.resolve(false));
    try {
      const handle = await link.watch(create, {
        response: (response) => {
          if (state === "opening") {
            state = response.canceled ? "over" : "open";
            first.resolve(state === "open");
          }
          if (state === "open") listener.response(response);
        },
        end: (error) => {
          const wasOpen = state === "open";
          state = "over";
          first.resolve(false);
          if (!wasOpen) return;
          close();
          listener.end(error);
        },
      });
      if (await first.promise) {
        return {
          close: () => {
            state = "over";
            handle.close();
            close();
          },
        };
      }
    } catch (error) {
      this.#failed(url, error);
    } finally {
      off();
    }
    state = "over";
    close();
    return undefined;
  }

  close(): void {
    for (const link of this.#links) link.close();
  }

  #urlFor(span: Pick<LinkWatchCreate, "key" | "rangeEnd">): string | undefined {
    const url = this.#followed.urlFor(span, this.#hint);
    if (url === undefined) return undefined;
    return this.#followed.isResting(url, this.#options.platform.now()) ? undefined : url;
  }

  /** A refusal is an answer; silence and errors mean that the next caller need not wait as well. */
  #failed(url: string, error: unknown): void {
    const isLate =
      !(error instanceof RpcError) ||
      error.status === "unavailable" ||
      error.status === "deadlineExceeded";
    if (!isLate) return;
    const now = this.#options.platform.now();
    this.#followed.rest(url, now + LIMITS.replicaRestMilliseconds);
  }
}

function servedBy(
  { clusterId, memberId }: LinkWelcome,
  { header, ageMilliseconds }: LinkAnswerOf<"range">,
): Served {
  return { ...header, clusterId, by: `replica ${memberId.toString(16)}`, ageMilliseconds };
}
