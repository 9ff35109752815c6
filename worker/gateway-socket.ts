/**
 * etcd's JSON gateway over WebSocket, by the rules of the peers' own
 * (`node-runner/http/gateway-websocket.ts`): frames are passed both ways as they are, on one
 * connection to a peer for each client. The peer is found before the client's upgrade is answered,
 * so that no peer in reach is a plain 503, and what a client sends is sent once. When either side
 * ends, so does the other: who watches begins anew where it was.
 */
import { RpcError } from "../shared/api/errors.ts";
import { forwardedAuthorization, socketToken } from "./access.ts";
import type { EdgeConfig } from "./config.ts";
import type { Exchange } from "./exchange.ts";
import { metadataOf } from "./gateway.ts";
import { HttpError } from "./problem.ts";
import { workerd } from "./workerd.ts";
import type { ServerSocket, UpgradeAnswer } from "./workerd.ts";

/** Codes that say that none came: they may not be sent on. */
const UNSENDABLE_CODES: ReadonlySet<number> = new Set([1004, 1005, 1006, 1015]);

export async function upgradeGateway({ request, config }: Exchange): Promise<Response> {
  if (workerd.WebSocketPair === undefined) {
    throw new HttpError(501, "this runtime has no WebSockets for the edge: ask a peer's gateway");
  }
  const peer = await openAtPeer(request, config);
  const { 0: client, 1: server } = new workerd.WebSocketPair();
  server.accept();
  peer.accept();
  relay(server, peer);
  relay(peer, server);
  // A subprotocol that carries the secret is answered by its name alone, as browsers demand.
  const headers = new Headers();
  if (socketToken(request) !== undefined) headers.set("sec-websocket-protocol", "Bearer");
  return new Response(null, { status: 101, headers, webSocket: client } as ResponseInit);
}

/** Frames of one side to the other, until either ends. */
function relay(from: ServerSocket, to: ServerSocket): void {
  from.binaryType = "arraybuffer";
  from.addEventListener("message", ({ data }) => {
    to.send(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
  });
  from.addEventListener("close", ({ code, reason }) => {
    to.close(code === undefined || UNSENDABLE_CODES.has(code) ? 1000 : code, reason ?? "");
  });
  from.addEventListener("error", () => to.close(1012, "the other side broke"));
}

/** The first peer that takes the upgrade; nothing was sent to the others. */
async function openAtPeer(request: Request, config: EdgeConfig): Promise<ServerSocket> {
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
        headers: upgradeHeaders(request, config),
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

function upgradeHeaders(request: Request, config: EdgeConfig): Record<string, string> {
  const headers: Record<string, string> = { upgrade: "websocket", ...metadataOf(request) };
  const authorization = forwardedAuthorization(request, config);
  if (authorization !== undefined) headers["authorization"] = authorization;
  if (config.secret !== undefined) headers["x-quorate-secret"] = config.secret;
  return headers;
}
