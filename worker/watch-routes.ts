/**
 * GET /watch: changes of keys as `watch-feed.ts` has them, as server-sent events, or as JSON
 * messages over a WebSocket where one is asked for. Both are resumed by the id of the last event
 * (`Last-Event-ID`, `lastEventId=`).
 *
 * A reader that is slow is not read ahead for: its watch rests at the peer. One that takes nothing
 * at all for a minute, or whose bytes are the ones too many of the isolate (`readers.ts`), hears an
 * `error` as its last event, and resumes as after any cut.
 *
 * Server-sent events: comments keep the stream open while nothing happens.
 *
 * WebSocket, closed with 1013 when the reader is too slow: each message is { "event", "id", "data" }.
 * What is between here and the reader doesn't tell how much has left, so the reader does: now and
 * then comes { "event": "sync", "id": "<id>" }, to be answered by the id as text; without the answer
 * the feed rests. { "event": "keepalive" } comes while nothing happens.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { Watch, WatchEvent } from "../shared/client/watch.ts";
import { socketToken } from "./access.ts";
import type { Exchange } from "./exchange.ts";
import { Params } from "./params.ts";
import { HeldWatches, takenBytes } from "./held-watches.ts";
import { HttpError } from "./problem.ts";
import { tooSlow } from "./readers.ts";
import { storeOver } from "./upstream.ts";
import { EventStream } from "./watch-events.ts";
import { WatchFeed, positionOf } from "./watch-feed.ts";
import type { CarrierParts } from "./watch-feed.ts";
import { SocketFeed } from "./watch-socket.ts";
import { workerd } from "./workerd.ts";

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
  const reader = config.readers.enter(() => carrier?.end());
  const store = storeOver(new HeldWatches(upstream, reader));
  const open = (from: number | undefined): Watch<Bytes> =>
    store.watch(selector, {
      fromRevision: from,
      previous: params.flag("previous"),
      only: params.oneOf("only", ["put", "delete"]),
      bufferBytesMax: LIMITS.edgeWatchBytesMax,
    });
  const taken = (event: WatchEvent<Bytes>): void => reader.took(takenBytes(event));
  const feed = new WatchFeed(open, { encoding: params.encoding, start, grant, taken });
  let carrier: EventStream | SocketFeed | undefined;
  try {
    await feed.begin(params.timeoutMilliseconds ?? config.timeoutMilliseconds);
    // Nothing has carried it yet, so nobody was told.
    if (reader.isOver) throw tooSlow();
  } catch (error) {
    feed.close();
    reader.leave();
    throw error;
  }
  const parts: CarrierParts = {
    feed,
    reader,
    stallMilliseconds: config.readers.stallMilliseconds,
    close: () => {
      feed.close();
      upstream.close();
    },
  };
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    carrier = new EventStream(parts);
    return overEvents(carrier);
  }
  return overSocket(parts, request, (socket) => {
    carrier = socket;
  });
}

function overEvents(stream: EventStream): Response {
  return new Response(stream.body, {
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      // Some proxies gather a response before they pass it on, unless told otherwise.
      "x-accel-buffering": "no",
    },
  });
}

function overSocket(
  parts: CarrierParts,
  request: Request,
  made: (socket: SocketFeed) => void,
): Response {
  if (workerd.WebSocketPair === undefined) {
    parts.close();
    parts.reader.leave();
    throw new HttpError(501, "this runtime has no WebSockets for the edge: read events instead");
  }
  const { 0: client, 1: server } = new workerd.WebSocketPair();
  server.accept();
  const socket = new SocketFeed(parts, server);
  made(socket);
  void socket.run();
  const headers = new Headers();
  if (socketToken(request) !== undefined) headers.set("sec-websocket-protocol", "Bearer");
  return new Response(null, { status: 101, headers, webSocket: client } as ResponseInit);
}
