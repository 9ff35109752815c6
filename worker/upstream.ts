/**
 * The edge's way to the peers, for the length of one request (no socket may outlive its request in
 * a Worker). Calls go by POST, on to the next peer whenever one fails: reads as they are, writes
 * under an identity, so that they apply once. Watches go over a WebSocket.
 */
import type { CallOptions, Caller, WatchHandle, WatchListener } from "../shared/client/caller.ts";
import { LinkCaller } from "../shared/client/link-caller.ts";
import type { CallerOptions } from "../shared/client/link-caller.ts";
import type { ClientPlatform } from "../shared/client/platform.ts";
import { PostCaller } from "../shared/client/post-caller.ts";
import { KeySpace } from "../shared/client/keys.ts";
import { LeaseKeeper } from "../shared/client/lease.ts";
import { Store } from "../shared/client/store.ts";
import { bytes } from "../shared/client/values.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { rpcError } from "../shared/api/errors.ts";
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
import { servedBy } from "./served.ts";
import type { Served } from "./served.ts";

export class Upstream implements Caller {
  readonly platform: ClientPlatform;
  readonly #options: CallerOptions;
  readonly #grant: Grant | undefined;
  readonly #posts: PostCaller;
  #link: LinkCaller | undefined;
  /** Who gave the last answer, and what it said of itself. */
  served: Served | undefined;
  #welcome: LinkWelcome | undefined;
  #demandedCluster: bigint | undefined;

  /** `grant`: whose requests these are; undefined: nothing may be asked yet. */
  constructor(config: EdgeConfig, grant: Grant | undefined) {
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
  }

  async call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options: CallOptions = {},
  ): Promise<LinkAnswerOf<Method>> {
    if (this.#grant === undefined) throw rpcError("permissionDenied");
    // Admitting keeps the method.
    const admitted = admit(this.#grant, request as LinkRequest) as LinkRequestOf<Method>;
    let answer: LinkAnswerOf<Method>;
    try {
      answer = await this.#posts.call(admitted, options);
    } finally {
      this.#checkCluster();
    }
    const { header, ageMilliseconds } = answer as LinkAnswer & { ageMilliseconds?: number };
    // What isn't a read was settled when it was answered.
    const age = answer.method === "range" ? ageMilliseconds : 0;
    if (this.#welcome !== undefined) this.served = servedBy(this.#welcome, header, age);
    return answer;
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
    this.#link ??= new LinkCaller(this.#options);
    return this.#link.watch(create, listener);
  }

  close(): void {
    this.#link?.close();
  }
}

/** The store over an upstream, with values as bytes. */
export function storeOver(upstream: Upstream): Store<Bytes> {
  const { platform } = upstream;
  const leases = new LeaseKeeper(upstream, platform);
  return new Store({ caller: upstream, platform, leases }, { space: new KeySpace(), codec: bytes });
}
