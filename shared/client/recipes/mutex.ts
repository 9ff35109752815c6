/**
 * Locks that one holder (or, for reading, many) has at a time, over processes and machines.
 *
 *   const mutex = new Mutex(store, "jobs/nightly");
 *   await using lock = await mutex.lock();
 *   await work({ fencingToken: lock.token, signal: lock.signal });
 *
 * `Mutex` stands in one line with etcd's `concurrency.Mutex` and `etcdctl lock`.
 */
import { RpcError } from "../../api/errors.ts";
import type { Store } from "../store.ts";
import { text } from "../values.ts";
import type { AnyStore, HoldOptions } from "./session.ts";
import { Place } from "./waiting-line.ts";
import type { Holding, WaitOptions } from "./waiting-line.ts";

export class Mutex {
  readonly #store: Store<string>;
  readonly #prefix: string;
  readonly #hold: HoldOptions;

  constructor(store: AnyStore, name: string, options: HoldOptions = {}) {
    this.#store = store.as(text);
    this.#prefix = `${name}/`;
    this.#hold = options;
  }

  /** Waits for its turn. */
  async lock(options: WaitOptions = {}): Promise<Holding> {
    const { signal } = options;
    const place = await Place.take(this.#store, this.#prefix, { ...this.#hold, signal });
    await place.front([this.#prefix], options);
    return place;
  }

  /** The lock, or undefined when somebody holds it or waits for it. */
  async tryLock(options: WaitOptions = {}): Promise<Holding | undefined> {
    const { count } = await this.#store.list({ prefix: this.#prefix }, { countOnly: true });
    if (count > 0) return undefined;
    const { signal } = options;
    const place = await Place.take(this.#store, this.#prefix, { ...this.#hold, signal });
    const [first] = await firstIn(this.#store, this.#prefix, signal);
    if (first?.createRevision === place.token) return place;
    await place.release();
    return undefined;
  }
}

function firstIn(
  store: Store<string>,
  prefix: string,
  signal: AbortSignal | undefined,
): Promise<readonly { readonly createRevision: number }[]> {
  const sort = { by: "create", order: "ascend" } as const;
  return store
    .list({ prefix }, { sort, limit: 1, keysOnly: true, signal })
    .then((listing) => listing.entries);
}

/** Many readers, or one writer; whoever came first goes first, so that neither starves. */
export class ReadWriteLock {
  readonly #store: Store<string>;
  readonly #name: string;
  readonly #hold: HoldOptions;

  constructor(store: AnyStore, name: string, options: HoldOptions = {}) {
    this.#store = store.as(text);
    this.#name = name;
    this.#hold = options;
  }

  /** Waits for the writers that came before. */
  read(options: WaitOptions = {}): Promise<Holding> {
    return this.#lock("read", ["write"], options);
  }

  /** Waits for everybody who came before. */
  write(options: WaitOptions = {}): Promise<Holding> {
    return this.#lock("write", ["write", "read"], options);
  }

  async #lock(
    kind: "read" | "write",
    after: readonly string[],
    options: WaitOptions,
  ): Promise<Holding> {
    const { signal } = options;
    const prefix = `${this.#name}/${kind}/`;
    const place = await Place.take(this.#store, prefix, { ...this.#hold, signal });
    await place.front(
      after.map((each) => `${this.#name}/${each}/`),
      options,
    );
    return place;
  }
}

/** A lock that as many may hold at a time as it has permits. */
export class Semaphore {
  readonly #store: Store<string>;
  readonly #prefix: string;
  readonly #permits: number;
  readonly #hold: HoldOptions;

  constructor(store: AnyStore, name: string, options: HoldOptions & { readonly permits: number }) {
    const { permits, ...hold } = options;
    if (!Number.isSafeInteger(permits) || permits < 1) {
      throw new RpcError("invalidArgument", "a semaphore has 1 permit or more");
    }
    this.#store = store.as(text);
    this.#prefix = `${name}/`;
    this.#permits = permits;
    this.#hold = hold;
  }

  /** Waits until one of the permits is free for it. */
  async acquire(options: WaitOptions = {}): Promise<Holding> {
    const { signal } = options;
    const place = await Place.take(this.#store, this.#prefix, { ...this.#hold, signal });
    await place.among({ prefix: this.#prefix, permits: this.#permits }, options);
    return place;
  }
}
