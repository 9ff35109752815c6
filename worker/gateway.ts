/**
 * etcd's JSON gateway (`/v3/...`), passed on to a peer as it is, answers streamed. A read goes on
 * to the next peer when one fails. A write is sent once, to a peer that has just answered: when
 * that breaks, its outcome is unknown.
 */
import { RpcError, rpcError } from "../shared/api/errors.ts";
import { utf8 } from "../shared/base/bytes.ts";
import { LIMITS } from "../shared/base/limits.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import { forwardedAuthorization } from "./access.ts";
import { admitGateway } from "./auth/gateway-guard.ts";
import type { Grant } from "./auth/grant.ts";
import { strictText } from "./encoding.ts";
import type { Exchange } from "./exchange.ts";
import type { EdgeConfig } from "./config.ts";
import { readBody } from "./params.ts";
import { HttpError } from "./problem.ts";

/** Calls that change nothing, or that do no harm when repeated. */
const READS =
  /^\/v3\/(kv\/range|watch|lease\/(keepalive|timetolive|leases)|kv\/lease\/(timetolive|leases)|cluster\/member\/list|maintenance\/(status|hashkv|hash)|auth\/(status|authenticate))$/;

/** Calls whose answer comes bit by bit. */
const STREAMS = /^\/v3\/(watch|lease\/keepalive|maintenance\/snapshot|election\/observe)$/;

/**
 * Whatever compresses on the way gathers what it is given, and an event would wait for the next
 * ones: a coding that is named already, and `no-transform`, keep local workerd and caches from it.
 */
const UNTRANSFORMED = { "content-encoding": "identity", "cache-control": "no-store, no-transform" };

export async function proxyGateway({ request, config, grant }: Exchange): Promise<Response> {
  if (request.method !== "POST") {
    throw new HttpError(405, "the gateway takes POST with a JSON body", { allow: "POST" });
  }
  const { pathname } = new URL(request.url);
  const body = admitted(grant, pathname, await readBody(request, LIMITS.edgeJsonBytesMax));
  const authorization = forwardedAuthorization(request, config);
  const answer = await sendToPeer(config, {
    path: pathname,
    headers: {
      ...metadataOf(request, grant),
      "content-type": request.headers.get("content-type") ?? "application/json",
      ...(authorization === undefined ? {} : { authorization }),
      ...(config.secret === undefined ? {} : { "x-quorate-secret": config.secret }),
    },
    body,
    write: !READS.test(pathname),
  });
  if (STREAMS.test(pathname)) {
    for (const [name, value] of Object.entries(UNTRANSFORMED)) answer.headers.set(name, value);
  }
  return answer;
}

/** The body as it may be sent on: checked and written anew unless everything is allowed. */
function admitted(grant: Grant | undefined, pathname: string, body: Bytes): Bytes {
  if (grant === undefined) throw rpcError("permissionDenied");
  if (grant.admin) return body;
  const text = strictText(body);
  if (text === undefined) throw new HttpError(400, "the body is no UTF-8");
  return utf8(admitGateway(grant, pathname, text));
}

/**
 * gRPC's metadata in a request's headers, which go on to the peer; of a caller with some
 * permissions only what can't change who it is.
 */
export function metadataOf(request: Request, grant: Grant | undefined): Record<string, string> {
  const all = [...request.headers].filter(([name]) => name.startsWith("grpc-metadata-"));
  const allowed = grant?.admin === true ? all : all.filter(([name]) => name === HAS_LEADER);
  return Object.fromEntries(allowed);
}

const HAS_LEADER = "grpc-metadata-hasleader";

export interface PeerRequest {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Bytes;
  /** Sent once only. */
  readonly write: boolean;
}

/** One POST to a peer; its answer's head comes within the deadline, its body may go on. */
export async function sendToPeer(config: EdgeConfig, request: PeerRequest): Promise<Response> {
  const { endpoints, timeoutMilliseconds } = config;
  const deadline = Date.now() + timeoutMilliseconds;
  const reasons: string[] = [];
  for (let attempt = 0; attempt < endpoints.count && Date.now() < deadline; attempt += 1) {
    const peer = endpoints.current.replace(/^ws/, "http");
    const rest = (deadline - Date.now()) / (endpoints.count - attempt);
    try {
      if (request.write) {
        // Nothing is at stake yet: a peer that doesn't answer this is left for the next one.
        const probe = await head(config, `${peer}/version`, { method: "GET" }, rest);
        await probe.body?.cancel();
      }
    } catch (error) {
      reasons.push(`${peer}: ${textOf(error)}`);
      endpoints.leave(endpoints.current);
      continue;
    }
    try {
      const body = Uint8Array.from(request.body);
      const init = { method: "POST", headers: request.headers, body };
      const answer = await head(
        config,
        peer + request.path,
        init,
        request.write ? deadline - Date.now() : rest,
      );
      return passOn(answer);
    } catch (cause) {
      endpoints.leave(endpoints.current);
      reasons.push(`${peer}: ${textOf(cause)}`);
      if (!request.write) continue;
      throw new RpcError("unavailable", `the link to ${peer} broke: ${textOf(cause)}`, {
        outcome: "unknown",
        cause,
      });
    }
  }
  throw new RpcError("unavailable", `no peer can be reached: ${reasons.join("; ")}`);
}

/** The response once its head is there; the time runs for the head alone. */
async function head(
  { platform }: EdgeConfig,
  url: string,
  init: RequestInit,
  milliseconds: number,
): Promise<Response> {
  const aborter = new AbortController();
  const timer = setTimeout(
    () => aborter.abort(new Error("no answer in time")),
    Math.max(1, milliseconds),
  );
  try {
    return await platform.request(url, { ...init, signal: aborter.signal });
  } finally {
    clearTimeout(timer);
  }
}

function passOn(answer: Response): Response {
  const headers = new Headers({ "cache-control": "no-store" });
  for (const name of ["content-type", "grpc-metadata-content-type"]) {
    const value = answer.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return new Response(answer.body, { status: answer.status, headers });
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
