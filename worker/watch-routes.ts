/**
 * GET /watch: changes as server-sent events. `id` is "<revision>.<position>": the position counts
 * the matching events of that revision, so that `Last-Event-ID` resumes in the middle of one.
 * Events: `ready` (from here on nothing is missed), `put`, `delete`, `compacted` (history was
 * given up: read the state anew; the stream goes on from the oldest revision left) and `error`
 * (problem JSON; the stream ends). Comments keep it open while nothing happens.
 */
import { RpcError } from "../shared/api/errors.ts";
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { CompactedError } from "../shared/client/watch.ts";
import type { Watch, WatchEvent } from "../shared/client/watch.ts";
import type { Exchange } from "./exchange.ts";
import { jsonBytes } from "./encoding.ts";
import type { Encoding } from "./encoding.ts";
import { entryJson } from "./kv-routes.ts";
import { Params } from "./params.ts";
import { HttpError, problemResponse } from "./problem.ts";
import { storeOver } from "./upstream.ts";

interface Position {
  readonly revision: number;
  /** Matching events of that revision that were delivered. */
  readonly delivered: number;
}

export async function watchKeys({ request, upstream, config }: Exchange): Promise<Response> {
  const params = new Params(request.url, [
    "key",
    "prefix",
    "from",
    "to",
    "all",
    "revision",
    "previous",
    "only",
    "lastEventId",
  ]);
  const key = params.key(undefined);
  const selector = key ?? params.range();
  if (selector === undefined || (key !== undefined && params.range() !== undefined)) {
    throw new HttpError(400, "name what to watch: key=, prefix=, from= (with to=) or all");
  }
  const lastEventId = request.headers.get("last-event-id") ?? params.text("lastEventId");
  const resumed =
    lastEventId === undefined || lastEventId === "" ? undefined : positionOf(lastEventId);
  const revision = params.count("revision");
  if (revision === 0) throw new HttpError(400, "revision is 1 or more, or left out");
  const start = resumed ?? (revision === undefined ? undefined : { revision, delivered: 0 });
  const store = storeOver(upstream);
  const open = (from: number | undefined): Watch<Bytes> =>
    store.watch(selector, {
      fromRevision: from,
      previous: params.flag("previous"),
      only: params.oneOf("only", ["put", "delete"]),
    });
  const first = open(start?.revision);
  const stream = new EventStream(open, first, { encoding: params.encoding, start });
  try {
    await stream.begin(params.timeoutMilliseconds ?? config.timeoutMilliseconds);
  } catch (error) {
    first.close();
    throw error;
  }
  return new Response(
    stream.body(() => upstream.close()),
    {
      headers: {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        // Some proxies gather a response before they pass it on, unless told otherwise.
        "x-accel-buffering": "no",
      },
    },
  );
}

function positionOf(text: string): Position {
  const match = /^(\d{1,16})\.(\d{1,9})$/.exec(text);
  if (match === null || Number(match[1]) < 1) {
    throw new HttpError(400, "Last-Event-ID is <revision>.<position>, as this edge sends them");
  }
  return { revision: Number(match[1]), delivered: Number(match[2]) };
}

type Message = { event: string; data: object; id?: string };

class EventStream {
  readonly #open: (from: number | undefined) => Watch<Bytes>;
  readonly #encoding: Encoding;
  readonly #encoder = new TextEncoder();
  #watch: Watch<Bytes>;
  #events: AsyncIterator<WatchEvent<Bytes>>;
  /** Where the reader is. */
  #revision: number;
  #delivered: number;
  /** Events of `#revision` that were delivered before this stream: passed over. */
  #skip: number;
  #opening: Message | undefined;
  #ended = false;

  constructor(
    open: (from: number | undefined) => Watch<Bytes>,
    watch: Watch<Bytes>,
    options: { encoding: Encoding; start: Position | undefined },
  ) {
    this.#open = open;
    this.#watch = watch;
    this.#events = watch[Symbol.asyncIterator]();
    this.#encoding = options.encoding;
    this.#revision = options.start?.revision ?? 0;
    this.#skip = options.start?.delivered ?? 0;
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
      const id = `${this.#revision}.${this.#delivered}`;
      this.#opening = { event: "ready", data: { revision: this.#revision }, id };
    } catch (error) {
      if (!(error instanceof CompactedError)) throw error;
    } finally {
      if (timer !== undefined) clearTimeout(timer);
    }
  }

  body(onEnd: () => void): ReadableStream<Uint8Array> {
    let keepalive: ReturnType<typeof setInterval> | undefined;
    const finish = (): void => {
      this.#ended = true;
      if (keepalive !== undefined) clearInterval(keepalive);
      this.#watch.close();
      onEnd();
    };
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(this.#encoder.encode("retry: 1000\n\n"));
        keepalive = setInterval(() => {
          // A reader that lags has bytes to come: it needs no sign of life.
          if ((controller.desiredSize ?? 0) > 0) {
            controller.enqueue(this.#encoder.encode(": keepalive\n\n"));
          }
        }, LIMITS.edgeKeepaliveMilliseconds);
      },
      pull: async (controller) => {
        const message = await this.#next();
        if (this.#ended) return;
        if (message !== undefined) {
          const id = message.id === undefined ? "" : `id: ${message.id}\n`;
          const data = JSON.stringify(message.data);
          const text = `event: ${message.event}\n${id}data: ${data}\n\n`;
          controller.enqueue(this.#encoder.encode(text));
          if (message.event !== "error") return;
        }
        controller.close();
        finish();
      },
      cancel: finish,
    });
  }

  async #next(): Promise<Message | undefined> {
    if (this.#opening !== undefined) {
      const opening = this.#opening;
      this.#opening = undefined;
      return opening;
    }
    try {
      for (;;) {
        const next = await this.#events.next();
        if (next.done === true) return undefined;
        const message = this.#messageOf(next.value);
        if (message !== undefined) return message;
      }
    } catch (error) {
      if (error instanceof CompactedError) return this.#compacted(error.compactRevision);
      const data: unknown = await problemResponse(error).json();
      return { event: "error", data: data as object };
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
    return { event: type, data: { revision, ...changed, ...before }, id };
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
