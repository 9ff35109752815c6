/**
 * `/raft`: where Node peers dial a member that is a Durable Object of this Worker, found by the host
 * that they dial. They show the members' secret before the object is woken, and again in their hello;
 * without a configured secret only loopback gets in. A plain GET, with the secret, tells an operator
 * how the member is.
 */
import { checkLoopback, sameSecret } from "./access.ts";
import type { EdgeEnv } from "./config.ts";
import { memberAt, objectNameOf } from "./durable/hosted-members.ts";
import { HttpError } from "./problem.ts";

export async function serveMember(request: Request, env: EdgeEnv): Promise<Response> {
  const member = memberAt(request.url, env);
  if (member === undefined || env.PEER === undefined) {
    const { host } = new URL(request.url);
    throw new HttpError(
      404,
      `no member of a cluster is here: QUORATE_MEMBERS names none at ${host}`,
    );
  }
  // Browsers always name an origin: scripts in them have no business here.
  if (request.headers.has("origin")) throw new HttpError(403, "members name no origin");
  const secret = env.QUORATE_PEER_SECRET ?? "";
  if (secret === "") checkLoopback(request, "QUORATE_PEER_SECRET");
  else if (!sameSecret(request.headers.get("authorization") ?? "", `Bearer ${secret}`)) {
    throw new HttpError(401, "the members' secret is needed", { "www-authenticate": "Bearer" });
  }
  if (env.QUORATE_PEER_CERTS === "required" && !showsCertificate(request)) {
    throw new HttpError(403, "members show a certificate that the Worker's zone trusts");
  }
  return env.PEER.getByName(objectNameOf(member)).fetch(request);
}

/** What Cloudflare says of the caller's certificate, where the host asks for one (mutual TLS). */
function showsCertificate(request: Request & { readonly cf?: unknown }): boolean {
  const { tlsClientAuth } = (request.cf ?? {}) as { tlsClientAuth?: { certVerified?: string } };
  return tlsClientAuth?.certVerified === "SUCCESS";
}
