/**
 * The edge's way to the peers, for the length of one request (no socket may outlive its request in
 * a Worker). Reads and renewals go by POST, one round trip, on to the next peer whenever one
 * fails. Writes go over a WebSocket that is opened first: what was never sent can go to another
 * peer, what was sent is never sent again.
 */
import type { CallOptions, Caller, WatchHandle, WatchListener } from "../shared/client/caller.ts";
import { LinkCaller } from "../shared/client/link-caller.ts";
import type { CallerOptions } from "../shared/client/link-caller.ts";
import { defaultPlatform } from "../shared/client/platform.ts";
import { PostCaller } from "../shared/client/post-caller.ts";
import { KeySpace } from "../shared/client/keys.ts";
import { LeaseKeeper } from "../shared/client/lease.ts";
import { Store } from "../shared/client/store.ts";
import { bytes } from "../shared/client/values.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type {
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
  LinkWatchCreate,
} from "../shared/wire/link.ts";
import { isLinkWrite } from "../shared/wire/link-writes.ts";
import type { EdgeConfig } from "./config.ts";

export class Upstream implements Caller {
  readonly #options: CallerOptions;
  readonly #posts: PostCaller;
  #link: LinkCaller | undefined;

  constructor(config: EdgeConfig) {
    this.#options = {
      endpoints: config.endpoints,
      platform: defaultPlatform(),
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
    if (!isLinkWrite(request as LinkRequest)) return this.#posts.call(request, options);
    return this.#socket().call(request, options);
  }

  watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    return this.#socket().watch(create, listener);
  }

  close(): void {
    this.#link?.close();
  }

  #socket(): LinkCaller {
    this.#link ??= new LinkCaller(this.#options);
    return this.#link;
  }
}

/** The store over an upstream, with values as bytes. */
export function storeOver(upstream: Upstream): Store<Bytes> {
  const platform = defaultPlatform();
  const leases = new LeaseKeeper(upstream, platform);
  return new Store({ caller: upstream, platform, leases }, { space: new KeySpace(), codec: bytes });
}
