/**
 * The edge as a Hono app: a stateless proxy to the peers with an HTTP API of its own, free of any
 * runtime (workerd, Node and other fetch runtimes serve it alike). Linearization stays in the
 * cluster: no answer comes from a cache.
 *
 * `routes.ts` lists the routes; GET /openapi.json describes them.
 */
import { Hono } from "hono";
import type { Context } from "hono";
import { RpcError } from "../shared/api/errors.ts";
import { grantOf, isListed } from "./access.ts";
import type { Grant } from "./auth/grant.ts";
import { configOf } from "./config.ts";
import type { EdgeConfig, EdgeEnv } from "./config.ts";
import { locationHintOf } from "./location.ts";
import { PEER_PATH } from "../shared/peer/links/frame-link.ts";
import { serveMember } from "./member-route.ts";
import { openApi } from "./openapi.ts";
import { HttpError, problemResponse } from "./problem.ts";
import { tooManyRequests } from "./rate-limit.ts";
import { SESSION_HEADER } from "./read-level.ts";
import { PASSED_ON, ROUTES } from "./routes.ts";
import type { Route } from "./routes.ts";
import { SERVED_HEADERS, servedHeaders } from "./served.ts";
import { Upstream } from "./upstream.ts";

/** What the app holds beside a request. */
export interface AppTypes {
  Bindings: EdgeEnv;
  Variables: { grant: Grant | undefined };
}

type EdgeContext = Context<AppTypes>;

type Served = Pick<Route, "handler" | "parameters"> & { readonly lasts?: boolean };

/**
 * The upstream's socket, if one was opened, closes when the answer is there; long-lived answers
 * close it themselves.
 */
function serve({ handler, parameters, lasts: mayLast }: Served, named: string | undefined) {
  return async (context: EdgeContext): Promise<Response> => {
    const env = context.env;
    const config = configOf(env);
    const request = context.req.raw;
    const grant = context.get("grant");
    const upstream = new Upstream(config, grant, locationHintOf(request));
    const parameter = named === undefined ? undefined : parameterOf(context, named);
    let lasts = false;
    try {
      const response = await handler(
        { request, config, env, upstream, grant, parameters },
        parameter,
      );
      if (upstream.served !== undefined && response.status !== 101) {
        for (const [name, value] of Object.entries(servedHeaders(upstream.served))) {
          if (!response.headers.has(name)) response.headers.set(name, value);
        }
      }
      lasts = mayLast === true && (response.ok || response.status === 101);
      return response;
    } finally {
      if (!lasts) upstream.close();
    }
  };
}

/**
 * A parameter of the path. The key of `/kv/<key>` is taken as it was written: the framework would
 * decode it as text and lose bytes.
 */
function parameterOf(context: EdgeContext, name: string): string | undefined {
  if (name !== "key") return context.req.param(name);
  return /^[a-z]+:\/\/[^/]+\/kv\/([^?#]*)/.exec(context.req.url)?.[1];
}

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
  // Members of the cluster are no callers of the edge: they have an admission of their own.
  app.get(PEER_PATH, (context) => serveMember(context.req.raw, context.env));
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
  for (const route of ROUTES) {
    const named = /\{(\w+)\}/.exec(route.path)?.[1];
    const path = route.path.replace("{key}", "*").replace(/\{(\w+)\}/, ":$1");
    app.on(route.method.toUpperCase(), path, serve(route, named));
  }
  for (const { path, handler } of PASSED_ON) {
    app.all(path, serve({ handler, parameters: [] }, undefined));
  }
  app.get("/openapi.json", (context) => context.json(openApi()));
  app.notFound((context) => {
    const { method, path } = context.req;
    const text = `${method} ${path} is no route of the edge`;
    const allow = methodsAt(path);
    if (allow !== "")
      return problemResponse(new HttpError(405, `${text}: try ${allow}`, { allow }));
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

/** The methods of the routes at a path, as `Allow` lists them; empty: there is none. */
function methodsAt(path: string): string {
  const routes = ROUTES.filter(({ path: template }) => {
    const pattern = template.replace("{key}", ".*").replace(/\{\w+\}/, "[^/]+");
    return new RegExp(`^${pattern}$`, "s").test(path);
  });
  const methods = new Set(routes.map(({ method }) => method.toUpperCase()));
  if (methods.has("GET")) methods.add("HEAD");
  return [...methods].join(", ");
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
