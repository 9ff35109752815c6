/**
 * The edge's way to the peers, for the length of one request (no socket may outlive its request in
 * a Worker). Calls go by POST, on to the next peer whenever one fails: reads as they are, writes
 * under an identity, so that they apply once. Watches go over a WebSocket.
 */
import type { CallOptions, Caller, WatchHandle, WatchListener } from "../shared/client/caller.ts";
import { LinkCaller } from "../shared/client/link-caller.ts";
import type { CallerOptions } from "../shared/client/link-caller.ts";
import { defaultPlatform } from "../shared/client/platform.ts";
import type { ClientPlatform } from "../shared/client/platform.ts";
import { PostCaller } from "../shared/client/post-caller.ts";
import { KeySpace } from "../shared/client/keys.ts";
import { LeaseKeeper } from "../shared/client/lease.ts";
import { Store } from "../shared/client/store.ts";
import { bytes } from "../shared/client/values.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type {
  LinkAnswerOf,
  LinkMethod,
  LinkRequestOf,
  LinkWatchCreate,
} from "../shared/wire/link.ts";
import type { EdgeConfig } from "./config.ts";

let shared: ClientPlatform | undefined;

/** One clock for all requests, so that what one learnt of a peer serves the next. */
function sharedPlatform(): ClientPlatform {
  shared ??= defaultPlatform();
  return shared;
}

export class Upstream implements Caller {
  readonly #options: CallerOptions;
  readonly #posts: PostCaller;
  #link: LinkCaller | undefined;

  constructor(config: EdgeConfig) {
    this.#options = {
      endpoints: config.endpoints,
      lanes: config.lanes,
      platform: sharedPlatform(),
      role: "edge",
      token: config.secret ?? "",
      timeoutMilliseconds: config.timeoutMilliseconds,
    };
    this.#posts = new PostCaller(this.#options);
  }

  call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options: CallOptions = {},
  ): Promise<LinkAnswerOf<Method>> {
    return this.#posts.call(request, options);
  }

  watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    this.#link ??= new LinkCaller(this.#options);
    return this.#link.watch(create, listener);
  }

  close(): void {
    this.#link?.close();
  }
}

/** The store over an upstream, with values as bytes. */
export function storeOver(upstream: Upstream): Store<Bytes> {
  const platform = sharedPlatform();
  const leases = new LeaseKeeper(upstream, platform);
  return new Store({ caller: upstream, platform, leases }, { space: new KeySpace(), codec: bytes });
}
