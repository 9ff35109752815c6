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
import { socketToken } from "./access.ts";
import type { Exchange } from "./exchange.ts";
import { Params } from "./params.ts";
import { HttpError } from "./problem.ts";
import { carry } from "./watch-carrier.ts";
import type { Carried, CarrierParts } from "./watch-carrier.ts";
import { EventStream } from "./watch-events.ts";
import { positionOf } from "./watch-feed.ts";
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
  const carried: Carried = {
    config,
    upstream,
    selector,
    watch: { previous: params.flag("previous"), only: params.oneOf("only", ["put", "delete"]) },
    timeoutMilliseconds: params.timeoutMilliseconds,
    encoding: params.encoding,
    start,
    grant,
  };
  if (request.headers.get("upgrade")?.toLowerCase() === "websocket") {
    return overSocket(carried, request);
  }
  const stream = await carry(carried, {
    make: (parts) => new EventStream(parts),
    end: (slow) => slow.end(),
  });
  return overEvents(stream);
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

async function overSocket(carried: Carried, request: Request): Promise<Response> {
  let client: unknown;
  const make = (parts: CarrierParts): SocketFeed => {
    if (workerd.WebSocketPair === undefined) {
      throw new HttpError(501, "this runtime has no WebSockets for the edge: read events instead");
    }
    const pair = new workerd.WebSocketPair();
    client = pair[0];
    pair[1].accept();
    return new SocketFeed(parts, pair[1]);
  };
  const socket = await carry(carried, { make, end: (slow) => slow.end() });
  void socket.run();
  const headers = new Headers();
  if (socketToken(request) !== undefined) headers.set("sec-websocket-protocol", "Bearer");
  return new Response(null, { status: 101, headers, webSocket: client } as ResponseInit);
}
