/**
 * What every carrier of a watch has in common - server-sent events, WebSocket, RPC: a feed over the
 * way to the peers, whose events are held for a reader that may be slow.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { Selector } from "../shared/client/keys.ts";
import type { Watch, WatchEvent, WatchOptions } from "../shared/client/watch.ts";
import type { EdgeConfig } from "./config.ts";
import { HeldWatches, takenBytes } from "./held-watches.ts";
import { tooSlow } from "./readers.ts";
import type { Reader } from "./readers.ts";
import { storeOver } from "./upstream.ts";
import type { Upstream } from "./upstream.ts";
import { WatchFeed } from "./watch-feed.ts";
import type { FeedOptions } from "./watch-feed.ts";

export interface CarrierParts {
  readonly feed: WatchFeed;
  readonly reader: Reader;
  readonly stallMilliseconds: number;
  /** Ends the feed and its way to the peers. */
  close(): void;
}

export interface Carried extends Omit<FeedOptions, "taken"> {
  readonly config: EdgeConfig;
  readonly upstream: Upstream;
  readonly selector: Selector;
  readonly watch: Pick<WatchOptions, "previous" | "only">;
  readonly timeoutMilliseconds: number | undefined;
}

interface Making<Carrier> {
  readonly make: (parts: CarrierParts) => Carrier;
  readonly end: (carrier: Carrier) => void;
}

/** What `make` makes, once a peer has taken the watch; `end` ends it when its reader is too slow. */
export async function carry<Carrier>(
  { config, upstream, selector, watch, timeoutMilliseconds, ...options }: Carried,
  { make, end }: Making<Carrier>,
): Promise<Carrier> {
  let carrier: Carrier | undefined;
  const reader = config.readers.enter(() => {
    if (carrier !== undefined) end(carrier);
  });
  const store = storeOver(new HeldWatches(upstream, reader));
  const bufferBytesMax = LIMITS.edgeWatchBytesMax;
  const open = (fromRevision: number | undefined): Watch<Bytes> =>
    store.watch(selector, { ...watch, fromRevision, bufferBytesMax });
  const taken = (event: WatchEvent<Bytes>): void => reader.took(takenBytes(event));
  const feed = new WatchFeed(open, { ...options, taken });
  const close = (): void => {
    feed.close();
    upstream.close();
  };
  try {
    await feed.begin(timeoutMilliseconds ?? config.timeoutMilliseconds);
    // Nothing has carried it yet, so nobody was told.
    if (reader.isOver) throw tooSlow();
    const { stallMilliseconds } = config.readers;
    carrier = make({ feed, reader, stallMilliseconds, close });
    return carrier;
  } catch (error) {
    close();
    reader.leave();
    throw error;
  }
}
