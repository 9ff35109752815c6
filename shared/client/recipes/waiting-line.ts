/**
 * The line in which locks and elections stand: keys below a prefix, each under its owner's lease,
 * in the order of their creation. Whoever has nobody before them is at the front. Each waits for
 * the one just before alone, so that a release wakes one. The layout is that of etcd's concurrency
 * package, `<prefix><lease id in hex>`, so that its users stand in the same line.
 */
import { RpcError } from "../../api/errors.ts";
import { key as keyIs, put, remove } from "../operations.ts";
import type { Selector } from "../keys.ts";
import type { Listing, Store } from "../store.ts";
import { text } from "../values.ts";
import { CompactedError } from "../watch.ts";
import { openSession } from "./session.ts";
import type { AnyStore, HoldOptions, Session } from "./session.ts";
import { joinSignals, throwIfAborted } from "./signals.ts";

/** A place in a line, and what it gives once its owner is at the front. */
export interface Holding extends AsyncDisposable {
  readonly key: string;
  /**
   * The fencing token: it grows from each holder to the next. Hand it to what the holding protects,
   * and let that refuse smaller ones: a holder that was paused may come back late.
   */
  readonly token: number;
  /** Aborts before the cluster can have given the place to another. */
  readonly signal: AbortSignal;
  release(): Promise<void>;
}

export interface WaitOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface PlaceOptions extends HoldOptions, WaitOptions {
  /** What stands in the key, for others to read. */
  readonly value?: string | undefined;
}

/** The line of one name, as its owners' options want to stand in it. */
export class Line {
  readonly store: Store<string>;
  readonly prefix: string;
  readonly #hold: HoldOptions;

  constructor(store: AnyStore, name: string, hold: HoldOptions) {
    this.store = store.as(text);
    this.prefix = `${name}/`;
    this.#hold = hold;
  }

  /** Takes the last place; `value` stands in its key. */
  join({ signal }: WaitOptions, value?: string): Promise<Place> {
    return Place.take(this.store, this.prefix, { ...this.#hold, signal, value });
  }

  /** Takes the last place, and waits until nobody of this line is before it. */
  async pass(options: WaitOptions, value?: string): Promise<Place> {
    const place = await this.join(options, value);
    await place.front([this.prefix], options);
    return place;
  }

  /** Who is at the front. */
  first({ signal }: WaitOptions): Promise<Listing<string>> {
    const sort = { by: "create", order: "ascend" } as const;
    return this.store.list({ prefix: this.prefix }, { sort, limit: 1, signal });
  }
}

export class Place implements Holding {
  readonly key: string;
  readonly token: number;
  readonly session: Session;
  readonly #store: Store<string>;
  readonly #own: boolean;

  private constructor(
    store: Store<string>,
    place: { key: string; token: number; session: Session; own: boolean },
  ) {
    this.#store = store;
    this.key = place.key;
    this.token = place.token;
    this.session = place.session;
    this.#own = place.own;
  }

  get signal(): AbortSignal {
    return this.session.signal;
  }

  /** Takes the last place of the line at `prefix`. */
  static async take(store: Store<string>, prefix: string, options: PlaceOptions): Promise<Place> {
    const { signal, value = "" } = options;
    const own = options.session === undefined;
    const session = options.session ?? (await openSession(store, { ttl: options.ttl, signal }));
    const key = `${prefix}${session.name}`;
    try {
      const { succeeded, revision } = await store
        .txn()
        .if(keyIs(key).isMissing())
        .do(put(key, value, { lease: session.lease }))
        .commit({ signal });
      if (succeeded) return new Place(store, { key, token: revision, session, own });
      throw new RpcError("alreadyExists", `this session stands in the line at ${prefix} already`);
    } catch (error) {
      if (own) void session.close().catch(() => undefined);
      throw error;
    }
  }

  /**
   * Resolves once nobody who came before is left under any of the prefixes. When it rejects (a
   * signal, or the session's loss) the place is given up.
   */
  front(prefixes: readonly string[], options: WaitOptions): Promise<void> {
    return this.#wait(options, async (signal) => {
      for (const prefix of prefixes) {
        await nobodyBefore(this.#store, { prefix, revision: this.token, signal });
      }
    });
  }

  /** Resolves once it is among the first `permits` of the line, and rejects like `front`. */
  among(line: { prefix: string; permits: number }, options: WaitOptions): Promise<void> {
    const { prefix, permits } = line;
    const sort = { by: "create", order: "ascend" } as const;
    return this.#wait(options, async (signal) => {
      for (;;) {
        const read = { sort, limit: permits, keysOnly: true, signal };
        const { entries, revision } = await this.#store.list({ prefix }, read);
        if (entries.length < permits || entries.some((each) => each.key === this.key)) return;
        await untilDeleted(this.#store, { prefix }, { from: revision + 1, signal });
      }
    });
  }

  async #wait(options: WaitOptions, until: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal, off } = joinSignals(options.signal, this.signal);
    try {
      await until(signal);
      // The place may have been taken away while its owner could not hear of it.
      const mine = await this.#store.get(this.key, { signal });
      throwIfAborted(signal);
      if (mine?.createRevision !== this.token) {
        throw new RpcError("aborted", `${this.key} was taken away while waiting`);
      }
    } catch (error) {
      await this.release().catch(() => undefined);
      throwIfAborted(signal);
      throw error;
    } finally {
      off();
    }
  }

  async release(): Promise<void> {
    if (this.#own) {
      await this.session.close();
      return;
    }
    const mine = keyIs(this.key).createRevision.equals(this.token);
    await this.#store.txn({ if: [mine], do: [remove(this.key)] });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** Resolves once no key under `prefix` was created before `revision`. */
async function nobodyBefore(
  store: Store<string>,
  line: { prefix: string; revision: number; signal: AbortSignal },
): Promise<void> {
  const { prefix, revision, signal } = line;
  const before = {
    created: { to: revision - 1 },
    sort: { by: "create", order: "descend" },
    limit: 1,
    keysOnly: true,
    signal,
  } as const;
  for (;;) {
    const listing = await store.list({ prefix }, before);
    const last = listing.entries[0];
    if (last === undefined) return;
    await untilDeleted(store, last.key, { from: listing.revision + 1, signal });
  }
}

/** Resolves when a key of these was deleted at or after revision `from`, or may have been. */
export async function untilDeleted(
  store: Store<string>,
  selector: Selector,
  options: { from: number; signal: AbortSignal | undefined },
): Promise<void> {
  const { from, signal } = options;
  try {
    const watch = store.watch(selector, { fromRevision: from, only: "delete", signal });
    for await (const _event of watch) return;
  } catch (error) {
    // What happened was forgotten: whoever waits looks again.
    if (!(error instanceof CompactedError)) throw error;
  }
  throwIfAborted(signal);
}
