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
import type { AnyStore, HoldOptions } from "./session.ts";
import { Line } from "./waiting-line.ts";
import type { Holding, WaitOptions } from "./waiting-line.ts";

export class Mutex {
  readonly #line: Line;

  constructor(store: AnyStore, name: string, options: HoldOptions = {}) {
    this.#line = new Line(store, name, options);
  }

  /** Waits for its turn. */
  lock(options: WaitOptions = {}): Promise<Holding> {
    return this.#line.pass(options);
  }

  /** The lock, or undefined when somebody holds it or waits for it. */
  async tryLock(options: WaitOptions = {}): Promise<Holding | undefined> {
    if ((await this.#line.first(options)).count > 0) return undefined;
    const place = await this.#line.join(options);
    const [first] = (await this.#line.first(options)).entries;
    if (first?.createRevision === place.token) return place;
    await place.release();
    return undefined;
  }
}

/** Many readers, or one writer; whoever came first goes first, so that neither starves. */
export class ReadWriteLock {
  readonly #readers: Line;
  readonly #writers: Line;

  constructor(store: AnyStore, name: string, options: HoldOptions = {}) {
    this.#readers = new Line(store, `${name}/read`, options);
    this.#writers = new Line(store, `${name}/write`, options);
  }

  /** Waits for the writers that came before. */
  async read(options: WaitOptions = {}): Promise<Holding> {
    const place = await this.#readers.join(options);
    await place.front([this.#writers.prefix], options);
    return place;
  }

  /** Waits for everybody who came before. */
  async write(options: WaitOptions = {}): Promise<Holding> {
    const place = await this.#writers.join(options);
    await place.front([this.#writers.prefix, this.#readers.prefix], options);
    return place;
  }
}

/** A lock that as many may hold at a time as it has permits. */
export class Semaphore {
  readonly #line: Line;
  readonly #permits: number;

  constructor(store: AnyStore, name: string, options: HoldOptions & { readonly permits: number }) {
    const { permits, ...hold } = options;
    if (!Number.isSafeInteger(permits) || permits < 1) {
      throw new RpcError("invalidArgument", "a semaphore has 1 permit or more");
    }
    this.#line = new Line(store, name, hold);
    this.#permits = permits;
  }

  /** Waits until one of the permits is free for it. */
  async acquire(options: WaitOptions = {}): Promise<Holding> {
    const place = await this.#line.join(options);
    await place.among({ prefix: this.#line.prefix, permits: this.#permits }, options);
    return place;
  }
}
