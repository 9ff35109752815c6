/**
 * Who may call. With a configured secret: who shows it. Without: loopback alone, by the address
 * that Cloudflare (or local workerd) names and by the host of the URL, so that neither a
 * deployment by mistake nor a page that rebinds its DNS name gets in. In both cases a browser's
 * page needs an origin that is the edge's own or listed: CORS does not cover WebSocket, and simple
 * POSTs are sent before anybody is asked.
 */
import type { EdgeConfig } from "./config.ts";
import { HttpError } from "./problem.ts";

/** Throws `HttpError` unless the request may be served. */
export function checkAccess(request: Request, config: EdgeConfig): void {
  checkOrigin(request, config);
  if (config.secret === undefined) {
    checkLoopback(request);
  } else if (!isLinkUpgrade(request) && !sameSecret(shownBy(request), config.secret)) {
    throw new HttpError(401, "show the edge's secret: Authorization: Bearer <secret>", {
      "www-authenticate": "Bearer",
    });
  }
}

/**
 * Browsers can't add headers to a WebSocket: its secret comes in the link's hello, and is checked
 * there.
 */
function isLinkUpgrade(request: Request): boolean {
  return (
    request.headers.get("upgrade")?.toLowerCase() === "websocket" &&
    new URL(request.url).pathname === "/link"
  );
}

function shownBy(request: Request): string {
  const own = request.headers.get("x-quorate-secret") ?? socketToken(request);
  if (own !== undefined) return own;
  return (request.headers.get("authorization") ?? "").replace(/^Bearer /i, "");
}

/**
 * Where etcd's gateway looks for a token of browsers' WebSockets: behind `Bearer` among the
 * subprotocols.
 */
export function socketToken(request: Request): string | undefined {
  const protocols = request.headers.get("sec-websocket-protocol") ?? "";
  return /^Bearer, *(\S+)$/.exec(protocols)?.[1];
}

function checkLoopback(request: Request): void {
  const { hostname } = new URL(request.url);
  const address = request.headers.get("cf-connecting-ip");
  if (isLoopback(hostname) && (address === null || isLoopback(address))) return;
  const text = "without a configured secret the edge serves loopback only: set QUORATE_SECRET";
  throw new HttpError(403, text);
}

function isLoopback(host: string): boolean {
  return host === "localhost" || /^\[?::1\]?$/.test(host) || /^127(\.\d{1,3}){3}$/.test(host);
}

function checkOrigin(request: Request, config: EdgeConfig): void {
  const origin = request.headers.get("origin");
  if (origin === null || config.origins.includes(origin)) return;
  if (origin === new URL(request.url).origin) return;
  throw new HttpError(403, `origin ${origin} is not allowed: list it in QUORATE_ORIGINS`);
}

/** Compares in a time that depends on lengths alone. */
export function sameSecret(shown: string, secret: string): boolean {
  const encoder = new TextEncoder();
  const [a, b] = [encoder.encode(shown), encoder.encode(secret)];
  let difference = a.length ^ b.length;
  for (let position = 0; position < b.length; position += 1) {
    difference |= (a[position % Math.max(1, a.length)] ?? 0) ^ (b[position] ?? 0);
  }
  return difference === 0;
}

/** The secret is the edge's: etcd's own token, if any, goes on to the peers. */
export function forwardedAuthorization(request: Request, config: EdgeConfig): string | undefined {
  const value = request.headers.get("authorization");
  if (value === null) return undefined;
  const own = config.secret !== undefined && value.replace(/^Bearer /i, "") === config.secret;
  return own ? undefined : value;
}
