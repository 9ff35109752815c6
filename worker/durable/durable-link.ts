/**
 * The link at a peer in a Durable Object: `/link` by WebSocket or POST. Only the Worker beside it can
 * call here, and it has let its caller in.
 */
import { LIMITS } from "../../shared/base/limits.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { exchangeLink } from "../../shared/peer/link-exchange.ts";
import { serveLink } from "../../shared/peer/link-service.ts";
import { WireError } from "../../shared/wire/cbor.ts";
import { joinBatches } from "../../shared/wire/link-codec.ts";
import { readBody } from "../params.ts";
import { HttpError, problemResponse } from "../problem.ts";
import { workerd } from "../workerd.ts";
import type { LinkRoom, RoomLink } from "./link-room.ts";
import type { ServerSocket } from "../workerd.ts";
import type { Services } from "../../shared/peer/services.ts";
import type { Fence } from "./fence.ts";

/** Whose link it is: a peer's, or a replica's. */
export interface LinkNode {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly peer: { readonly services: Services };
  readonly fence: Pick<Fence, "pass">;
}

/** How often a link that reads slowly is looked at again. */
const SLOW_LOOK_MILLISECONDS = 50;

/** `room`: of all links of the object. */
export async function serveDurableLink(
  node: LinkNode,
  request: Request,
  room: LinkRoom,
): Promise<Response> {
  try {
    if (!new URL(request.url).pathname.endsWith("/link")) {
      throw new HttpError(
        501,
        "a peer in a Durable Object serves the link alone: etcd's gateway needs a Node peer",
      );
    }
    if (request.headers.get("upgrade")?.toLowerCase() === "websocket") return upgrade(node, room);
    return await exchange(node, await readBody(request, LIMITS.frameBytesMax));
  } catch (error) {
    return problemResponse(error);
  }
}

const optionsOf = ({ clusterId, memberId }: LinkNode) => ({
  clusterId,
  memberId,
  accepts: () => true,
});

const defer = (callback: () => void): void => void setTimeout(callback, 0);

async function exchange(node: LinkNode, body: Bytes): Promise<Response> {
  const options = { ...optionsOf(node), defer };
  try {
    const batches = await exchangeLink(node.peer.services, body, options).answer;
    node.fence.pass();
    const headers = { "content-type": "application/cbor", "cache-control": "no-store" };
    return new Response(joinBatches(batches), { headers });
  } catch (error) {
    if (error instanceof WireError) throw new HttpError(400, error.message);
    throw error;
  }
}

function upgrade(node: LinkNode, room: LinkRoom): Response {
  if (workerd.WebSocketPair === undefined) throw new HttpError(501, "no WebSockets here");
  const { 0: client, 1: server } = new workerd.WebSocketPair();
  serveSocket(node, server, room);
  return new Response(null, { status: 101, webSocket: client } as ResponseInit);
}

/** A link on this side of a pair of sockets, until either side closes it. */
export function serveSocket(node: LinkNode, server: ServerSocket, room: LinkRoom): void {
  const unsent = (): number => server.bufferedAmount ?? 0;
  server.binaryType = "arraybuffer";
  server.accept();
  let queuedBytes = 0;
  let isFull = false;
  let isOpen = true;
  const close = (code: number, reason: string): void => {
    if (!isOpen) return;
    isOpen = false;
    room.leave(link);
    server.close(code, reason);
    // What is delivered to its watches now goes on until its end.
    defer(() => session.closed());
  };
  const closed = (): void => {
    isOpen = false;
    room.leave(link);
    session.closed();
  };
  const look = (): void => {
    if (!isOpen) return;
    if (unsent() > LIMITS.linkUnsentBytesSlow / 2) {
      setTimeout(look, SLOW_LOOK_MILLISECONDS);
      return;
    }
    isFull = false;
    session.drained();
  };
  const session = serveLink(
    node.peer.services,
    {
      send(batch) {
        // A socket throws at whoever sends after it was closed: that may be the one who applies.
        if (!isOpen) return false;
        node.fence.pass();
        queuedBytes = 0;
        server.send(batch);
        if (unsent() > LIMITS.linkUnsentBytesMax) close(1013, "reads too slowly");
        if (!isFull && unsent() > LIMITS.linkUnsentBytesSlow) {
          isFull = true;
          setTimeout(look, SLOW_LOOK_MILLISECONDS);
        }
        return !isFull;
      },
      queued: (bytes) => {
        queuedBytes += bytes;
        room.add(bytes);
      },
      isCrowded: () => room.isCrowdedFor(link),
      close,
      defer,
    },
    { ...optionsOf(node), push: true },
  );
  const link: RoomLink = {
    unsentBytes: () => queuedBytes + unsent(),
    // One that is full by itself is told once it has drained.
    drained: () => {
      if (!isFull) session.drained();
    },
    end: () => close(1013, "reads too slowly"),
  };
  room.enter(link);
  server.addEventListener("message", ({ data }) => {
    if (data instanceof ArrayBuffer) session.receive(new Uint8Array(data));
    else close(1003, "frames are binary");
  });
  server.addEventListener("close", closed);
  server.addEventListener("error", closed);
}
