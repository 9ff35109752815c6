/**
 * Leases over HTTP. Ids are decimal text. A keepalive goes through the lease hub where there is
 * one, so that thousands of clients cost the peers few messages; its answer is the peers' either
 * way. A client counts a lease's time from the moment at which it sent the renewal.
 */
import { RpcError, STATUS, errorCodeOf, rpcError } from "../shared/api/errors.ts";
import type { StatusName } from "../shared/api/errors.ts";
import type { Exchange } from "./exchange.ts";
import type { HubAnswer, LeaseHubStub } from "./config.ts";
import { jsonBytes } from "./encoding.ts";
import { checkLease } from "./auth/grant.ts";
import { membersOf } from "./json-txn.ts";
import { locationHintOf } from "./location.ts";
import { Params, parseLease, readJson } from "./params.ts";
import { HttpError } from "./problem.ts";

const NO_STORE = { "cache-control": "no-store" };

export async function grantLease({ request, upstream, parameters }: Exchange): Promise<Response> {
  const { timeoutMilliseconds } = new Params(request.url, parameters);
  const { ttl, id } = membersOf(await readJson(request), "the body", ["ttl", "id"]);
  if (typeof ttl !== "number" || !Number.isSafeInteger(ttl) || ttl < 1) {
    throw new HttpError(400, "ttl is whole seconds, 1 or more");
  }
  if (id !== undefined && typeof id !== "string") {
    throw new HttpError(400, "id is a lease id as decimal text, or left out");
  }
  const answer = await upstream.call(
    {
      method: "leaseGrant",
      id: id === undefined ? 0n : parseLease(id),
      ttlSeconds: BigInt(ttl),
    },
    { timeoutMilliseconds },
  );
  const body = { id: `${answer.id}`, ttl: answer.ttlSeconds };
  const headers = { ...NO_STORE, location: `/lease/${answer.id}` };
  return Response.json(body, { status: 201, headers });
}

export async function keepLease(
  { request, upstream, config, env, grant, parameters }: Exchange,
  idText: string | undefined,
): Promise<Response> {
  const { timeoutMilliseconds } = new Params(request.url, parameters);
  const id = parseLease(idText ?? "");
  if (grant !== undefined) checkLease(grant, id);
  const hub = hubOf({ env, config, request }, id);
  // A hub that is evicted or deployed anew under a renewal rejects: the peers are asked instead.
  const answer = await hub?.keepAlive([`${id}`]).catch(() => undefined);
  const direct = { method: "leaseKeepAlive", ids: [id] } as const;
  const { ttlSeconds } =
    answer === undefined ? await upstream.call(direct, { timeoutMilliseconds }) : confirmed(answer);
  const [ttl] = ttlSeconds;
  if (ttl === undefined || ttl <= 0) throw rpcError("leaseNotFound");
  return Response.json({ id: `${id}`, ttl }, { headers: NO_STORE });
}

export async function showLease(
  { request, upstream, parameters }: Exchange,
  idText: string | undefined,
): Promise<Response> {
  const params = new Params(request.url, parameters);
  const id = parseLease(idText ?? "");
  const answer = await upstream.call(
    { method: "leaseTimeToLive", id, keys: params.flag("keys") },
    { timeoutMilliseconds: params.timeoutMilliseconds },
  );
  if (answer.ttlSeconds < 0) throw rpcError("leaseNotFound");
  const body = {
    id: `${id}`,
    ttl: answer.ttlSeconds,
    grantedTtl: answer.grantedTtlSeconds,
    ...(params.flag("keys")
      ? { keys: answer.keys.map((key) => jsonBytes("key", key, params.encoding)) }
      : {}),
  };
  return Response.json(body, { headers: NO_STORE });
}

export async function revokeLease(
  { request, upstream, parameters }: Exchange,
  idText: string | undefined,
): Promise<Response> {
  const { timeoutMilliseconds } = new Params(request.url, parameters);
  const id = parseLease(idText ?? "");
  const { header } = await upstream.call({ method: "leaseRevoke", id }, { timeoutMilliseconds });
  return Response.json({ revision: header.revision }, { headers: NO_STORE });
}

/**
 * The hub for this lease's renewals from the caller's part of the world: a Durable Object stays
 * where it was first made, so each continent has hubs of its own. Which one a renewal takes matters
 * to its speed alone: the peers confirm every one.
 */
export function hubOf(
  { env, config, request }: Pick<Exchange, "env" | "config" | "request">,
  id: bigint,
): LeaseHubStub | undefined {
  const position = Number(BigInt.asUintN(64, id) % BigInt(config.hubs.length));
  const name = config.hubs[position] ?? "leases:0";
  const locationHint = locationHintOf(request);
  if (locationHint === undefined) return env.LEASE_HUB?.getByName(name);
  return env.LEASE_HUB?.getByName(`${name}:${locationHint}`, { locationHint });
}

/** A hub's answer, or the error that it stands for. */
export function confirmed(answer: HubAnswer): HubAnswer & { readonly ok: true } {
  if (answer.ok) return answer;
  const status = Object.hasOwn(STATUS, answer.status) ? (answer.status as StatusName) : "unknown";
  const code = errorCodeOf(answer.message);
  throw new RpcError(status, answer.message, code === undefined ? {} : { code });
}
