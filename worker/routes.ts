/**
 * The routes of the HTTP API, each with its description: the app serves them from this table, and
 * the API's document (`openapi.ts`) is made of it.
 */
import type { Exchange } from "./exchange.ts";
import { proxyGateway } from "./gateway.ts";
import { upgradeGateway } from "./gateway-socket.ts";
import { health } from "./health-route.ts";
import { deleteKeys, getKeys, putKey } from "./kv-routes.ts";
import { grantLease, keepLease, revokeLease, showLease } from "./lease-routes.ts";
import { proxyLink } from "./link-proxy.ts";
import type { ParameterName } from "./parameters.ts";
import { commitTxn } from "./txn-routes.ts";
import { watchKeys } from "./watch-routes.ts";

export type Handler = (
  exchange: Exchange,
  parameter: string | undefined,
) => Promise<Response> | Response;

export interface Answer {
  readonly description: string;
  /** Content types; none: no body. */
  readonly types: readonly string[];
  readonly schema?: object;
}

export interface Route {
  readonly method: "get" | "put" | "post" | "delete";
  /** A parameter of the path stands in braces; `{key}` takes the rest of the path. */
  readonly path: string;
  readonly summary: string;
  readonly parameters: readonly ParameterName[];
  /** Request headers that change what it does. */
  readonly headers?: readonly string[];
  readonly body?: { readonly type: string; readonly description: string };
  readonly answers: Readonly<Record<number, Answer>>;
  /** Statuses of its problems, beside those that every route may answer. */
  readonly problems: readonly number[];
  readonly handler: Handler;
  /** Its answer goes on after the handler has returned. */
  readonly lasts?: boolean;
}

const JSON_TYPE = "application/json";
const BYTES = "application/octet-stream";
const count = { type: "integer", minimum: 0 };
const revisioned = (more: object = {}): object => ({
  type: "object",
  required: ["revision"],
  properties: { revision: count, ...more },
});

const RANGE = ["key", "prefix", "from", "to", "all"] as const;
const LEVELS = ["consistency", "session", "maxAge", "serializable"] as const;
const CONDITIONS = ["if-match", "if-none-match"];

const READ_KEYS: Omit<Route, "path"> = {
  method: "get",
  summary: "One key's value, or the keys of a range",
  parameters: [
    ...RANGE,
    ...(["limit", "cursor", "format", "revision", "keysOnly", "countOnly", "order"] as const),
    ...LEVELS,
  ],
  headers: ["if-none-match", "x-quorate-session"],
  answers: {
    200: {
      description: "The value as it is, its modRevision as ETag; or a page of keys; or NDJSON.",
      types: [BYTES, JSON_TYPE, "application/x-ndjson"],
    },
    304: { description: "It still has the ETag of If-None-Match.", types: [] },
  },
  problems: [410],
  handler: getKeys,
  lasts: true,
};

const PUT_KEY: Omit<Route, "path"> = {
  method: "put",
  summary: "Puts a value, on condition of the key's ETag if one is given",
  parameters: ["key", "lease"],
  headers: CONDITIONS,
  body: { type: BYTES, description: "The value." },
  answers: {
    200: { description: "It was put.", types: [JSON_TYPE], schema: revisioned() },
    201: {
      description: "It was created (If-None-Match: *).",
      types: [JSON_TYPE],
      schema: revisioned(),
    },
  },
  problems: [412, 507],
  handler: putKey,
};

const DELETE_KEYS: Omit<Route, "path"> = {
  method: "delete",
  summary: "Deletes a key, on condition of its ETag if one is given, or a range",
  parameters: RANGE,
  headers: CONDITIONS,
  answers: {
    200: {
      description: "How many keys were deleted.",
      types: [JSON_TYPE],
      schema: revisioned({ deleted: count }),
    },
  },
  problems: [412],
  handler: deleteKeys,
};

const LEASE = {
  type: "object",
  required: ["id", "ttl"],
  properties: { id: { type: "string" }, ttl: { type: "integer" } },
};

/** The gateway and the link have descriptions of their own: etcd's, and `shared/wire/link.ts`. */
export const PASSED_ON: readonly { readonly path: string; readonly handler: Handler }[] = [
  { path: "/link", handler: proxyLink },
  {
    path: "/v3/*",
    handler: (exchange) =>
      exchange.request.headers.get("upgrade")?.toLowerCase() === "websocket"
        ? upgradeGateway(exchange)
        : proxyGateway(exchange),
  },
];

export const ROUTES: readonly Route[] = [
  ...["/kv", "/kv/{key}"].flatMap((path) => [
    { path, ...READ_KEYS },
    { path, ...PUT_KEY },
    { path, ...DELETE_KEYS },
  ]),
  {
    method: "post",
    path: "/txn",
    summary: "A transaction: if, do, else",
    parameters: [],
    body: { type: JSON_TYPE, description: "{ if: [...], do: [...], else: [...] }" },
    answers: {
      200: {
        description: "Which branch it took, and its results.",
        types: [JSON_TYPE],
        schema: revisioned({ succeeded: { type: "boolean" }, results: { type: "array" } }),
      },
    },
    problems: [410, 507],
    handler: commitTxn,
  },
  {
    method: "post",
    path: "/lease",
    summary: "Grants a lease",
    parameters: [],
    body: { type: JSON_TYPE, description: "{ ttl: seconds, id?: decimal text }" },
    answers: { 201: { description: "The lease.", types: [JSON_TYPE], schema: LEASE } },
    problems: [409, 507],
    handler: grantLease,
  },
  {
    method: "get",
    path: "/lease/{id}",
    summary: "What is left of a lease",
    parameters: ["keys"],
    answers: { 200: { description: "The lease.", types: [JSON_TYPE], schema: LEASE } },
    problems: [],
    handler: showLease,
  },
  {
    method: "delete",
    path: "/lease/{id}",
    summary: "Revokes a lease and deletes its keys",
    parameters: [],
    answers: { 200: { description: "It is gone.", types: [JSON_TYPE], schema: revisioned() } },
    problems: [],
    handler: revokeLease,
  },
  {
    method: "post",
    path: "/lease/{id}/keepalive",
    summary: "Renews a lease; its time counts from when this was sent",
    parameters: [],
    answers: { 200: { description: "The lease.", types: [JSON_TYPE], schema: LEASE } },
    problems: [],
    handler: keepLease,
  },
  {
    method: "get",
    path: "/watch",
    summary: "Changes as they happen: server-sent events, or a WebSocket",
    parameters: [...RANGE, "revision", "previous", "only", "lastEventId"],
    headers: ["last-event-id", "upgrade"],
    answers: {
      101: { description: "Messages { event, id, data } over the WebSocket.", types: [] },
      200: {
        description: "Events ready, put, delete, compacted and error.",
        types: ["text/event-stream"],
      },
    },
    problems: [501],
    handler: watchKeys,
    lasts: true,
  },
  {
    method: "get",
    path: "/healthz",
    summary: "Whether a peer answers that has a leader",
    parameters: [],
    answers: {
      200: { description: "Healthy.", types: [JSON_TYPE], schema: revisioned() },
      503: { description: "No leader, or no peer.", types: [JSON_TYPE], schema: revisioned() },
    },
    problems: [],
    handler: health,
  },
];
