/**
 * The edge as its suites see it, wherever it runs: requests go in, responses come out. Two ways to
 * start one: the Worker in local workerd, and the same app on Node.
 */

import type { IncomingHttpHeaders } from "node:http";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { WORKER_NAME, startEdge } from "../../node-runner/start/edge.ts";
import type { EdgeOptions } from "../../node-runner/start/edge.ts";
import type { ReplicaStatus } from "../../shared/replica/replica.ts";
import { connect } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";
import { createApp } from "../../worker/app.ts";
import { checkDescribed } from "./described.ts";
import { freePorts } from "../support/ports.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";

const EVICTABLE = join(import.meta.dirname, "..", "worker", "evictable.ts");

/** The edge's variables, without its peers. */
export type EdgeVariables = Readonly<Record<string, string>>;

export interface Edge {
  /** `path` begins with a slash. Fails loudly when no answer comes in a minute. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** The answer to a WebSocket's upgrade that the runtime can't serve. */
  refusedUpgrade(path: string): Promise<Response>;
  /** GET with another Host header than loopback's; its status. */
  statusAtHost(host: string, path: string): Promise<number>;
  /** Where it listens; absent on runtimes that serve no sockets here. */
  readonly url: string | undefined;
  stop(): Promise<void>;
}

export type StartEdge = (peers: readonly string[], variables?: EdgeVariables) => Promise<Edge>;

const ANSWER_MILLISECONDS = 60_000;

/** For an edge whose answers are what is tested: an election on a slow machine takes its time. */
export const PATIENT: EdgeVariables = { QUORATE_TIMEOUT_MS: "30000" };

/** For voters that elect and beat faster than those that are paid for. */
export const FAST: EdgeVariables = { QUORATE_TICK_MS: "50" };

/** While voters elect one of them the edge is not healthy; they do so within seconds. */
export async function untilHealthy(edge: Pick<Edge, "fetch">): Promise<void> {
  const answer = await answered(() => edge.fetch("/healthz"));
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`not healthy: ${text}`);
}

/** The first answer that is none of the cluster's state: calls may fail while it elects. */
export async function answered(ask: () => Promise<Response>): Promise<Response> {
  const until = Date.now() + ANSWER_MILLISECONDS;
  for (;;) {
    const response = await ask();
    if (response.status < 500 || Date.now() > until) return response;
    await response.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A Durable Object of the Worker that tests abort and ask. */
interface TestedObject {
  restart(): Promise<void>;
  status(): Promise<ReplicaStatus>;
  hashKv(revision: number): Promise<{ hash: number }>;
}

/** The Worker that `wrangler deploy` publishes, in local workerd. */
export const startWorkerd = async (
  peers: readonly string[],
  variables: EdgeVariables = {},
): Promise<Edge> => {
  const [port = 0] = await freePorts(1);
  const dataDir = makeTempDir("edge");
  const running = await startEdge({ port, peers, dataDir, variables });
  return {
    ...edgeAt(port),
    async stop() {
      await running.stop();
      removeTempDir(dataDir);
    },
  };
};

/** An edge whose objects a test strikes. Names are the objects' own. */
export interface StruckEdge extends Edge {
  /** What a replica tells of itself. */
  replica(name: string): Promise<ReplicaStatus>;
  /** The hash of a peer's data at a revision. */
  hashKv(name: string, revision: number): Promise<number>;
  /** Throws its memory away in the middle of whatever it does; callers see their calls fail. */
  abort(object: Struck, name: string): Promise<void>;
  /** Nothing of the object is pending any more, and nothing comes: only an eviction or an abort ends that. */
  still(object: Struck, name: string): Promise<boolean>;
  /**
   * The platform's own eviction, once the object has nothing pending (`../worker/evictable.ts`): false when some call
   * held it too long. This process stands still meanwhile.
   */
  evict(object: Struck, name: string): Promise<boolean>;
}

export type Struck = "PEER" | "REPLICA";

const CLASS_OF = { PEER: "PeerObject", REPLICA: "Replica" } as const;

/** The Worker with objects that can be evicted. `dataDir` is the caller's. */
export async function startEvictable(
  options: Pick<EdgeOptions, "peers" | "environment" | "variables" | "dataDir"> & { port?: number },
): Promise<StruckEdge> {
  const port = options.port ?? (await freePorts(1))[0] ?? 0;
  const running = await startEdge({ ...options, port, entry: EVICTABLE });
  const { runtime } = running;
  const edge = edgeAt(port);
  const objectAt = async (object: Struck, name: string): Promise<TestedObject> => {
    const objects = await runtime.getDurableObjectNamespace(object);
    return objects.getByName(name) as unknown as TestedObject;
  };
  const still = async (object: Struck, name: string): Promise<boolean> => {
    const path = `/still/${object}/${encodeURIComponent(name)}`;
    const answer = await edge.fetch(path, { method: "POST" });
    await answer.body?.cancel();
    return answer.status === 200;
  };
  return {
    ...edge,
    replica: async (name) => (await objectAt("REPLICA", name)).status(),
    hashKv: async (name, revision) => (await (await objectAt("PEER", name)).hashKv(revision)).hash,
    async abort(object, name) {
      // It dies in the middle of the call.
      await (await objectAt(object, name)).restart().catch(() => undefined);
    },
    still,
    async evict(object, name) {
      if (!(await still(object, name))) return false;
      return runtime.unsafeEvictDurableObject(WORKER_NAME, CLASS_OF[object], { name }).then(
        () => true,
        (error: unknown) => {
          console.log(`${name} was not evicted: ${String(error)}`);
          return false;
        },
      );
    },
    stop: () => running.stop(),
  };
}

/** An edge that listens on this port of this machine. */
export function edgeAt(
  port: number,
): Pick<Edge, "url" | "fetch" | "refusedUpgrade" | "statusAtHost"> {
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    fetch: (path, init = {}) => fetch(url + path, withLimit(init)),
    refusedUpgrade: (path) => refusedUpgrade({ port, path }),
    statusAtHost: (host, path) => statusAtHost({ port, host, path }),
  };
}

/** The Worker whose peers are Durable Objects of its own, in local workerd. `dataDir` is the caller's. */
export async function startServerless(
  dataDir: string,
  variables: EdgeVariables = {},
): Promise<Edge> {
  const [port = 0] = await freePorts(1);
  const running = await startEdge({ port, peers: "durable", dataDir, variables });
  return { ...edgeAt(port), stop: () => running.stop() };
}

/** The same app on Node, without lease hubs. */
export const startOnNode: StartEdge = (peers, variables = {}) => {
  const app = createApp();
  const env = { ...variables, QUORATE_PEERS: peers.join(",") };
  const ask = async (url: string, init: RequestInit): Promise<Response> => {
    const response = await app.fetch(new Request(url, withLimit(init)), env);
    checkDescribed(url, init.method ?? "GET", response);
    return response;
  };
  return Promise.resolve({
    url: undefined,
    fetch: (path, init = {}) => ask(`http://127.0.0.1:8787${path}`, init),
    refusedUpgrade: (path) =>
      ask(`http://127.0.0.1:8787${path}`, { headers: { upgrade: "websocket" } }),
    statusAtHost: async (host, path) => {
      const response = await ask(`http://${host}${path}`, {});
      await response.body?.cancel();
      return response.status;
    },
    stop: () => Promise.resolve(),
  });
};

export function withLimit(init: RequestInit): RequestInit {
  return { signal: AbortSignal.timeout(ANSWER_MILLISECONDS), ...init };
}

/** Asks for a WebSocket by hand: `fetch` sends no upgrades. Throws when it is served. */
export function refusedUpgrade(to: { port: number; path: string }): Promise<Response> {
  const headers = { connection: "upgrade", upgrade: "websocket" };
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: "127.0.0.1", ...to, headers });
    request.once("error", reject);
    request.once("upgrade", () => reject(new Error("the upgrade was served")));
    request.once("response", (response) => {
      const parts: Uint8Array[] = [];
      response.on("data", (part: Uint8Array) => parts.push(part));
      response.once("end", () => {
        const type = response.headers["content-type"] ?? "";
        const init = { status: response.statusCode ?? 0, headers: { "content-type": type } };
        resolve(new Response(Buffer.concat(parts), init));
      });
    });
    request.end();
  });
}

export function statusAtHost(to: { port: number; host: string; path: string }): Promise<number> {
  const { port, host, path } = to;
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: "127.0.0.1", port, path, headers: { host } });
    request.once("error", reject);
    request.once(
      "response",
      (response: { statusCode?: number; headers: IncomingHttpHeaders; resume(): void }) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    request.end();
  });
}

/** An error as problem JSON, checked to be a whole one. */
export interface Problem {
  readonly status: number;
  readonly title: string;
  readonly retryable: boolean;
  readonly outcome: "none" | "unknown";
  readonly revision?: number;
  readonly current?: { readonly value: string; readonly modRevision: number } | null;
}

/** The problem that a response carries; throws with the body when it is none. */
export async function problemOf(response: Response, status: number): Promise<Problem> {
  const text = await response.text();
  const type = response.headers.get("content-type");
  if (response.status !== status || type !== "application/problem+json") {
    throw new Error(`wanted problem ${status}, got ${response.status} ${type}: ${text}`);
  }
  const problem = JSON.parse(text) as Problem;
  const whole =
    problem.status === status &&
    typeof problem.title === "string" &&
    typeof problem.retryable === "boolean" &&
    (problem.outcome === "none" || problem.outcome === "unknown");
  if (!whole) throw new Error(`not a whole problem: ${text}`);
  return problem;
}

/** The JSON of a response with this status; throws with the body when it has another. */
export async function jsonOf<Body>(response: Response, status = 200): Promise<Body> {
  const text = await response.text();
  if (response.status !== status) {
    throw new Error(`wanted ${status}, got ${response.status}: ${text}`);
  }
  return JSON.parse(text) as Body;
}

/** A client of the edge: over its sockets where it has some, else by POST. */
export async function withClient(
  edge: Edge,
  use: (store: Store<string>) => Promise<void>,
): Promise<void> {
  const store =
    edge.url === undefined
      ? connect({
          edge: "http://edge.invalid",
          transport: "post",
          platform: {
            fetch: (url, init) => edge.fetch(new URL(url).pathname, init),
          },
        })
      : connect({ edge: edge.url });
  try {
    await use(store);
  } finally {
    store.close();
  }
}
