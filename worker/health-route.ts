/** GET /healthz. */
import type { Exchange } from "./exchange.ts";

/** Healthy while a peer answers that has a leader. */
export async function health({ upstream, config }: Exchange): Promise<Response> {
  const timeoutMilliseconds = Math.min(2000, config.timeoutMilliseconds);
  const status = await upstream.call({ method: "status" }, { timeoutMilliseconds });
  const healthy = status.leader !== 0n;
  const body = { healthy, revision: status.header.revision, raftTerm: status.header.raftTerm };
  return Response.json(body, {
    status: healthy ? 200 : 503,
    headers: { "cache-control": "no-store", ...(healthy ? {} : { "retry-after": "1" }) },
  });
}
