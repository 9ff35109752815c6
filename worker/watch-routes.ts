/**
 * GET /watch: changes of keys as `watch-feed.ts` has them, as server-sent events, or as JSON
 * messages over a WebSocket where one is asked for. Both are resumed by the id of the last event
 * (`Last-Event-ID`, `lastEventId=`).
 *
 * Server-sent events: comments keep the stream open while nothing happens. A reader that is slow
 * is not read ahead for: its watch rests at the peer.
 *
 * WebSocket: each message is { "event", "id", "data" }. A runtime doesn't tell how much of what was
 * sent has left, so the reader does: now and then comes { "event": "sync", "id": "<id>" }, to be
 * answered by the id as text; without the answer the feed rests. { "event": "keepalive" } comes
 * while nothing happens.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { Watch } from "../shared/client/watch.ts";
import { socketToken } from "./access.ts";
import type { Exchange } from "./exchange.ts";
import { Params } from "./params.ts";
import { HttpError, problemResponse } from "./problem.ts";
import { storeOver } from "./upstream.ts";
import { WatchFeed, positionOf } from "./watch-feed.ts";
import type { Message } from "./watch-feed.ts";
import { workerd } from "./workerd.ts";
import type { ServerSocket } from "./workerd.ts";

export async function watchKeys(exchange: Exchange): Promise<Response> {
  const { request, upstream, config, grant, parameters } = exchange;
  const params = new Params(request.url, parameters);
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
      bufferBytesMax: LIMITS.edgeWatchBytesMax,
    });
  const feed = new WatchFeed(open, { encoding: params.encoding, start, grant });
  try {
    await feed.begin(params.timeoutMilliseconds ?? config.timeoutMilliseconds);
  } catch (error) {
    feed.close();
    throw error;
  }
  const end = (): void => {
    feed.close();
    upstream.close();
  };
  const upgrades = request.headers.get("upgrade")?.toLowerCase() === "websocket";
  return upgrades ? overSocket(feed, end, request) : overEvents(feed, end);
}

function overEvents(feed: WatchFeed, end: () => void): Response {
  return new Response(eventStream(feed, end), {
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      // Some proxies gather a response before they pass it on, unless told otherwise.
      "x-accel-buffering": "no",
    },
  });
}

/** Pulled by its reader: what isn't read stays in the watch, whose buffer is bounded. */
function eventStream(feed: WatchFeed, end: () => void): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let keepalive: ReturnType<typeof setInterval> | undefined;
  let ended = false;
  const finish = (): void => {
    ended = true;
    if (keepalive !== undefined) clearInterval(keepalive);
    end();
  };
  return new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(encoder.encode("retry: 1000\n\n"));
      keepalive = setInterval(() => {
        void expired(feed).then((message) => {
          if (ended) return;
          if (message !== undefined) {
            controller.enqueue(encoder.encode(eventText(message)));
            controller.close();
            finish();
          } else if ((controller.desiredSize ?? 0) > 0) {
            // A reader that lags has bytes to come: it needs no sign of life.
            controller.enqueue(encoder.encode(": keepalive\n\n"));
          }
        });
      }, LIMITS.edgeKeepaliveMilliseconds);
    },
    pull: async (controller) => {
      const message = await feed.next();
      if (ended) return;
      if (message !== undefined) {
        controller.enqueue(encoder.encode(eventText(message)));
        if (message.event !== "error") return;
      }
      controller.close();
      finish();
    },
    cancel: finish,
  });
}

function eventText({ event, id, data }: Message): string {
  return `event: ${event}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
}

/** The last message of a reader whose token has expired. */
async function expired(feed: WatchFeed): Promise<Message | undefined> {
  try {
    feed.checkExpiry();
    return undefined;
  } catch (error) {
    const data: unknown = await problemResponse(error).json();
    return { event: "error", data: data as object };
  }
}

function overSocket(feed: WatchFeed, end: () => void, request: Request): Response {
  if (workerd.WebSocketPair === undefined) {
    end();
    throw new HttpError(501, "this runtime has no WebSockets for the edge: read events instead");
  }
  const { 0: client, 1: server } = new workerd.WebSocketPair();
  server.accept();
  void new SocketFeed(feed, server, end).run();
  const headers = new Headers();
  if (socketToken(request) !== undefined) headers.set("sec-websocket-protocol", "Bearer");
  return new Response(null, { status: 101, headers, webSocket: client } as ResponseInit);
}

/** A feed into a WebSocket, at most so many bytes ahead of its reader. */
class SocketFeed {
  readonly #feed: WatchFeed;
  readonly #socket: ServerSocket;
  readonly #end: () => void;
  readonly #keepalive: ReturnType<typeof setInterval>;
  #ended = false;
  /** Bytes since the last sync, and syncs that the reader has yet to answer. */
  #sinceSync = 0;
  #unanswered = new Set<string>();
  #wake: (() => void) | undefined;

  constructor(feed: WatchFeed, socket: ServerSocket, end: () => void) {
    this.#feed = feed;
    this.#socket = socket;
    this.#end = end;
    socket.addEventListener("message", ({ data }) => {
      this.#unanswered.delete(String(data));
      this.#wake?.();
    });
    socket.addEventListener("close", () => this.#finish(1000, ""));
    socket.addEventListener("error", () => this.#finish(1011, ""));
    this.#keepalive = setInterval(() => {
      void expired(feed).then((message) => {
        if (message === undefined) this.#send({ event: "keepalive" });
        else this.#fail(message);
      });
    }, LIMITS.edgeKeepaliveMilliseconds);
  }

  async run(): Promise<void> {
    while (!this.#ended) {
      const message = await this.#feed.next();
      if (message === undefined) return this.#finish(1000, "");
      if (message.event === "error") return this.#fail(message);
      this.#send(message);
      if (this.#sinceSync >= LIMITS.edgeWatchBytesMax && message.id !== undefined) {
        this.#sinceSync = 0;
        this.#unanswered.add(message.id);
        this.#send({ event: "sync", id: message.id });
      }
      while (this.#unanswered.size >= SYNCS_MAX && !this.#ended) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #send(message: object): void {
    if (this.#ended) return;
    const text = JSON.stringify(message);
    this.#sinceSync += text.length;
    this.#socket.send(text);
  }

  #fail(message: Message): void {
    this.#send(message);
    this.#finish(1008, "the watch ended: see its last message");
  }

  #finish(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#keepalive);
    this.#socket.close(code, reason);
    this.#end();
    this.#wake?.();
  }
}

/** Syncs that may be unanswered before the feed rests. */
const SYNCS_MAX = 2;
