/**
 * A watch as an async iterator. It begins at once (not at the first `next`), delivers each
 * revision once and in order over any number of links, and ends with `CompactedError` when what it
 * needs is gone. After a lost link it resumes at the revision after the last one that it was
 * shown. A reader that lags lets the watch rest at the peer instead of filling memory.
 */
import { RpcError } from "../api/errors.ts";
import * as LIMITS from "../base/link-limits.ts";
import type { LinkEvent, LinkWatchResponse } from "../wire/link.ts";
import { mayRepeat } from "./caller.ts";
import type { Caller, WatchHandle } from "./caller.ts";
import type { KeyRange } from "./keys.ts";
import type { View } from "./operations.ts";
import { pause } from "./platform.ts";
import { Entry } from "./values.ts";

export interface WatchOptions {
  /** The first revision wanted; by default what comes after now. */
  readonly fromRevision?: number | undefined;
  readonly previous?: boolean | undefined;
  /** Leave out puts, or deletes. */
  readonly only?: "put" | "delete" | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Undelivered bytes past which the watch rests at the peer until its reader has caught up. */
  readonly bufferBytesMax?: number | undefined;
}

export interface WatchEvent<Value> {
  readonly type: "put" | "delete";
  /** The revision of the change; events of one revision come one after another. */
  readonly revision: number;
  readonly key: string;
  /** After a delete only key and modRevision of it count. */
  readonly entry: Entry<Value>;
  readonly previous: Entry<Value> | undefined;
}

/** The watch needs revisions that were compacted: read the state anew and watch from its revision on. */
export class CompactedError extends RpcError {
  /** The oldest revision that can still be watched. */
  readonly compactRevision: number;

  constructor(compactRevision: number) {
    super("outOfRange", `compacted up to revision ${compactRevision}`, { code: "compacted" });
    this.compactRevision = compactRevision;
  }
}

const RETRY_MILLISECONDS = 100;
const WATCH_ENDED = "the watch was ended";

export class Watch<Value> implements AsyncIterable<WatchEvent<Value>> {
  /** The revision from which on nothing is missed; resolves once the peer has taken the watch. */
  readonly ready: Promise<number>;
  readonly #caller: Caller;
  readonly #view: View<Value>;
  readonly #range: KeyRange;
  readonly #options: WatchOptions;
  #queue: LinkEvent[] = [];
  #queuedBytes = 0;
  /** The first revision not shown yet; 0: whatever comes after the create. */
  #next: number;
  #handle: WatchHandle | undefined;
  #opening = false;
  #ended = false;
  #error: RpcError | undefined;
  #wake: (() => void) | undefined;
  readonly #abort = (): void => this.close();
  #settleReady: (outcome: number | RpcError) => void = () => undefined;

  constructor(caller: Caller, view: View<Value>, range: KeyRange, options: WatchOptions) {
    this.#caller = caller;
    this.#view = view;
    this.#range = range;
    this.#options = options;
    this.#next = options.fromRevision ?? 0;
    this.ready = new Promise((resolve, reject) => {
      this.#settleReady = (outcome) =>
        typeof outcome === "number" ? resolve(outcome) : reject(outcome);
    });
    // Whoever doesn't wait for it hears of the failure from the iterator.
    this.ready.catch(() => undefined);
    const { signal } = options;
    if (signal?.aborted === true) {
      this.close();
      return;
    }
    signal?.addEventListener("abort", this.#abort, { once: true });
    void this.#open();
  }

  /** Ends the watch: the iterator is done after what has arrived. */
  close(): void {
    this.#end(undefined);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WatchEvent<Value>, void, void> {
    try {
      for (;;) {
        const events = this.#queue;
        this.#queue = [];
        this.#queuedBytes = 0;
        for (const event of events) yield this.#eventOf(event);
        if (this.#queue.length > 0) continue;
        if (this.#ended) {
          if (this.#error !== undefined) throw this.#error;
          return;
        }
        if (this.#handle === undefined) void this.#open();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.close();
    }
  }

  #eventOf(event: LinkEvent): WatchEvent<Value> {
    const { space, codec } = this.#view;
    const entry = new Entry(event.kv, space, codec);
    return {
      type: event.type,
      revision: event.kv.modRevision,
      key: entry.key,
      entry,
      previous: event.previous === undefined ? undefined : new Entry(event.previous, space, codec),
    };
  }

  /** Opens the watch at the peer where it left off, again and again until it holds or can't. */
  async #open(): Promise<void> {
    if (this.#opening || this.#ended || this.#handle !== undefined) return;
    this.#opening = true;
    try {
      while (!this.#ended) {
        try {
          let over = false;
          const handle = await this.#caller.watch(this.#create(), {
            response: (response) => this.#take(response),
            end: (error) => {
              over = true;
              this.#lost(error);
            },
          });
          // The watch may have ended while it was opened.
          if (this.#ended) handle.close();
          else if (!over) this.#handle = handle;
          return;
        } catch (error) {
          if (!mayRepeat(error)) throw error;
          await pause(RETRY_MILLISECONDS * (1 + Math.random()), this.#options.signal);
        }
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      this.#end(error instanceof RpcError ? error : new RpcError("internal", text));
    } finally {
      this.#opening = false;
    }
  }

  #create(): Parameters<Caller["watch"]>[0] {
    return {
      ...this.#range,
      startRevision: this.#next,
      progressNotify: true,
      noPut: this.#options.only === "delete",
      noDelete: this.#options.only === "put",
      previousKv: this.#options.previous ?? false,
      watchId: 0n,
      fragment: false,
    };
  }

  #take(response: LinkWatchResponse): void {
    if (this.#ended) return;
    if (response.canceled) {
      if (response.compactRevision > 0) this.#end(new CompactedError(response.compactRevision));
      else this.#end(new RpcError("canceled", response.cancelReason || WATCH_ENDED));
      return;
    }
    if (response.created) {
      // From here on nothing is missed: a link that breaks before the first event must not lose any.
      if (this.#next === 0) this.#next = response.header.revision + 1;
      // After the rest of the batch: a start that was compacted is told right behind this.
      queueMicrotask(() => this.#settleReady(this.#next));
      return;
    }
    const last = response.events.at(-1);
    if (last === undefined) {
      // Progress: everything up to the header's revision was shown.
      this.#next = Math.max(this.#next, response.header.revision + 1);
      return;
    }
    for (const event of response.events) {
      this.#queue.push(event);
      this.#queuedBytes += event.kv.key.length + event.kv.value.length + 64;
    }
    this.#next = last.kv.modRevision + 1;
    if (this.#queuedBytes > (this.#options.bufferBytesMax ?? LIMITS.clientWatchBytesMax))
      this.#rest();
    this.#awaken();
  }

  /** The reader lags: nothing more is asked for until it has caught up; then the watch resumes at `#next`. */
  #rest(): void {
    this.#handle?.close();
    this.#handle = undefined;
  }

  #lost(error: RpcError): void {
    this.#handle = undefined;
    if (this.#ended) return;
    if (mayRepeat(error)) {
      void this.#resume();
    } else {
      this.#end(error);
    }
  }

  /** A reader that lags resumes by itself, once it has caught up. */
  async #resume(): Promise<void> {
    await pause(RETRY_MILLISECONDS * Math.random(), this.#options.signal);
    if (this.#queuedBytes === 0) await this.#open();
  }

  #end(error: RpcError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#handle?.close();
    this.#handle = undefined;
    this.#settleReady(error ?? new RpcError("canceled", WATCH_ENDED));
    this.#awaken();
  }

  #awaken(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
