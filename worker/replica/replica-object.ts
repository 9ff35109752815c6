/**
 * A replica as a Durable Object: `shared/replica` over its SQLite, fed by one link to the peers that it opens itself.
 * The edge's Workers reach it by `fetch`, as they reach a peer. It needs nothing but its storage to go on after an
 * eviction; an alarm starts it again while somebody watches, and one that nobody asks for a while rests, so that it
 * costs nothing.
 */
import { DurableObject } from "cloudflare:workers";
import { LIMITS } from "../../shared/base/limits.ts";
import { Endpoints } from "../../shared/client/endpoints.ts";
import { LinkCaller } from "../../shared/client/link-caller.ts";
import { Replica as ReplicaCore } from "../../shared/replica/replica.ts";
import type { ReplicaStatus } from "../../shared/replica/replica.ts";
import { REPLICA_TIMING } from "../../shared/replica/replica-host.ts";
import { configOf } from "../config.ts";
import type { EdgeEnv } from "../config.ts";
import { serveDurableLink } from "../durable/durable-link.ts";
import { LinkRoom } from "../durable/link-room.ts";
import { SqlBackend } from "../durable/sql-backend.ts";
import { HttpError, problemResponse } from "../problem.ts";
import { partsOfName, spanOf } from "./followed.ts";

export class Replica extends DurableObject<EdgeEnv> {
  readonly #core: ReplicaCore;
  readonly #room = new LinkRoom();
  #askedAt = Date.now();
  #isGuarded = false;

  constructor(context: DurableObjectState, env: EdgeEnv) {
    super(context, env);
    const name = context.id.name ?? "";
    const parts = partsOfName(name);
    if (parts === undefined) throw new TypeError(`${JSON.stringify(name)} is no replica's name`);
    const { sql } = context.storage;
    const [incarnation = 0n] = crypto.getRandomValues(new BigUint64Array(1));
    this.#core = new ReplicaCore({
      ...spanOf(parts.range),
      backend: new SqlBackend({
        exec: (query, ...bindings) => sql.exec(query, ...bindings),
        get databaseSize() {
          return sql.databaseSize;
        },
      }),
      host: {
        now: () => Date.now(),
        random: () => Math.random(),
        schedule(milliseconds, callback) {
          const timer = setTimeout(callback, milliseconds);
          return () => clearTimeout(timer);
        },
        defer: (callback) => void setTimeout(callback, 0),
        report: (level, message, fields) => {
          console.log(JSON.stringify({ level, replica: name, message, ...fields }));
        },
      },
      timing: REPLICA_TIMING,
      incarnation,
      openSource: sourceOf(env),
      fatal: (error) => {
        const text = error instanceof Error ? error.message : String(error);
        console.error(JSON.stringify({ level: "error", replica: name, message: text }));
        context.abort(text);
      },
    });
    this.#follow();
  }

  override async fetch(request: Request): Promise<Response> {
    this.#askedAt = Date.now();
    this.#follow();
    const { clusterId, incarnation, services } = this.#core;
    if (clusterId === undefined) {
      return problemResponse(new HttpError(503, "the replica copies its range: ask the peers"));
    }
    const node = { clusterId, memberId: incarnation, peer: { services }, fence: NO_FENCE };
    return serveDurableLink(node, request, this.#room);
  }

  /** For operators and tests. */
  status(): ReplicaStatus {
    return this.#core.status;
  }

  /** Starts the object anew, as a deploy does. For operators and tests. */
  restart(): void {
    this.ctx.abort("restarted by its operator");
  }

  override async alarm(): Promise<void> {
    this.#isGuarded = false;
    const { watchers } = this.#core.status;
    const isWanted = watchers > 0 || Date.now() - this.#askedAt < LIMITS.replicaIdleMilliseconds;
    if (isWanted) this.#follow();
    else this.#core.stop();
  }

  #follow(): void {
    this.#core.start();
    if (this.#isGuarded) return;
    this.#isGuarded = true;
    void this.ctx.storage.setAlarm(Date.now() + LIMITS.replicaWatchdogMilliseconds);
  }
}

/** Its answers rest on its storage, which it reads in the same turn: no write need hold them back. */
const NO_FENCE = { pass: (): void => undefined };

/** Links to the peers, from one of them on that chance has chosen, so that replicas spread. */
function sourceOf(env: EdgeEnv): ConstructorParameters<typeof ReplicaCore>[0]["openSource"] {
  const { peers, platform, lanes, secret, timeoutMilliseconds } = configOf(env);
  const first = Math.floor(Math.random() * peers.length);
  const endpoints = new Endpoints([...peers.slice(first), ...peers.slice(0, first)]);
  return (welcomed) =>
    new LinkCaller({
      endpoints,
      lanes,
      platform,
      role: "edge",
      token: secret ?? "",
      timeoutMilliseconds,
      answeredBy: welcomed,
    });
}
