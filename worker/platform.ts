/**
 * How the edge reaches peers and replicas: those with addresses by the runtime's `fetch` and
 * WebSocket, those that are Durable Objects of the same Worker by their stubs. All look alike to
 * what calls them.
 */
import { fetcherPlatform } from "../shared/client/fetcher.ts";
import { defaultPlatform } from "../shared/client/platform.ts";
import type { ClientPlatform } from "../shared/client/platform.ts";
import { hostedObjectOf } from "./durable/hosted-members.ts";
import { voterNameOf, type ServerlessEnv } from "./durable/serverless-config.ts";
import { partsOfName, replicaNameOf } from "./replica/followed.ts";

/** A replica's namespace: a Durable Object's binding. */
export interface ReplicaEnv {
  readonly REPLICA?: {
    getByName(name: string, options?: { locationHint: string }): { fetch: typeof fetch };
  };
}

/** A fetch as the whole edge uses it, beside what the client needs. */
export interface EdgePlatform extends ClientPlatform {
  request(url: string, init: RequestInit): Promise<Response>;
}

let shared: ClientPlatform | undefined;

/** One clock for all requests, so that what one learnt of a peer serves the next. */
function sharedPlatform(): ClientPlatform {
  shared ??= defaultPlatform();
  return shared;
}

export function platformOf(env: ServerlessEnv & ReplicaEnv): EdgePlatform {
  const platform = sharedPlatform();
  const request = (url: string, init: RequestInit): Promise<Response> => {
    const replica = replicaNameOf(url);
    if (replica !== undefined) return replicaOf(env, replica).fetch(url, init);
    const object = objectAt(url);
    if (object === undefined) return fetch(url, init);
    if (env.PEER === undefined) throw new TypeError("the binding PEER is missing");
    return env.PEER.getByName(object).fetch(url, init);
  };
  const stubs = fetcherPlatform({ fetch: request });
  return {
    ...platform,
    request,
    fetch: request,
    openSocket: (url) =>
      objectAt(url) === undefined && replicaNameOf(url) === undefined
        ? platform.openSocket(url)
        : stubs.openSocket(url),
  };
}

/** The name of the peer's object that a URL leads to; undefined: it is an address, or a replica's. */
function objectAt(url: string): string | undefined {
  return voterNameOf(url) ?? hostedObjectOf(url);
}

function replicaOf({ REPLICA }: ReplicaEnv, name: string): { fetch: typeof fetch } {
  if (REPLICA === undefined) throw new TypeError("the binding REPLICA is missing");
  const locationHint = partsOfName(name)?.hint ?? "";
  return locationHint === "" ? REPLICA.getByName(name) : REPLICA.getByName(name, { locationHint });
}
