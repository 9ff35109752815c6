/**
 * What a learner answers: it holds a copy of the data that may lag far behind, so it serves reads
 * that take any state, and its own status; everything else is for voters (etcd's rules for its
 * API). Doors ask here before they call a service. Members among themselves, health checks and
 * metrics aren't bound by it.
 */
import { rpcError, type RpcError } from "../api/errors.ts";
import type { Services } from "./services.ts";

/** The refusal, if this peer is a learner and the call isn't `allowed` on one. */
export function learnerRefusal({ cluster }: Services, allowed: boolean): RpcError | undefined {
  return !allowed && cluster.isLearner() ? rpcError("notSupportedForLearner") : undefined;
}
