/**
 * The edge as a Hono app: a stateless proxy to the peers with an HTTP API of its own, free of any
 * runtime (workerd, Node and other fetch runtimes serve it alike). Linearization stays in the
 * cluster: no answer comes from a cache.
 *
 *   GET PUT DELETE /kv          one key (?key= or /kv/<percent-encoded>), or a range (?prefix=
 * ?from=&to= ?all)
 *   POST /txn                   if, do, else
 *   POST /lease                 and POST /lease/<id>/keepalive, GET and DELETE /lease/<id>
 *   GET /watch                  server-sent events
 *   POST /v3/..., WebSocket     etcd's JSON gateway, at a peer
 *   /link                       the link protocol, by WebSocket or POST
 *   GET /healthz
 */
import { Hono } from "hono";
import type { Context } from "hono";
import { RpcError } from "../shared/api/errors.ts";
import { grantOf, isListed } from "./access.ts";
import type { Grant } from "./auth/grant.ts";
import { configOf } from "./config.ts";
import type { EdgeConfig, EdgeEnv } from "./config.ts";
import type { Exchange } from "./exchange.ts";
import { proxyGateway } from "./gateway.ts";
import { upgradeGateway } from "./gateway-socket.ts";
import { deleteKeys, getKeys, putKey } from "./kv-routes.ts";
import { proxyLink } from "./link-proxy.ts";
import { HttpError, problemResponse } from "./problem.ts";
import { grantLease, keepLease, revokeLease, showLease } from "./lease-routes.ts";
import { tooManyRequests } from "./rate-limit.ts";
import { SESSION_HEADER } from "./read-level.ts";
import { SERVED_HEADERS, servedHeaders } from "./served.ts";
import { commitTxn } from "./txn-routes.ts";
import { Upstream } from "./upstream.ts";
import { watchKeys } from "./watch-routes.ts";

type Route = (exchange: Exchange, parameter: string | undefined) => Promise<Response> | Response;

/** What the app holds beside a request. */
interface AppTypes {
  Bindings: EdgeEnv;
  Variables: { grant: Grant | undefined };
}

type EdgeContext = Context<AppTypes>;

/**
 * The upstream's socket, if one was opened, closes when the answer is there; long-lived answers
 * close it themselves.
 */
function serve(route: Route, options: { parameter?: string; lasting?: boolean } = {}) {
  return async (context: EdgeContext): Promise<Response> => {
    const env = context.env;
    const config = configOf(env);
    const request = context.req.raw;
    const grant = context.get("grant");
    const upstream = new Upstream(config, grant);
    const parameter =
      options.parameter === undefined ? undefined : context.req.param(options.parameter);
    let lasts = false;
    try {
      const response = await route({ request, config, env, upstream, grant }, parameter);
      if (upstream.served !== undefined && response.status !== 101) {
        for (const [name, value] of Object.entries(servedHeaders(upstream.served))) {
          if (!response.headers.has(name)) response.headers.set(name, value);
        }
      }
      lasts = options.lasting === true && (response.ok || response.status === 101);
      return response;
    } finally {
      if (!lasts) upstream.close();
    }
  };
}

/**
 * The key of `/kv/<key>` as it was written: the framework would decode it as text and lose bytes.
 */
function rawKey(url: string): string | undefined {
  const match = /^[a-z]+:\/\/[^/]+\/kv\/([^?#]*)/.exec(url);
  return match?.[1];
}

const withPathKey =
  (route: Route): Route =>
  (exchange) =>
    route(exchange, rawKey(exchange.request.url));

const CORS_HEADERS = {
  "access-control-allow-methods": "GET, HEAD, PUT, POST, DELETE",
  "access-control-allow-headers":
    "authorization, content-type, if-match, if-none-match, last-event-id, x-quorate-secret, " +
    SESSION_HEADER,
  "access-control-expose-headers": [
    "etag, location, retry-after, x-quorate-create-revision, x-quorate-version",
    "x-quorate-lease, x-quorate-consistency",
    ...SERVED_HEADERS,
  ].join(", "),
  "access-control-max-age": "600",
};

export function createApp(): Hono<AppTypes> {
  const app = new Hono<AppTypes>();
  app.use(async (context, next) => {
    const config = configOf(context.env);
    const origin = context.req.header("origin");
    const listed = origin !== undefined && isListed(origin, config);
    if (listed && context.req.method === "OPTIONS") {
      const headers = { ...CORS_HEADERS, "access-control-allow-origin": origin, vary: "origin" };
      return new Response(null, { status: 204, headers });
    }
    const grant = await grantOf(context.req.raw, config);
    await checkRate(context, grant, config);
    context.set("grant", grant);
    await next();
    if (listed && context.res.status !== 101) {
      context.header("access-control-allow-origin", origin);
      context.header(
        "access-control-expose-headers",
        CORS_HEADERS["access-control-expose-headers"],
      );
      context.header("vary", "origin");
    }
    return undefined;
  });
  for (const path of ["/kv", "/kv/*"]) {
    app.get(path, serve(withPathKey(getKeys), { lasting: true }));
    app.put(path, serve(withPathKey(putKey)));
    app.delete(path, serve(withPathKey(deleteKeys)));
  }
  app.post("/txn", serve(commitTxn));
  app.post("/lease", serve(grantLease));
  app.get("/lease/:id", serve(showLease, { parameter: "id" }));
  app.delete("/lease/:id", serve(revokeLease, { parameter: "id" }));
  app.post("/lease/:id/keepalive", serve(keepLease, { parameter: "id" }));
  app.get("/watch", serve(watchKeys, { lasting: true }));
  app.all("/link", serve(proxyLink));
  app.all("/v3/*", serve(answerGateway));
  app.get("/healthz", serve(health));
  app.notFound((context) => {
    const text = `${context.req.method} ${context.req.path} is no route of the edge`;
    return problemResponse(new HttpError(404, `${text}: see GET /kv?key=, POST /txn, GET /watch`));
  });
  app.onError((error) => {
    // What is no refusal is a defect of the edge: the operator needs its text.
    const known = error instanceof RpcError || error instanceof HttpError;
    if (!known) console.error(error);
    return problemResponse(error);
  });
  return app;
}

/** Callers with the edge's secret are counted by their address: they are the operator's own. */
async function checkRate(
  { env, req }: EdgeContext,
  grant: Grant | undefined,
  { rates }: EdgeConfig,
): Promise<void> {
  const name = grant?.caller ?? "";
  const caller = name === "" ? `address ${req.header("cf-connecting-ip") ?? ""}` : name;
  if (rates?.take(caller, Date.now()) === false) throw tooManyRequests();
  const limited = await env.RATE_LIMITER?.limit({ key: caller });
  if (limited?.success === false) throw tooManyRequests();
}

function answerGateway(exchange: Exchange): Promise<Response> {
  const upgrades = exchange.request.headers.get("upgrade")?.toLowerCase() === "websocket";
  return upgrades ? upgradeGateway(exchange) : proxyGateway(exchange);
}

/** Healthy while a peer answers that has a leader. */
async function health({ upstream, config }: Exchange): Promise<Response> {
  const timeoutMilliseconds = Math.min(2000, config.timeoutMilliseconds);
  const status = await upstream.call({ method: "status" }, { timeoutMilliseconds });
  const healthy = status.leader !== 0n;
  const body = { healthy, revision: status.header.revision, raftTerm: status.header.raftTerm };
  return Response.json(body, {
    status: healthy ? 200 : 503,
    headers: { "cache-control": "no-store", ...(healthy ? {} : { "retry-after": "1" }) },
  });
}
