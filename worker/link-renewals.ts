/** A link's keepalive, answered through the lease hubs that keep its leases. */
import { STATUS } from "../shared/api/errors.ts";
import type { LinkReplyFrame } from "../shared/wire/link.ts";
import type { Exchange } from "./exchange.ts";
import { confirmed, hubOf } from "./lease-routes.ts";

/** One frame for the call `id`: every ttl confirmed by the peers, or one failure for all of it. */
export async function answerKeepAlive(
  exchange: Pick<Exchange, "env" | "config" | "request">,
  id: number,
  ids: readonly bigint[],
): Promise<LinkReplyFrame> {
  try {
    const groups = new Map<bigint, number[]>();
    const hubs = BigInt(exchange.config.hubs.length);
    for (const [position, lease] of ids.entries()) {
      const shard = BigInt.asUintN(64, lease) % hubs;
      const group = groups.get(shard) ?? [];
      group.push(position);
      groups.set(shard, group);
    }
    const ttlSeconds = Array<number>(ids.length).fill(0);
    let revision = 0;
    let raftTerm = 0;
    await Promise.all(
      [...groups].map(async ([shard, positions]) => {
        const hub = hubOf(exchange, shard);
        if (hub === undefined) throw new Error("no lease hub is bound");
        const answer = confirmed(await hub.keepAlive(positions.map((each) => `${ids[each]}`)));
        for (const [place, position] of positions.entries()) {
          ttlSeconds[position] = answer.ttlSeconds[place] ?? 0;
        }
        revision = Math.max(revision, answer.revision);
        raftTerm = Math.max(raftTerm, answer.raftTerm);
      }),
    );
    const header = { revision, raftTerm };
    return { kind: "result", id, answer: { method: "leaseKeepAlive", header, ttlSeconds } };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const named = error as { status?: unknown };
    const status =
      typeof named.status === "string" && Object.hasOwn(STATUS, named.status)
        ? named.status
        : "unavailable";
    const failure = { status, message, code: undefined, outcome: "none", retryable: true } as const;
    return { kind: "error", id, failure };
  }
}
