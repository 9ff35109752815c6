/**
 * Who may call, and do what. Who shows the configured secret: everything. Who shows a token signed
 * by a configured key: what the token says. With neither configured: loopback alone, by the address
 * that Cloudflare (or local workerd) names and by the host of the URL, so that neither a
 * deployment by mistake nor a page that rebinds its DNS name gets in. In all cases a browser's
 * page needs an origin that is the edge's own or listed: CORS does not cover WebSocket, and simple
 * POSTs are sent before anybody is asked.
 */
import { EVERYTHING } from "./auth/grant.ts";
import type { Grant } from "./auth/grant.ts";
import { JwtSettingsError } from "./auth/jwt.ts";
import type { JwtVerifier } from "./auth/jwt.ts";
import { misconfigured } from "./config.ts";
import type { EdgeConfig } from "./config.ts";
import { HttpError } from "./problem.ts";

/**
 * What the caller of a request may do; throws 401 or 403. Undefined: a link that shows its token
 * in the hello alone, since browsers can't add headers to a WebSocket.
 */
export async function grantOf(request: Request, config: EdgeConfig): Promise<Grant | undefined> {
  checkOrigin(request, config);
  if (config.secret === undefined && config.tokens === undefined) {
    checkLoopback(request, "QUORATE_SECRET");
    return EVERYTHING;
  }
  const shown = shownBy(request);
  if (shown === "" && new URL(request.url).pathname === "/link") return undefined;
  return grantOfToken(shown, config);
}

/** What a secret or a token allows, wherever it was shown. Throws 401. */
export async function grantOfToken(shown: string, config: EdgeConfig): Promise<Grant> {
  const { secret, tokens } = config;
  if (secret === undefined && tokens === undefined) return EVERYTHING;
  if (secret !== undefined && sameSecret(shown, secret)) return EVERYTHING;
  if (tokens !== undefined && shown !== "") return verify(tokens, shown);
  const what = tokens === undefined ? "the edge's secret" : "a token";
  throw new HttpError(401, `show ${what}: Authorization: Bearer <...>`, {
    "www-authenticate": "Bearer",
  });
}

async function verify(tokens: JwtVerifier, token: string): Promise<Grant> {
  try {
    return await tokens.verify(token, Date.now());
  } catch (error) {
    if (!(error instanceof JwtSettingsError)) throw error;
    throw misconfigured(`QUORATE_JWT_KEYS: ${error.message}`);
  }
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

/** `setting`: the secret that isn't set. Throws 403. */
export function checkLoopback(request: Request, setting: string): void {
  const { hostname } = new URL(request.url);
  const address = request.headers.get("cf-connecting-ip");
  if (isLoopback(hostname) && (address === null || isLoopback(address))) return;
  const text = `without a configured secret the edge serves loopback only: set ${setting}`;
  throw new HttpError(403, text);
}

function isLoopback(host: string): boolean {
  return host === "localhost" || /^\[?::1\]?$/.test(host) || /^127(\.\d{1,3}){3}$/.test(host);
}

function checkOrigin(request: Request, config: EdgeConfig): void {
  const origin = request.headers.get("origin");
  if (origin === null || isListed(origin, config)) return;
  if (origin === new URL(request.url).origin) return;
  throw new HttpError(403, `origin ${origin} is not allowed: list it in QUORATE_ORIGINS`);
}

/** Whether pages of this origin may call; "*" lists them all. */
export function isListed(origin: string, config: EdgeConfig): boolean {
  return config.origins.includes(origin) || config.origins.includes("*");
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

/** Secret and tokens are the edge's: etcd's own token, if any, goes on to the peers. */
export function forwardedAuthorization(request: Request, config: EdgeConfig): string | undefined {
  if (config.tokens !== undefined) return undefined;
  const value = request.headers.get("authorization");
  if (value === null) return undefined;
  const own = config.secret !== undefined && value.replace(/^Bearer /i, "") === config.secret;
  return own ? undefined : value;
}
