/**
 * A watch as another Worker of the account holds it over RPC: it asks for what has happened, and
 * gets it in batches. What it doesn't ask for rests at the peer, within the bounds of all readers.
 * Letting go of it (`using`, or the end of the caller's request) ends it.
 */
import { RpcTarget } from "cloudflare:workers";
import { LIMITS } from "../shared/base/limits.ts";
import { tooSlow } from "./readers.ts";
import { storedEvent } from "./stored.ts";
import type { StoredEvent } from "./stored.ts";
import type { CarrierParts } from "./watch-carrier.ts";
import type { Message } from "./watch-feed.ts";

export class StoreWatch extends RpcTarget {
  #parts: CarrierParts | undefined;
  readonly #look: ReturnType<typeof setInterval>;
  #waiting: StoredEvent[] = [];
  #waitingBytes = 0;
  /** What ended it; thrown once all that came before was taken. */
  #failure: Error | undefined;
  #changed = Promise.withResolvers<undefined>();

  /** Its reader is too slow: nothing of what waits for it is kept. Not a method, so RPC has it not. */
  static readonly end = (watch: StoreWatch): void => {
    watch.#waiting = [];
    watch.#waitingBytes = 0;
    watch.#failure = tooSlow();
    watch.#finish();
  };

  constructor(parts: CarrierParts) {
    super();
    this.#parts = parts;
    this.#look = setInterval(() => parts.reader.check(), parts.stallMilliseconds);
    void this.#run(parts);
  }

  /** One event at least, as soon as there is one; none once it was closed. Throws what ended it. */
  async next(): Promise<StoredEvent[]> {
    while (this.#waiting.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#parts === undefined) return [];
      await this.#changed.promise;
    }
    const events = this.#waiting;
    this.#parts?.reader.took(this.#waitingBytes);
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#change();
    return events;
  }

  [Symbol.dispose](): void {
    this.#finish();
  }

  async #run({ feed, reader }: CarrierParts): Promise<void> {
    while (this.#parts !== undefined) {
      const message = await feed.next();
      if (this.#parts === undefined) return;
      if (message === undefined) return this.#finish();
      const { event } = message;
      if (event === "error") {
        this.#failure = errorOf(message);
        return this.#finish();
      }
      const bytes = sizeOf(message);
      this.#waiting.push(storedEvent(event, message));
      this.#waitingBytes += bytes;
      this.#change();
      reader.hold(bytes);
      while (this.#waitingBytes > LIMITS.edgeWatchBytesMax && this.#parts !== undefined) {
        await this.#changed.promise;
      }
    }
  }

  /** Whoever waits looks again. */
  #change(): void {
    this.#changed.resolve(undefined);
    this.#changed = Promise.withResolvers<undefined>();
  }

  #finish(): void {
    const parts = this.#parts;
    if (parts === undefined) return;
    this.#parts = undefined;
    clearInterval(this.#look);
    parts.close();
    parts.reader.leave();
    this.#change();
  }
}

/** RPC carries an error's message alone: etcd's text. */
function errorOf({ data }: Message): Error {
  const { title } = data as { readonly title?: string };
  return new Error(title ?? "the watch ended");
}

function sizeOf({ change }: Message): number {
  if (change === undefined) return 1;
  const before = change.previous === undefined ? 0 : change.previous.bytes.length;
  return change.entry.keyBytes.length + change.entry.bytes.length + before + 1;
}
