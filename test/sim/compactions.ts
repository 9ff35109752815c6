/**
 * What compactions promise: a revision below a compacted one isn't answered any more, and none is
 * refused as compacted that nobody gave up.
 */
import type { Operation } from "./history.ts";

interface Compaction {
  readonly upTo: number;
  readonly invoked: number;
  /** Infinity: never acknowledged. */
  readonly acknowledged: number;
}

/** What is wrong, if anything is. */
export function checkCompactions(operations: readonly Operation[]): string | undefined {
  const compactions = operations.flatMap(compactionOf);
  for (const { id, request, invoked, returned, outcome, code } of operations) {
    if (request.kind !== "range" || request.atRevision === 0) continue;
    const above = compactions.filter(({ upTo }) => upTo > request.atRevision);
    if (outcome === "refused" && code === "compacted") {
      if (above.some((each) => each.invoked < (returned ?? Infinity))) continue;
      return `#${id}: revision ${request.atRevision} is called compacted, which nobody asked for`;
    }
    if (typeof outcome === "string" || request.serializable) continue;
    if (above.some(({ acknowledged }) => acknowledged < invoked)) {
      return `#${id}: revision ${request.atRevision} was answered after its compaction`;
    }
  }
  return undefined;
}

function compactionOf({ request, invoked, returned, outcome }: Operation): Compaction[] {
  if (request.kind !== "compact" || outcome === "refused") return [];
  const acknowledged = typeof outcome === "object" ? (returned ?? Infinity) : Infinity;
  return [{ upTo: request.upTo, invoked, acknowledged }];
}
