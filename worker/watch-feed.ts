/**
 * A watch as messages for readers over HTTP, whatever carries them. `id` is "<revision>.<position>":
 * the position counts the matching events of that revision, so that a reader resumes in the middle
 * of one. Events: `ready` (from here on nothing is missed), `put`, `delete`, `compacted` (history
 * was given up: read the state anew; the feed goes on from the oldest revision left) and `error`
 * (problem JSON; nothing follows).
 */
import { RpcError } from "../shared/api/errors.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { CompactedError } from "../shared/client/watch.ts";
import type { Watch, WatchEvent } from "../shared/client/watch.ts";
import { checkExpiry } from "./auth/grant.ts";
import type { Grant } from "./auth/grant.ts";
import { jsonBytes } from "./encoding.ts";
import type { Encoding } from "./encoding.ts";
import { entryJson } from "./kv-routes.ts";
import { HttpError, problemOf } from "./problem.ts";

/** Where a reader is. */
export interface Position {
  readonly revision: number;
  /** Matching events of that revision that were delivered. */
  readonly delivered: number;
}

export function positionOf(text: string): Position {
  const match = /^(\d{1,16})\.(\d{1,9})$/.exec(text);
  if (match === null || Number(match[1]) < 1) {
    throw new HttpError(400, "Last-Event-ID is <revision>.<position>, as this edge sends them");
  }
  return { revision: Number(match[1]), delivered: Number(match[2]) };
}

export interface Message {
  readonly event: "ready" | "put" | "delete" | "compacted" | "error";
  readonly data: object;
  readonly id?: string;
  /** What a put or delete tells of, for carriers that need no JSON. */
  readonly change?: WatchEvent<Bytes>;
}

export interface FeedOptions {
  readonly encoding: Encoding;
  readonly start: Position | undefined;
  /** The reader's: when it expires the feed ends. */
  readonly grant: Grant | undefined;
  /** Hears of each event that leaves the watch. */
  readonly taken?: (event: WatchEvent<Bytes>) => void;
}

export class WatchFeed {
  readonly #open: (from: number | undefined) => Watch<Bytes>;
  readonly #encoding: Encoding;
  readonly #grant: Grant | undefined;
  readonly #taken: FeedOptions["taken"];
  #watch: Watch<Bytes>;
  #events: AsyncIterator<WatchEvent<Bytes>>;
  #revision: number;
  #delivered: number;
  /** Events of `#revision` that were delivered before this feed: passed over. */
  #skip: number;
  #opening: Message | undefined;

  /** `open` watches from a revision, or from now on. */
  constructor(open: (from: number | undefined) => Watch<Bytes>, options: FeedOptions) {
    const { start } = options;
    this.#open = open;
    this.#watch = open(start?.revision);
    this.#events = this.#watch[Symbol.asyncIterator]();
    this.#encoding = options.encoding;
    this.#grant = options.grant;
    this.#taken = options.taken;
    this.#revision = start?.revision ?? 0;
    this.#skip = start?.delivered ?? 0;
    this.#delivered = this.#skip;
  }

  /**
   * Waits until the peer has taken the watch: what fails until then is an answer of its own, not an
   * event.
   */
  async begin(timeoutMilliseconds: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const text = "no peer took the watch in time: try again";
        reject(new RpcError("unavailable", text));
      }, timeoutMilliseconds);
    });
    try {
      const revision = await Promise.race([this.#watch.ready, late]);
      if (this.#revision === 0) this.#revision = revision;
      const data = { revision: this.#revision };
      this.#opening = { event: "ready", data, id: `${this.#revision}.${this.#delivered}` };
    } catch (error) {
      if (!(error instanceof CompactedError)) throw error;
    } finally {
      if (timer !== undefined) clearTimeout(timer);
    }
  }

  close(): void {
    this.#watch.close();
  }

  /** Throws 401 once the reader's token has expired. */
  checkExpiry(): void {
    if (this.#grant !== undefined) checkExpiry(this.#grant, Date.now());
  }

  /** The last message of a reader whose token has expired. */
  expired(): Message | undefined {
    try {
      this.checkExpiry();
      return undefined;
    } catch (error) {
      return { event: "error", data: problemOf(error) };
    }
  }

  /** Where the feed is; undefined before `begin`, or when its start was compacted. */
  get id(): string | undefined {
    return this.#revision === 0 ? undefined : `${this.#revision}.${this.#delivered}`;
  }

  /** The next message; undefined once the feed was closed. */
  async next(): Promise<Message | undefined> {
    if (this.#opening !== undefined) {
      const opening = this.#opening;
      this.#opening = undefined;
      return opening;
    }
    try {
      for (;;) {
        const next = await this.#events.next();
        if (next.done === true) return undefined;
        this.#taken?.(next.value);
        this.checkExpiry();
        const message = this.#messageOf(next.value);
        if (message !== undefined) return message;
      }
    } catch (error) {
      if (error instanceof CompactedError) return this.#compacted(error.compactRevision);
      return { event: "error", data: problemOf(error) };
    }
  }

  #messageOf(event: WatchEvent<Bytes>): Message | undefined {
    if (event.revision !== this.#revision) {
      this.#revision = event.revision;
      this.#delivered = 0;
      this.#skip = 0;
    }
    if (this.#skip > 0) {
      this.#skip -= 1;
      return undefined;
    }
    this.#delivered += 1;
    const { type, revision, entry, previous } = event;
    const changed =
      type === "put"
        ? entryJson(entry, this.#encoding)
        : { ...jsonBytes("key", entry.keyBytes, this.#encoding), modRevision: revision };
    const before = previous === undefined ? {} : { previous: entryJson(previous, this.#encoding) };
    const id = `${revision}.${this.#delivered}`;
    return { event: type, data: { revision, ...changed, ...before }, id, change: event };
  }

  /** The reader is told what it has missed, and the stream goes on with what is left. */
  #compacted(compactRevision: number): Message {
    this.#watch = this.#open(compactRevision);
    this.#events = this.#watch[Symbol.asyncIterator]();
    this.#revision = compactRevision;
    this.#delivered = 0;
    this.#skip = 0;
    return { event: "compacted", data: { compactRevision }, id: `${compactRevision}.0` };
  }
}
