/**
 * Keys over HTTP. One key: its value is the body, its modRevision the ETag, and conditional headers
 * make compare-and-set. A range: JSON with a cursor, or NDJSON of all of it at one revision.
 */
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { prefixEnd, utf8 } from "../shared/base/bytes.ts";
import { keyAfter } from "../shared/client/keys.ts";
import type { Selector } from "../shared/client/keys.ts";
import { compare, get, put, remove } from "../shared/client/operations.ts";
import type { Condition, Operation } from "../shared/client/operations.ts";
import type { Store } from "../shared/client/store.ts";
import type { Entry } from "../shared/client/values.ts";
import type { Exchange } from "./exchange.ts";
import { decodeBase64, encodeBase64, jsonBytes } from "./encoding.ts";
import type { Encoding } from "./encoding.ts";
import { Params, parseLease, readBody } from "./params.ts";
import { HttpError, problemResponse } from "./problem.ts";
import { readLevelOf } from "./read-level.ts";
import type { ReadLevel } from "./read-level.ts";
import { storeOver } from "./upstream.ts";

const NO_STORE = { "cache-control": "no-store" };

export function entryJson(entry: Entry<Bytes>, encoding: Encoding, keysOnly = false): object {
  const { createRevision, modRevision, version, lease } = entry;
  return {
    ...jsonBytes("key", entry.keyBytes, encoding),
    ...(keysOnly ? {} : jsonBytes("value", entry.bytes, encoding)),
    createRevision,
    modRevision,
    version,
    ...(lease === 0n ? {} : { lease: `${lease}` }),
  };
}

function entryHeaders(entry: Entry<Bytes>): Record<string, string> {
  return {
    etag: `"${entry.modRevision}"`,
    "x-quorate-create-revision": `${entry.createRevision}`,
    "x-quorate-version": `${entry.version}`,
    ...(entry.lease === 0n ? {} : { "x-quorate-lease": `${entry.lease}` }),
  };
}

interface ReadRequest {
  readonly params: Params;
  readonly level: ReadLevel;
}

export async function getKeys(
  { request, upstream, parameters }: Exchange,
  pathKey: string | undefined,
): Promise<Response> {
  const params = new Params(request.url, parameters);
  const store = storeOver(upstream);
  const key = params.key(pathKey);
  const range = params.range();
  if (key !== undefined && range !== undefined) {
    throw new HttpError(400, "name one key or a range, not both");
  }
  const level = readLevelOf(params, request);
  if (level.token !== undefined) {
    upstream.demandCluster(level.token.clusterId);
    store.observe(`${level.token.revision}`);
  }
  if (key !== undefined) return getKey(store, key, { params, request, level });
  if (range === undefined)
    throw new HttpError(400, "name a key (key=) or a range (prefix=, from=)");
  const ndjson =
    params.oneOf("format", ["json", "ndjson"]) === "ndjson" ||
    request.headers.get("accept")?.includes("application/x-ndjson") === true;
  if (!ndjson) {
    const response = await listKeys(store, range, { params, level });
    upstream.close();
    return response;
  }
  return streamKeys(store, range, { params, level });
}

async function getKey(
  store: Store<Bytes>,
  key: Bytes,
  { params, request, level }: ReadRequest & { request: Request },
): Promise<Response> {
  const { entries, revision } = await store.list(key, {
    limit: 1,
    revision: params.count("revision"),
    ...level.options,
    timeoutMilliseconds: params.timeoutMilliseconds,
  });
  const [entry] = entries;
  if (entry === undefined) {
    const missing = new HttpError(404, "the key does not exist", {
      "x-quorate-revision": `${revision}`,
      "x-quorate-consistency": level.name,
    });
    return problemResponse(missing, { revision });
  }
  const headers: Record<string, string> = {
    ...entryHeaders(entry),
    ...NO_STORE,
    "x-quorate-revision": `${revision}`,
    "x-quorate-consistency": level.name,
    "content-type": "application/octet-stream",
    // A stored page must not run as one of the edge's own.
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
  };
  if (request.headers.get("if-none-match") === headers["etag"]) {
    delete headers["content-type"];
    return new Response(null, { status: 304, headers });
  }
  return new Response(Uint8Array.from(entry.bytes), { headers });
}

interface Cursor {
  readonly revision: number;
  readonly key: Bytes;
}

/** Where a listing goes on: at its revision, from a key on. */
function encodeCursor({ revision, key }: Cursor): string {
  const text = encodeBase64(key).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  return `${revision}.${text}`;
}

function decodeCursor(text: string): Cursor {
  const match = /^(\d{1,16})\.([\w-]*)$/.exec(text);
  if (match === null) throw new HttpError(400, "the cursor is none of this edge's");
  return { revision: Number(match[1]), key: decodeBase64(match[2] ?? "", "the cursor") };
}

async function listKeys(
  store: Store<Bytes>,
  range: Exclude<Selector, string | Bytes>,
  { params, level }: ReadRequest,
): Promise<Response> {
  const cursor = params.text("cursor");
  const start = cursor === undefined ? undefined : decodeCursor(cursor);
  const limit = params.count("limit", LIMITS.edgePageKeysMax) ?? LIMITS.edgePageKeys;
  const order = params.oneOf("order", ["ascend", "descend"]);
  if (order === "descend" && start !== undefined) {
    throw new HttpError(400, "a cursor goes upwards only: leave out order=descend");
  }
  const keysOnly = params.flag("keysOnly");
  const listing = await store.list(start === undefined ? range : restOf(range, start.key), {
    limit: Math.max(1, limit),
    revision: start?.revision ?? params.count("revision"),
    keysOnly,
    countOnly: params.flag("countOnly"),
    sort: order === undefined ? undefined : { by: "key", order },
    ...level.options,
    timeoutMilliseconds: params.timeoutMilliseconds,
  });
  const last = listing.entries.at(-1);
  const revision = start?.revision ?? params.count("revision") ?? listing.revision;
  const goesOn = listing.more && last !== undefined && order !== "descend";
  const body = {
    revision,
    count: listing.count,
    more: listing.more,
    ...(goesOn ? { cursor: encodeCursor({ revision, key: keyAfter(last.keyBytes) }) } : {}),
    kvs: listing.entries.map((entry) => entryJson(entry, params.encoding, keysOnly)),
  };
  return Response.json(body, {
    headers: {
      ...NO_STORE,
      "x-quorate-revision": `${listing.revision}`,
      "x-quorate-consistency": level.name,
    },
  });
}

/** What is left of a range from `key` on. */
function restOf(range: Exclude<Selector, string | Bytes>, key: Bytes): Selector {
  if ("all" in range) return { from: key };
  if ("from" in range) return { from: key, to: range.to };
  const prefix = typeof range.prefix === "string" ? utf8(range.prefix) : range.prefix;
  return { from: key, to: prefixEnd(prefix) };
}

/** One line an entry; the last line says that it is complete, or why it ended early. */
function streamKeys(
  store: Store<Bytes>,
  range: Exclude<Selector, string | Bytes>,
  { params, level }: ReadRequest,
): Response {
  const keysOnly = params.flag("keysOnly");
  const entries = store.entries(range, {
    revision: params.count("revision"),
    keysOnly,
    ...level.options,
    timeoutMilliseconds: params.timeoutMilliseconds,
  });
  const encoder = new TextEncoder();
  let count = 0;
  const line = (value: object): Uint8Array => encoder.encode(`${JSON.stringify(value)}\n`);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const lines: string[] = [];
        while (lines.length < 256) {
          const next = await entries.next();
          if (next.done === true) {
            lines.push(JSON.stringify({ complete: true, count }));
            controller.enqueue(encoder.encode(`${lines.join("\n")}\n`));
            controller.close();
            store.close();
            return;
          }
          count += 1;
          lines.push(JSON.stringify(entryJson(next.value, params.encoding, keysOnly)));
        }
        controller.enqueue(encoder.encode(`${lines.join("\n")}\n`));
      } catch (error) {
        controller.enqueue(line({ complete: false, error: await problemResponse(error).json() }));
        controller.close();
        store.close();
      }
    },
    async cancel() {
      await entries.return();
      store.close();
    },
  });
  return new Response(body, {
    headers: {
      ...NO_STORE,
      "content-type": "application/x-ndjson",
      "x-quorate-consistency": level.name,
    },
  });
}

/** The condition that the request's headers make, if any. */
function conditionOf(request: Request, key: Bytes): Condition | undefined {
  const match = request.headers.get("if-match");
  const noneMatch = request.headers.get("if-none-match");
  if (match !== null && noneMatch !== null) {
    throw new HttpError(400, "send If-Match or If-None-Match, not both");
  }
  if (noneMatch !== null) {
    if (noneMatch !== "*") throw new HttpError(400, "If-None-Match takes * here: create only");
    return compare(key, "version", "=", 0);
  }
  if (match === null) return undefined;
  if (match === "*") return compare(key, "version", ">", 0);
  const revision = /^"?(\d{1,16})"?$/.exec(match)?.[1];
  if (revision === undefined) throw new HttpError(400, 'If-Match takes an ETag: "<modRevision>"');
  return compare(key, "mod", "=", Number(revision));
}

/**
 * 412 with what is there instead, so that the caller can decide and try again without another read.
 */
function preconditionFailed(current: Entry<Bytes> | undefined, revision: number): Response {
  const headers = {
    "x-quorate-revision": `${revision}`,
    ...(current === undefined ? {} : entryHeaders(current)),
  };
  const text = "the condition does not hold: `current` is what the key has now";
  return problemResponse(new HttpError(412, text, headers), {
    revision,
    current: current === undefined ? null : entryJson(current, "utf8"),
  });
}

async function conditionally(
  store: Store<Bytes>,
  condition: Condition,
  operation: Operation<Bytes>,
  options: { key: Bytes; timeoutMilliseconds: number | undefined },
): Promise<{ revision: number } | Response> {
  const { key, timeoutMilliseconds } = options;
  const { succeeded, results, revision } = await store.txn(
    { if: [condition], do: [operation], else: [get(key)] },
    { timeoutMilliseconds },
  );
  if (succeeded) return { revision };
  const [found] = results;
  return preconditionFailed(found?.kind === "get" ? found.entries[0] : undefined, revision);
}

export async function putKey(
  { request, upstream, parameters }: Exchange,
  pathKey: string | undefined,
): Promise<Response> {
  const params = new Params(request.url, parameters);
  const key = params.key(pathKey);
  if (key === undefined) throw new HttpError(400, "name the key: PUT /kv?key=<key>");
  const leaseText = params.text("lease");
  const lease = leaseText === undefined ? undefined : parseLease(leaseText);
  const condition = conditionOf(request, key);
  const value = await readBody(request, LIMITS.requestBytesMax);
  const { timeoutMilliseconds } = params;
  const store = storeOver(upstream);
  const outcome =
    condition === undefined
      ? await store.put(key, value, { lease, timeoutMilliseconds })
      : await conditionally(store, condition, put(key, value, { lease }), {
          key,
          timeoutMilliseconds,
        });
  if (outcome instanceof Response) return outcome;
  const { revision } = outcome;
  return Response.json(
    { revision },
    {
      status: request.headers.get("if-none-match") === null ? 200 : 201,
      headers: { ...NO_STORE, etag: `"${revision}"`, "x-quorate-revision": `${revision}` },
    },
  );
}

export async function deleteKeys(
  { request, upstream, parameters }: Exchange,
  pathKey: string | undefined,
): Promise<Response> {
  const params = new Params(request.url, parameters);
  const key = params.key(pathKey);
  const range = params.range();
  const selector = key ?? range;
  if (selector === undefined || (key !== undefined && range !== undefined)) {
    throw new HttpError(400, "name one key (key=) or one range (prefix=, from=, all)");
  }
  const { timeoutMilliseconds } = params;
  const store = storeOver(upstream);
  if (key !== undefined) {
    const condition = conditionOf(request, key);
    if (condition !== undefined) {
      const options = { key, timeoutMilliseconds };
      const outcome = await conditionally(store, condition, remove(key), options);
      return outcome instanceof Response ? outcome : deletedResponse(1, outcome.revision);
    }
  } else if (request.headers.has("if-match") || request.headers.has("if-none-match")) {
    throw new HttpError(400, "conditions hold for one key: POST /txn has more");
  }
  const { deleted, revision } = await store.delete(selector, { timeoutMilliseconds });
  return deletedResponse(deleted, revision);
}

function deletedResponse(deleted: number, revision: number): Response {
  const headers = { ...NO_STORE, "x-quorate-revision": `${revision}` };
  return Response.json({ deleted, revision }, { headers });
}
