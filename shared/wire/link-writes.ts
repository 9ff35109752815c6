/** Which of a link's calls may change the store: neither end repeats one of those blindly. */
import type { LinkRequest } from "./link.ts";

/** True for calls that may change the store, so that a failure of unknown kind leaves the outcome unknown. */
export function isLinkWrite(request: LinkRequest): boolean {
  switch (request.method) {
    case "put":
    case "deleteRange":
    case "compact":
    case "leaseGrant":
    case "leaseRevoke":
      return true;
    case "txn":
      return [...request.op.success, ...request.op.failure].some((op) => op.kind !== "range");
    default:
      return false;
  }
}
