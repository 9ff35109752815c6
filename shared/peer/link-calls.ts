/**
 * Carries a link's calls out on the peer's services: request in, answer or failure out. Knows no
 * frames and no sockets.
 */
import { RpcError } from "../api/errors.ts";
import type { LinkAnswer, LinkFailure, LinkRequest } from "../wire/link.ts";
import { learnerRefusal } from "./learner-rules.ts";
import type { CallContext, Services } from "./services.ts";

/** The answer of the service that `request` names; rejects with what the service throws. */
export function performLinkCall(
  services: Services,
  request: LinkRequest,
  call: CallContext,
): Promise<LinkAnswer> {
  const { kv, cluster, maintenance } = services;
  const takesAnyState = request.method === "range" && request.serializable;
  const refusal = learnerRefusal(services, takesAnyState || request.method === "status");
  if (refusal !== undefined) return Promise.reject(refusal);
  switch (request.method) {
    case "range":
      return kv
        .range(request.op, { serializable: request.serializable, fresh: request.fresh }, call)
        .then((answer) => ({ method: "range", ...answer }));
    case "put":
      return kv.put(request.op, call).then((answer) => ({ method: "put", ...answer }));
    case "deleteRange":
      return kv
        .deleteRange(request.op, call)
        .then((answer) => ({ method: "deleteRange", ...answer }));
    case "txn":
      return kv
        .txn(request.op, { serializable: request.serializable }, call)
        .then((answer) => ({ method: "txn", ...answer }));
    case "compact": {
      const { revision, physical } = request;
      return kv
        .compact({ revision, physical }, call)
        .then((answer) => ({ method: "compact", ...answer }));
    }
    case "memberList":
      return cluster
        .memberList({ linearizable: request.linearizable }, call)
        .then((answer) => ({ method: "memberList", ...answer }));
    case "status":
      return maintenance.status(call).then((answer) => ({ method: "status", ...answer }));
    default:
      return performLeaseCall(services, request, call);
  }
}

function performLeaseCall(
  { lease }: Services,
  request: Extract<LinkRequest, { method: `lease${string}` }>,
  call: CallContext,
): Promise<LinkAnswer> {
  switch (request.method) {
    case "leaseGrant": {
      const { id, ttlSeconds } = request;
      return lease
        .grant({ id, ttlSeconds }, call)
        .then((answer) => ({ method: "leaseGrant", ...answer }));
    }
    case "leaseRevoke":
      return lease
        .revoke(request.id, call)
        .then((answer) => ({ method: "leaseRevoke", ...answer }));
    case "leaseKeepAlive":
      return lease
        .keepAlive(request.ids, call)
        .then((answer) => ({ method: "leaseKeepAlive", ...answer }));
    case "leaseTimeToLive":
      return lease
        .timeToLive({ id: request.id, keys: request.keys }, call)
        .then((answer) => ({ method: "leaseTimeToLive", ...answer }));
    case "leases":
      return lease.leases(call).then((answer) => ({ method: "leases", ...answer }));
  }
}

/**
 * What a failed call tells its caller. An error that isn't a refusal is a defect here: named, and
 * of unknown outcome.
 */
export function linkFailure(error: unknown, write: boolean): LinkFailure {
  if (error instanceof RpcError) {
    const { status, message, code, outcome, retryable } = error;
    return { status, message, code, outcome, retryable };
  }
  const message = error instanceof Error ? error.message : String(error);
  return {
    status: "internal",
    message: `the peer failed: ${message}`,
    code: undefined,
    outcome: write ? "unknown" : "none",
    retryable: false,
  };
}
