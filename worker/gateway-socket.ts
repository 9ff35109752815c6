/**
 * etcd's JSON gateway over WebSocket, by the rules of the peers' own
 * (`node-runner/http/gateway-websocket.ts`): frames are passed both ways as they are, on one
 * connection to a peer for each client. The peer is found before the client's upgrade is answered,
 * so that no peer in reach is a plain 503, and what a client sends is sent once. When either side
 * ends, so does the other: who watches begins anew where it was.
 */
import { RpcError, rpcError } from "../shared/api/errors.ts";
import { textOf } from "../shared/base/bytes.ts";
import { forwardedAuthorization, socketToken } from "./access.ts";
import { admitGateway } from "./auth/gateway-guard.ts";
import { checkExpiry } from "./auth/grant.ts";
import type { Grant } from "./auth/grant.ts";
import type { EdgeConfig } from "./config.ts";
import type { Exchange } from "./exchange.ts";
import { metadataOf } from "./gateway.ts";
import { HttpError } from "./problem.ts";
import { relay } from "./socket-relay.ts";
import type { Frame } from "./socket-relay.ts";
import { workerd } from "./workerd.ts";
import type { ServerSocket, UpgradeAnswer } from "./workerd.ts";

export async function upgradeGateway(exchange: Exchange): Promise<Response> {
  const { request, grant } = exchange;
  if (workerd.WebSocketPair === undefined) {
    throw new HttpError(501, "this runtime has no WebSockets for the edge: ask a peer's gateway");
  }
  const { pathname } = new URL(request.url);
  const peer = await openAtPeer(exchange);
  // A subprotocol that carries the secret is answered by its name alone, as browsers demand.
  const headers = new Headers();
  if (socketToken(request) !== undefined) headers.set("sec-websocket-protocol", "Bearer");
  if (grant?.admin === true && grant.expiresAt === Number.POSITIVE_INFINITY) {
    // Nothing is to be looked at: the runtime joins the two, and a slow client slows the peer.
    return new Response(null, { status: 101, headers, webSocket: peer } as ResponseInit);
  }
  const { 0: client, 1: server } = new workerd.WebSocketPair();
  server.accept();
  peer.accept();
  relay(server, peer, (frame) => admitted(grant, pathname, frame));
  relay(peer, server, (frame) => {
    if (grant !== undefined) checkExpiry(grant, Date.now());
    return frame;
  });
  return new Response(null, { status: 101, headers, webSocket: client } as ResponseInit);
}

/**
 * A client's frame as it may be sent on. One of a caller with some permissions only must hold a
 * whole message, since parts of one can't be checked.
 */
function admitted(grant: Grant | undefined, pathname: string, frame: Frame): Frame {
  if (grant === undefined) throw rpcError("permissionDenied");
  checkExpiry(grant, Date.now());
  if (grant.admin) return frame;
  return admitGateway(grant, pathname, typeof frame === "string" ? frame : textOf(frame));
}

/** The first peer that takes the upgrade; nothing was sent to the others. */
async function openAtPeer({ request, config, grant }: Exchange): Promise<ServerSocket> {
  const { endpoints, timeoutMilliseconds } = config;
  const { pathname } = new URL(request.url);
  const reasons: string[] = [];
  for (let attempt = 0; attempt < endpoints.count; attempt += 1) {
    const endpoint = endpoints.current;
    const peer = endpoint.replace(/^ws/, "http");
    const aborter = new AbortController();
    const timer = setTimeout(() => aborter.abort(), timeoutMilliseconds / endpoints.count);
    try {
      const answer: UpgradeAnswer = await config.platform.request(peer + pathname, {
        headers: upgradeHeaders(request, config, grant),
        signal: aborter.signal,
      });
      if (answer.webSocket !== undefined && answer.webSocket !== null) return answer.webSocket;
      await answer.body?.cancel();
      if (answer.status < 500) {
        throw new HttpError(answer.status, `the peer refused the WebSocket: ${answer.status}`);
      }
      reasons.push(`${peer}: ${answer.status}`);
    } catch (error) {
      if (error instanceof HttpError) throw error;
      reasons.push(`${peer}: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      clearTimeout(timer);
    }
    endpoints.leave(endpoint);
  }
  throw new RpcError("unavailable", `no peer can be reached: ${reasons.join("; ")}`);
}

function upgradeHeaders(
  request: Request,
  config: EdgeConfig,
  grant: Grant | undefined,
): Record<string, string> {
  const headers: Record<string, string> = { upgrade: "websocket", ...metadataOf(request, grant) };
  const authorization = forwardedAuthorization(request, config);
  if (authorization !== undefined) headers["authorization"] = authorization;
  if (config.secret !== undefined) headers["x-quorate-secret"] = config.secret;
  return headers;
}
