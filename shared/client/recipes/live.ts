/**
 * State that follows the store: a range as a map, one key as a value. Both read once and watch from
 * there on; when the watch's past is compacted they read anew, so that they are late at times but
 * never wrong about what they show.
 *
 *   const config = new LiveValue(store.as(json<Config>()), "config");
 *   await config.ready;
 *   config.current?.logLevel; // always the newest that has arrived
 *   for await (const value of config) apply(value);
 */
import { RpcError } from "../../api/errors.ts";
import * as LIMITS from "../../base/link-limits.ts";
import type { Key, Selector } from "../keys.ts";
import { pause } from "../platform.ts";
import type { Store } from "../store.ts";
import type { Entry } from "../values.ts";
import { CompactedError } from "../watch.ts";
import { joinSignals } from "./signals.ts";
import type { WaitOptions } from "./waiting-line.ts";

export class LiveRange<Value> implements AsyncIterable<ReadonlyMap<string, Entry<Value>>> {
  /** Resolves once the range was read; rejects when it can't be. */
  readonly ready: Promise<void>;
  readonly #store: Store<Value>;
  readonly #selector: Selector;
  readonly #closer = new AbortController();
  readonly #signal: AbortSignal;
  #entries = new Map<string, Entry<Value>>();
  /** Somebody was given `#entries`: the next change makes a new map. */
  #given = false;
  #revision = 0;
  /** Grows with each change of what is shown. */
  #version = 0;
  #error: unknown;
  #over = false;
  #wake: (() => void)[] = [];

  constructor(store: Store<Value>, selector: Selector, options: WaitOptions = {}) {
    this.#store = store;
    this.#selector = selector;
    const { signal, off } = joinSignals(options.signal, this.#closer.signal);
    this.#signal = signal;
    let settle: (error?: unknown) => void = () => undefined;
    this.ready = new Promise((resolve, reject) => {
      settle = (error) => (error === undefined ? resolve() : reject(error));
    });
    // Whoever doesn't wait for it hears of the failure from the iterator.
    this.ready.catch(() => undefined);
    void this.#run(settle)
      .catch((error: unknown) => {
        this.#error = error;
        settle(error);
      })
      .finally(() => {
        off();
        this.#over = true;
        settle(new RpcError("canceled", "it was closed"));
        this.#awaken();
      });
  }

  /** What is known, by key. A map that was handed out does not change any more. */
  get current(): ReadonlyMap<string, Entry<Value>> {
    this.#given = true;
    return this.#entries;
  }

  /** The store's revision that `current` shows; a lower bound between changes. */
  get revision(): number {
    return this.#revision;
  }

  close(): void {
    this.#closer.abort();
  }

  /** What is known now, then after each change; changes that come while the reader is busy are one. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ReadonlyMap<string, Entry<Value>>, void, void> {
    let shown = 0;
    for (;;) {
      if (shown !== this.#version) {
        shown = this.#version;
        yield this.current;
      } else if (this.#over) {
        if (this.#error !== undefined) throw this.#error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake.push(resolve);
        });
      }
    }
  }

  async #run(read: () => void): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        const listing = await this.#store.list(this.#selector, { signal: this.#signal });
        this.#show(new Map(listing.entries.map((entry) => [entry.key, entry])), listing.revision);
        read();
        await this.#follow(listing.revision + 1);
      } catch (error) {
        if (this.#signal.aborted) return;
        if (error instanceof CompactedError) continue;
        if (!(error instanceof RpcError) || !mayPass(error)) throw error;
        await pause(LIMITS.clientBackoffMillisecondsMax, this.#signal);
      }
    }
  }

  async #follow(fromRevision: number): Promise<void> {
    const watch = this.#store.watch(this.#selector, { fromRevision, signal: this.#signal });
    for await (const { type, key, entry, revision } of watch) {
      const next = this.#given ? new Map(this.#entries) : this.#entries;
      if (type === "delete") next.delete(key);
      else next.set(key, entry);
      this.#show(next, revision);
    }
  }

  #show(entries: Map<string, Entry<Value>>, revision: number): void {
    if (entries !== this.#entries) this.#given = false;
    this.#entries = entries;
    this.#revision = revision;
    this.#version += 1;
    this.#awaken();
  }

  #awaken(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** An outage ends at some time; a refusal stays. */
function mayPass(error: RpcError): boolean {
  return error.retryable || error.status === "deadlineExceeded";
}

export class LiveValue<Value> implements AsyncIterable<Value | undefined> {
  readonly ready: Promise<void>;
  readonly #range: LiveRange<Value>;
  readonly #key: string;
  readonly #fallback: Value | undefined;
  #decoded: { readonly entry: Entry<Value>; readonly value: Value } | undefined;
  #invalid: unknown;

  /** `fallback`: what counts while the key doesn't exist. */
  constructor(
    store: Store<Value>,
    key: Key & string,
    options: WaitOptions & { readonly fallback?: Value | undefined } = {},
  ) {
    this.#range = new LiveRange(store, key, options);
    this.#key = key;
    this.#fallback = options.fallback;
    this.ready = this.#range.ready;
  }

  /**
   * The newest value. One that the codec refuses is passed over, `invalid` says why; the last good
   * one stays.
   */
  get current(): Value | undefined {
    const entry = this.#range.current.get(this.#key);
    if (entry === undefined) return this.#fallback;
    if (this.#decoded?.entry !== entry) {
      try {
        this.#decoded = { entry, value: entry.value };
        this.#invalid = undefined;
      } catch (error) {
        this.#invalid = error;
      }
    }
    return this.#decoded === undefined ? this.#fallback : this.#decoded.value;
  }

  /** What is wrong with the newest value; undefined: nothing. */
  get invalid(): unknown {
    void this.current;
    return this.#invalid;
  }

  close(): void {
    this.#range.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Value | undefined, void, void> {
    for await (const _entries of this.#range) yield this.current;
  }
}
