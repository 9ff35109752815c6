/**
 * The Worker with objects that can be evicted at any time. workerd evicts an object only while nothing of it is
 * pending, and a voter's next tick, a replica's feed and a member's links always are. `still` takes that from an
 * object: its timers are called off, its sockets closed, and no new ones come. What follows - memory, timers and
 * sockets gone, storage kept, stubs that never notice - is the platform's own eviction.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { DurableObject } from "cloudflare:workers";
import type { EdgeEnv } from "../../worker/config.ts";
import { PeerObject as Peer } from "../../worker/durable/peer-object.ts";
import app from "../../worker/index.ts";
import { Replica as ProductionReplica } from "../../worker/replica/replica-object.ts";

export { LeaseHub } from "../../worker/lease-hub.ts";
export { StoreEntrypoint } from "../../worker/store-entrypoint.ts";

/** What an object has pending. */
class Pending {
  readonly timers = new Set<ReturnType<typeof setTimeout>>();
  readonly sockets = new Set<WebSocket>();
  isStill = false;

  still(): void {
    this.isStill = true;
    for (const timer of this.timers) clearTimeout(timer);
    for (const socket of this.sockets) this.close(socket);
  }

  close(socket: WebSocket): void {
    try {
      socket.close(1001, "evicted");
    } catch {
      // It has closed by itself.
    }
  }
}

/** Whose code runs just now. */
const owner = new AsyncLocalStorage<Pending>();

const realSetTimeout = globalThis.setTimeout;
const RealPair = WebSocketPair;
const RealSocket = WebSocket;

/** Of no meaning to `clearTimeout`. */
const NO_TIMER = 0 as unknown as ReturnType<typeof setTimeout>;

Object.assign(globalThis, {
  setTimeout(callback: () => void, milliseconds = 0): ReturnType<typeof setTimeout> {
    const pending = owner.getStore();
    // What is put off to the next turn is no waiting.
    if (pending === undefined || milliseconds === 0) return realSetTimeout(callback, milliseconds);
    if (pending.isStill) return NO_TIMER;
    const timer = realSetTimeout(() => {
      pending.timers.delete(timer);
      callback();
    }, milliseconds);
    pending.timers.add(timer);
    return timer;
  },
  WebSocketPair: function WebSocketPair() {
    const pair = new RealPair();
    watch(pair[1]);
    return pair;
  },
  WebSocket: function WebSocket(url: string) {
    const socket = new RealSocket(url);
    watch(socket);
    return socket;
  },
});

function watch(socket: WebSocket): void {
  const pending = owner.getStore();
  if (pending === undefined) return;
  pending.sockets.add(socket);
  socket.addEventListener("close", () => pending.sockets.delete(socket));
  // Its events are the object's, too.
  const add = socket.addEventListener.bind(socket) as (type: string, listener: unknown) => void;
  const addOwned = (type: string, listener: (event: unknown) => void): void => {
    add(type, (event: unknown) => owner.run(pending, () => listener(event)));
  };
  Object.defineProperty(socket, "addEventListener", { value: addOwned });
  if (pending.isStill) pending.close(socket);
}

/** The class with a method `still`, its objects each in a context of its own. */
function evictable(
  Production: new (context: DurableObjectState, env: EdgeEnv) => object,
): new (context: DurableObjectState, env: EdgeEnv) => DurableObject<EdgeEnv> {
  class Evictable extends DurableObject<EdgeEnv> {
    readonly pending = new Pending();
    readonly inner: object;

    constructor(context: DurableObjectState, env: EdgeEnv) {
      super(context, env);
      if ("QUORATE_FORGETFUL" in env) forget(context.storage.sql);
      this.inner = owner.run(this.pending, () => new Production(context, env));
    }

    still(): void {
      this.pending.still();
    }
  }
  for (const name of Object.getOwnPropertyNames(Production.prototype)) {
    if (name === "constructor") continue;
    const method: unknown = Object.getOwnPropertyDescriptor(Production.prototype, name)?.value;
    if (typeof method !== "function") continue;
    Object.defineProperty(Evictable.prototype, name, {
      value(this: Evictable, ...values: unknown[]): unknown {
        if (name === "fetch" && this.pending.isStill) return new Response(null, { status: 503 });
        return owner.run(this.pending, () => method.apply(this.inner, values) as unknown);
      },
    });
  }
  return Evictable;
}

/** For controls: objects that begin with nothing. */
function forget(sql: SqlStorage): void {
  const query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB '_cf_*'";
  for (const { name } of sql.exec<{ name: string }>(query).toArray()) {
    if (!name.startsWith("sqlite_")) sql.exec(`DROP TABLE "${name}"`);
  }
}

export const PeerObject = evictable(Peer);
export const Replica = evictable(ProductionReplica);

/** `POST /still/<binding>/<name>`; all else is the app's. */
export default {
  async fetch(request: Request, env: EdgeEnv, context: ExecutionContext): Promise<Response> {
    const match = /^\/still\/(PEER|REPLICA)\/(.+)$/.exec(new URL(request.url).pathname);
    if (match === null) return app.fetch(request, env, context);
    const objects = env[match[1] as "PEER" | "REPLICA"] as unknown as {
      getByName(name: string): { still(): Promise<void> };
    };
    await objects.getByName(decodeURIComponent(match[2] ?? "")).still();
    return new Response("still");
  },
};
