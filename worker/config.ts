/**
 * What the edge is told: bindings and variables of the Worker, or the same names in an object on
 * Node. Wrong settings are refused by name when a request comes, not when the module is loaded.
 */
import { RpcError } from "../shared/api/errors.ts";
import { LIMITS } from "../shared/base/limits.ts";
import { Endpoints } from "../shared/client/endpoints.ts";
import { hostedMembers, hostedUrl } from "./durable/hosted-members.ts";
import { serverlessOf, voterUrls } from "./durable/serverless-config.ts";
import type { ServerlessEnv } from "./durable/serverless-config.ts";
import { platformOf } from "./platform.ts";
import type { EdgePlatform, ReplicaEnv } from "./platform.ts";
import { FollowedRanges } from "./replica/followed.ts";
import { JwtVerifier } from "./auth/jwt.ts";
import { Hedges } from "./hedge.ts";
import { RateLimiter } from "./rate-limit.ts";
import { Readers } from "./readers.ts";
import { WriteLanes } from "../shared/client/write-lanes.ts";

/** The lease hub as the proxy sees it: a Durable Object's stub, or none on other runtimes. */
export interface LeaseHubStub {
  /**
   * One ttl per id in decimal, in order; 0: unknown or expired. Rejects when nothing was confirmed.
   */
  keepAlive(ids: readonly string[]): Promise<HubAnswer>;
}

/** RPC between Worker and Durable Object keeps no classes, so failures travel as values. */
export type HubAnswer =
  | {
      readonly ok: true;
      readonly ttlSeconds: readonly number[];
      readonly revision: number;
      readonly raftTerm: number;
    }
  | { readonly ok: false; readonly status: string; readonly message: string };

export interface RateLimiterBinding {
  limit(options: { key: string }): Promise<{ success: boolean }>;
}

export interface EdgeEnv extends ServerlessEnv, ReplicaEnv {
  /** Base URLs of the peers' client ports, separated by commas. */
  readonly QUORATE_PEERS?: string;
  /**
   * Secret: what callers show the edge and the edge shows the peers. Without it only loopback is
   * served.
   */
  readonly QUORATE_SECRET?: string;
  /** Secret: a JWK or a JWK set (JSON) whose keys sign callers' tokens, as `auth/jwt.ts` has them. */
  readonly QUORATE_JWT_KEYS?: string;
  /** What tokens must name as their issuer and audience, if set. */
  readonly QUORATE_JWT_ISSUER?: string;
  readonly QUORATE_JWT_AUDIENCE?: string;
  /** Requests that one caller may make in a second, at each isolate; twice as many in a burst. */
  readonly QUORATE_RATE_PER_SECOND?: string;
  /** Cloudflare's rate limiter, which counts beyond one isolate. */
  readonly RATE_LIMITER?: RateLimiterBinding;
  /** Origins of pages that may call from browsers, separated by commas; "*" for all. */
  readonly QUORATE_ORIGINS?: string;
  /** Milliseconds within which every answer comes. */
  readonly QUORATE_TIMEOUT_MS?: string;
  /**
   * Milliseconds that a read waits at least before a second peer is asked too; "off": it never is.
   */
  readonly QUORATE_HEDGE_MS?: string;
  /** Milliseconds after which a reader that takes nothing of what waits for it is ended. */
  readonly QUORATE_STALL_MS?: string;
  /** How many lease hubs share the leases; a hub serves some 1000 keepalives a second. */
  readonly QUORATE_HUB_SHARDS?: string;
  /**
   * Prefixes of keys that have replicas near their readers, with commas between; percent-encoded. "*": all keys.
   * Needs the binding REPLICA.
   */
  readonly QUORATE_REPLICAS?: string;
  /** Milliseconds that a replica is waited for before the peers are asked. */
  readonly QUORATE_REPLICA_WAIT_MS?: string;
  /** How many replicas each range has in each part of the world; one takes some 1000 events a second. */
  readonly QUORATE_REPLICA_SHARDS?: string;
  readonly LEASE_HUB?: {
    getByName(name: string, options?: { locationHint: string }): LeaseHubStub;
  };
}

export interface EdgeConfig {
  readonly endpoints: Endpoints;
  /** Identities for writes, shared by all requests of the isolate. */
  readonly lanes: WriteLanes;
  readonly peers: readonly string[];
  readonly secret: string | undefined;
  readonly tokens: JwtVerifier | undefined;
  readonly rates: RateLimiter | undefined;
  readonly origins: readonly string[];
  readonly timeoutMilliseconds: number;
  readonly hubs: readonly string[];
  readonly platform: EdgePlatform;
  /** Undefined: reads aren't hedged, or there is one peer only. */
  readonly hedges: Hedges | undefined;
  /** What watches and links hold for their readers, together. */
  readonly readers: Readers;
  /** Undefined: no range has replicas. */
  readonly followed: FollowedRanges | undefined;
}

const known = new Map<string, EdgeConfig>();

/**
 * The settings of `env`. The peer that answered last is remembered with them, for as long as the
 * isolate lives.
 */
export function configOf(env: EdgeEnv): EdgeConfig {
  const { QUORATE_PEERS, QUORATE_SECRET, QUORATE_ORIGINS, QUORATE_TIMEOUT_MS } = env;
  const { QUORATE_HUB_SHARDS, QUORATE_JWT_KEYS, QUORATE_JWT_ISSUER, QUORATE_JWT_AUDIENCE } = env;
  const { QUORATE_RATE_PER_SECOND, QUORATE_HEDGE_MS, QUORATE_STALL_MS } = env;
  const identity = JSON.stringify([
    QUORATE_PEERS,
    QUORATE_SECRET,
    QUORATE_ORIGINS,
    QUORATE_TIMEOUT_MS,
    QUORATE_HUB_SHARDS,
    env.QUORATE_CLUSTER,
    env.QUORATE_VOTERS,
    env.QUORATE_MEMBERS,
    QUORATE_JWT_KEYS,
    QUORATE_JWT_ISSUER,
    QUORATE_JWT_AUDIENCE,
    QUORATE_RATE_PER_SECOND,
    QUORATE_HEDGE_MS,
    QUORATE_STALL_MS,
    env.QUORATE_REPLICAS,
    env.QUORATE_REPLICA_WAIT_MS,
    env.QUORATE_REPLICA_SHARDS,
  ]);
  const before = known.get(identity);
  if (before !== undefined) return before;
  const named = listOf(QUORATE_PEERS);
  if (named.length === 0 && env.PEER === undefined) {
    throw misconfigured("QUORATE_PEERS names no peer: set it to http://host:2379,...");
  }
  const urls = named.length > 0 ? named : peersOfThisWorker(env);
  const peers = urls.map((url) => url.replace(/\/+$/, ""));
  const rate = numberOf("QUORATE_RATE_PER_SECOND", QUORATE_RATE_PER_SECOND, {
    usual: 0,
    max: 1_000_000,
  });
  const shards = numberOf("QUORATE_HUB_SHARDS", QUORATE_HUB_SHARDS, { usual: 1, max: 1024 });
  const platform = platformOf(env);
  const config: EdgeConfig = {
    endpoints: new Endpoints(peers),
    lanes: new WriteLanes((count) => crypto.getRandomValues(new Uint8Array(count))),
    peers,
    secret: textOf(QUORATE_SECRET),
    tokens:
      textOf(QUORATE_JWT_KEYS) === undefined
        ? undefined
        : new JwtVerifier({
            keys: QUORATE_JWT_KEYS ?? "",
            issuer: textOf(QUORATE_JWT_ISSUER),
            audience: textOf(QUORATE_JWT_AUDIENCE),
          }),
    rates: rate === 0 ? undefined : new RateLimiter(rate),
    origins: listOf(QUORATE_ORIGINS),
    timeoutMilliseconds: numberOf("QUORATE_TIMEOUT_MS", QUORATE_TIMEOUT_MS, {
      usual: LIMITS.edgeTimeoutMilliseconds,
      max: LIMITS.edgeTimeoutMillisecondsMax,
    }),
    platform,
    hedges: peers.length < 2 ? undefined : hedgesOf(QUORATE_HEDGE_MS, platform),
    readers: new Readers({
      bytesMax: LIMITS.edgeReadersBytesMax,
      readerBytesMax: LIMITS.edgeReaderBytesMax,
      stallMilliseconds: numberOf("QUORATE_STALL_MS", QUORATE_STALL_MS, {
        usual: LIMITS.edgeStallMilliseconds,
        max: 24 * 60 * 60 * 1000,
      }),
      now: () => platform.now(),
    }),
    followed: followedOf(env),
    hubs: Array.from({ length: shards }, (_, shard) => `leases:${shard}`),
  };
  // A deployment has one configuration; tests have a few. Nothing grows with requests.
  if (known.size >= 16) known.clear();
  known.set(identity, config);
  return config;
}

function hedgesOf(text: string | undefined, platform: EdgePlatform): Hedges | undefined {
  if (text === "off") return undefined;
  const floorMilliseconds = numberOf("QUORATE_HEDGE_MS", text, {
    usual: LIMITS.hedgeFloorMilliseconds,
    max: LIMITS.edgeTimeoutMillisecondsMax,
  });
  return new Hedges({ floorMilliseconds, now: () => platform.now() });
}

/** Those that are Durable Objects of its own. */
function peersOfThisWorker(env: EdgeEnv): string[] {
  const hosted = hostedMembers(env);
  if (hosted.length === 0) return voterUrls(serverlessOf(env));
  return hosted.map(({ name }) => hostedUrl(name));
}

function followedOf(env: EdgeEnv): FollowedRanges | undefined {
  const names = listOf(env.QUORATE_REPLICAS);
  if (names.length === 0) return undefined;
  if (env.REPLICA === undefined) throw misconfigured("QUORATE_REPLICAS needs the binding REPLICA");
  const waitMilliseconds = numberOf("QUORATE_REPLICA_WAIT_MS", env.QUORATE_REPLICA_WAIT_MS, {
    usual: LIMITS.replicaWaitMilliseconds,
    max: LIMITS.edgeTimeoutMillisecondsMax,
  });
  const shards = numberOf("QUORATE_REPLICA_SHARDS", env.QUORATE_REPLICA_SHARDS, {
    usual: 1,
    max: 1024,
  });
  try {
    return new FollowedRanges(names, {
      cluster: serverlessOf(env).cluster,
      waitMilliseconds,
      shard: Math.floor(Math.random() * shards),
    });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw misconfigured(`QUORATE_REPLICAS: ${error.message}`);
  }
}

/** An empty setting is none. */
function textOf(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

function listOf(text: string | undefined): string[] {
  return (text ?? "")
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

function numberOf(
  name: string,
  text: string | undefined,
  bounds: { usual: number; max: number },
): number {
  if (text === undefined || text === "") return bounds.usual;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > bounds.max) {
    throw misconfigured(`${name} is a whole number from 1 to ${bounds.max}`);
  }
  return value;
}

export function misconfigured(text: string): RpcError {
  return new RpcError("failedPrecondition", `the edge is not configured: ${text}`);
}
