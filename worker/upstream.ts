/**
 * The edge's way to the peers, for the length of one request (no socket may outlive its request in
 * a Worker). Calls go by POST, on to the next peer whenever one fails: reads as they are, writes
 * under an identity, so that they apply once. A read that is late is asked of a second peer too
 * (`hedge.ts`). Watches go over a WebSocket. Where a replica follows the range, reads and watches
 * go there first (`replica/replica-way.ts`).
 */
import type { CallOptions, Caller, WatchHandle, WatchListener } from "../shared/client/caller.ts";
import { LinkCaller } from "../shared/client/link-caller.ts";
import type { CallerOptions } from "../shared/client/link-caller.ts";
import type { ClientPlatform } from "../shared/client/platform.ts";
import { postFrames } from "../shared/client/link-post.ts";
import { PostCaller } from "../shared/client/post-caller.ts";
import { KeySpace } from "../shared/client/keys.ts";
import { LeaseKeeper } from "../shared/client/lease.ts";
import { Store } from "../shared/client/store.ts";
import { bytes } from "../shared/client/values.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { RpcError, rpcError } from "../shared/api/errors.ts";
import { LIMITS } from "../shared/base/limits.ts";
import type {
  LinkAnswer,
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
  LinkWatchCreate,
  LinkWelcome,
} from "../shared/wire/link.ts";
import type { EdgeConfig } from "./config.ts";
import { admit, admitWatch } from "./auth/grant.ts";
import type { Grant } from "./auth/grant.ts";
import { ReplicaWay } from "./replica/replica-way.ts";
import { servedBy } from "./served.ts";
import type { Served } from "./served.ts";

export class Upstream implements Caller {
  readonly platform: ClientPlatform;
  readonly #config: EdgeConfig;
  readonly #options: CallerOptions;
  readonly #grant: Grant | undefined;
  readonly #posts: PostCaller;
  #link: LinkCaller | undefined;
  /** Who gave the last answer, and what it said of itself. */
  served: Served | undefined;
  #welcome: LinkWelcome | undefined;
  #demandedCluster: bigint | undefined;
  #hedgesLeft: number = LIMITS.hedgesPerRequestMax;
  readonly #near: ReplicaWay | undefined;

  /**
   * `grant`: whose requests these are; undefined: nothing may be asked yet. `hint`: where they come from, if that is
   * known.
   */
  constructor(config: EdgeConfig, grant: Grant | undefined, hint?: string) {
    this.#config = config;
    this.#grant = grant;
    this.platform = config.platform;
    this.#options = {
      endpoints: config.endpoints,
      lanes: config.lanes,
      platform: config.platform,
      role: "edge",
      token: config.secret ?? "",
      timeoutMilliseconds: config.timeoutMilliseconds,
      answeredBy: (welcome) => {
        this.#welcome = welcome;
      },
    };
    this.#posts = new PostCaller(this.#options);
    const { followed } = config;
    if (followed !== undefined) this.#near = new ReplicaWay(followed, this.#options, hint);
  }

  async call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options: CallOptions = {},
  ): Promise<LinkAnswerOf<Method>> {
    if (this.#grant === undefined) throw rpcError("permissionDenied");
    const admitted = admit(this.#grant, request as LinkRequest);
    if (isRange(admitted) && this.#near !== undefined) {
      const { timeoutMilliseconds = this.#options.timeoutMilliseconds } = options;
      const deadline = this.platform.now() + timeoutMilliseconds;
      const near = await this.#near.read(admitted, options, this.#demandedCluster);
      if (near !== undefined) {
        this.served = near.served;
        const answer: unknown = near.answer;
        return answer as LinkAnswerOf<Method>;
      }
      const rest = Math.max(1, deadline - this.platform.now());
      options = { ...options, timeoutMilliseconds: rest };
    }
    let answer: LinkAnswerOf<Method>;
    try {
      // Admitting keeps the method.
      const answered = isRange(admitted)
        ? await this.#read(admitted, options)
        : await this.#posts.call(admitted as LinkRequestOf<Method>, options);
      answer = answered as LinkAnswerOf<Method>;
    } finally {
      this.#checkCluster();
    }
    const { header, ageMilliseconds } = answer as LinkAnswer & { ageMilliseconds?: number };
    // What isn't a read was settled when it was answered.
    const age = answer.method === "range" ? ageMilliseconds : 0;
    if (this.#welcome !== undefined) this.served = servedBy(this.#welcome, header, age);
    return answer;
  }

  /** A read, of two peers if the first is late. */
  async #read(request: Range, options: CallOptions): Promise<LinkAnswerOf<"range">> {
    const { hedges, endpoints } = this.#config;
    if (hedges === undefined || this.#hedgesLeft === 0) return this.#posts.call(request, options);
    const { timeoutMilliseconds = this.#options.timeoutMilliseconds } = options;
    const deadline = this.platform.now() + timeoutMilliseconds;
    const asked = endpoints.current;
    let welcome: LinkWelcome | undefined;
    const { answer, by, losses } = await hedges.read({
      signal: options.signal,
      first: (signal) => this.#posts.call(request, { ...options, signal }),
      second: async (signal) => {
        this.#hedgesLeft -= 1;
        const rest = Math.max(1, deadline - this.platform.now());
        const how = { timeoutMilliseconds: rest, signal };
        const other = await this.#askOnce(request, how);
        ({ welcome } = other);
        return other.answer;
      },
    });
    if (by === "second") this.#welcome = welcome;
    if (losses >= LIMITS.hedgeLossesMax) endpoints.leave(asked);
    return answer;
  }

  /** One try at the peer after the one that is asked first. */
  async #askOnce(
    request: Range,
    how: { readonly timeoutMilliseconds: number; readonly signal: AbortSignal },
  ): Promise<{ answer: LinkAnswerOf<"range">; welcome: LinkWelcome | undefined }> {
    const { platform, role, token } = this.#options;
    const { peers, endpoints } = this.#config;
    const position = peers.indexOf(endpoints.current);
    const endpoint = peers[(position + 1) % peers.length] as string;
    let welcome: LinkWelcome | undefined;
    const timeoutMilliseconds = Math.ceil(how.timeoutMilliseconds);
    const call = { timeoutMilliseconds, requireLeader: true, identity: undefined, request };
    const replies = await postFrames(platform, endpoint, [{ kind: "call", id: 1, ...call }], {
      ...how,
      greeting: { role, token },
      write: false,
      heard: (heard) => {
        welcome = heard;
      },
    });
    for (const reply of replies) {
      if (reply.kind === "result" && reply.answer.method === "range") {
        return { answer: reply.answer, welcome };
      }
    }
    throw new RpcError("unavailable", `${endpoint} left the call without an answer`);
  }

  /** Answers of another cluster are refused: the caller holds a revision of this one. */
  demandCluster(clusterId: bigint): void {
    this.#demandedCluster = clusterId;
  }

  #checkCluster(): void {
    const demanded = this.#demandedCluster;
    if (demanded === undefined || this.#welcome === undefined) return;
    if (this.#welcome.clusterId !== demanded) throw rpcError("clusterIdMismatch");
  }

  async watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    if (this.#grant === undefined) throw rpcError("permissionDenied");
    admitWatch(this.#grant, create);
    const near = await this.#near?.watch(create, listener);
    if (near !== undefined) return near;
    this.#link ??= new LinkCaller(this.#options);
    return this.#link.watch(create, listener);
  }

  close(): void {
    this.#link?.close();
    this.#near?.close();
  }
}

type Range = LinkRequestOf<"range">;

function isRange(request: { readonly method: LinkMethod }): request is Range {
  return request.method === "range";
}

/** The store over an upstream, with values as bytes. */
export function storeOver(upstream: Caller & { readonly platform: ClientPlatform }): Store<Bytes> {
  const { platform } = upstream;
  const leases = new LeaseKeeper(upstream, platform);
  return new Store({ caller: upstream, platform, leases }, { space: new KeySpace(), codec: bytes });
}
