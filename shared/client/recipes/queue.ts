/**
 * Queues between processes: each item goes to one taker. An item that was taken is gone; a taker
 * that dies with it loses it. When a take fails with outcome "unknown", its item may be gone too.
 */
import { RpcError } from "../../api/errors.ts";
import { key as keyIs, remove } from "../operations.ts";
import type { Store } from "../store.ts";
import type { Entry } from "../values.ts";
import { CompactedError } from "../watch.ts";
import { throwIfAborted, uniqueName } from "./signals.ts";
import type { WaitOptions } from "./waiting-line.ts";

/** What a queue gave: the value, and the revision at which it was put in. */
export interface QueueItem<Value> {
  readonly value: Value;
  readonly key: string;
  readonly revision: number;
}

/** First in, first out, by the order in which the cluster took the items. */
export class Queue<Value> {
  readonly #store: Store<Value>;
  readonly #prefix: string;

  constructor(store: Store<Value>, name: string) {
    this.#store = store;
    this.#prefix = `${name}/`;
  }

  async enqueue(value: Value, options: WaitOptions = {}): Promise<void> {
    await this.#store.put(`${this.#prefix}${uniqueName()}`, value, { signal: options.signal });
  }

  /** The oldest item, waited for if need be. */
  dequeue(options: WaitOptions = {}): Promise<QueueItem<Value>> {
    return takeFirst(this.#store, this.#prefix, () => this.#oldest(options.signal), options.signal);
  }

  /** The oldest item, or undefined when there is none. */
  async tryDequeue(options: WaitOptions = {}): Promise<QueueItem<Value> | undefined> {
    return tryFirst(this.#store, () => this.#oldest(options.signal), options.signal);
  }

  async #oldest(signal: AbortSignal | undefined): Promise<Found<Value>> {
    return oldestIn(this.#store, this.#prefix, signal);
  }
}

const PRIORITY_MAX = 99_999;

/** The smallest priority first; among equals, first in, first out. */
export class PriorityQueue<Value> {
  readonly #store: Store<Value>;
  readonly #prefix: string;

  constructor(store: Store<Value>, name: string) {
    this.#store = store;
    this.#prefix = `${name}/`;
  }

  /** `priority`: a whole number from 0 to 99999. */
  async enqueue(value: Value, priority: number, options: WaitOptions = {}): Promise<void> {
    if (!Number.isInteger(priority) || priority < 0 || priority > PRIORITY_MAX) {
      throw new RpcError("invalidArgument", `a priority is a whole number up to ${PRIORITY_MAX}`);
    }
    const digits = String(priority).padStart(5, "0");
    const key = `${this.#prefix}${digits}/${uniqueName()}`;
    await this.#store.put(key, value, { signal: options.signal });
  }

  dequeue(options: WaitOptions = {}): Promise<QueueItem<Value>> {
    return takeFirst(this.#store, this.#prefix, () => this.#first(options.signal), options.signal);
  }

  async tryDequeue(options: WaitOptions = {}): Promise<QueueItem<Value> | undefined> {
    return tryFirst(this.#store, () => this.#first(options.signal), options.signal);
  }

  async #first(signal: AbortSignal | undefined): Promise<Found<Value>> {
    const read = { limit: 1, keysOnly: true, signal };
    const { entries, revision } = await this.#store.list({ prefix: this.#prefix }, read);
    const first = entries[0];
    if (first === undefined) return { entry: undefined, revision };
    const level = first.key.slice(0, this.#prefix.length + 6);
    return oldestIn(this.#store, level, signal);
  }
}

interface Found<Value> {
  readonly entry: Entry<Value> | undefined;
  readonly revision: number;
}

async function oldestIn<Value>(
  store: Store<Value>,
  prefix: string,
  signal: AbortSignal | undefined,
): Promise<Found<Value>> {
  const sort = { by: "create", order: "ascend" } as const;
  const { entries, revision } = await store.list({ prefix }, { sort, limit: 1, signal });
  return { entry: entries[0], revision };
}

async function tryFirst<Value>(
  store: Store<Value>,
  find: () => Promise<Found<Value>>,
  signal: AbortSignal | undefined,
): Promise<QueueItem<Value> | undefined> {
  for (;;) {
    throwIfAborted(signal);
    const { entry } = await find();
    if (entry === undefined) return undefined;
    const taken = await take(store, entry, signal);
    if (taken !== undefined) return taken;
  }
}

async function takeFirst<Value>(
  store: Store<Value>,
  prefix: string,
  find: () => Promise<Found<Value>>,
  signal: AbortSignal | undefined,
): Promise<QueueItem<Value>> {
  for (;;) {
    throwIfAborted(signal);
    const { entry, revision } = await find();
    if (entry === undefined) {
      await untilFilled(store, prefix, { from: revision + 1, signal });
      continue;
    }
    const taken = await take(store, entry, signal);
    if (taken !== undefined) return taken;
  }
}

/** The entry's item, unless somebody else was faster. */
async function take<Value>(
  store: Store<Value>,
  entry: Entry<Value>,
  signal: AbortSignal | undefined,
): Promise<QueueItem<Value> | undefined> {
  const { key, modRevision } = entry;
  const unchanged = keyIs(key).modRevision.equals(modRevision);
  const { succeeded } = await store.txn({ if: [unchanged], do: [remove(key)] }, { signal });
  return succeeded ? { value: entry.value, key, revision: modRevision } : undefined;
}

async function untilFilled<Value>(
  store: Store<Value>,
  prefix: string,
  options: { from: number; signal: AbortSignal | undefined },
): Promise<void> {
  const { from, signal } = options;
  try {
    const watch = store.watch({ prefix }, { fromRevision: from, only: "put", signal });
    for await (const _event of watch) return;
  } catch (error) {
    if (!(error instanceof CompactedError)) throw error;
  }
}
