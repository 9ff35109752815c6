/** Watches whose events count as held for their reader, from when they come until it takes them. */
import type { CallOptions, Caller, WatchHandle, WatchListener } from "../shared/client/caller.ts";
import type { ClientPlatform } from "../shared/client/platform.ts";
import type { WatchEvent } from "../shared/client/watch.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type {
  LinkAnswerOf,
  LinkEvent,
  LinkMethod,
  LinkRequestOf,
  LinkWatchCreate,
} from "../shared/wire/link.ts";
import type { Reader } from "./readers.ts";

/** An event's own objects, beside its bytes. */
const EVENT_BYTES = 256;

export class HeldWatches implements Caller {
  readonly platform: ClientPlatform;
  readonly #caller: Caller;
  readonly #reader: Reader;

  constructor(caller: Caller & { readonly platform: ClientPlatform }, reader: Reader) {
    this.platform = caller.platform;
    this.#caller = caller;
    this.#reader = reader;
  }

  call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
    options?: CallOptions,
  ): Promise<LinkAnswerOf<Method>> {
    return this.#caller.call(request, options);
  }

  watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    return this.#caller.watch(create, {
      response: (response) => {
        const bytes = response.events.reduce((sum, event) => sum + arrivedBytes(event), 0);
        this.#reader.hold(bytes);
        // One that was ended by it takes nothing more.
        if (!this.#reader.isOver) listener.response(response);
      },
      end: (error) => listener.end(error),
    });
  }

  close(): void {
    this.#caller.close();
  }
}

function arrivedBytes({ kv, previous }: LinkEvent): number {
  const before = previous === undefined ? 0 : previous.key.length + previous.value.length;
  return kv.key.length + kv.value.length + before + EVENT_BYTES;
}

/** The same event's bytes when its reader takes it. */
export function takenBytes({ entry, previous }: WatchEvent<Bytes>): number {
  const before = previous === undefined ? 0 : previous.keyBytes.length + previous.bytes.length;
  return entry.keyBytes.length + entry.bytes.length + before + EVENT_BYTES;
}
