/**
 * A voter as a Durable Object. Other members call `deliver`, `ask` and `stream`; the edge opens
 * links by `fetch`. It lives while it has work: an alarm starts it again, and with it the others, if
 * the platform put it away.
 */
import { DurableObject } from "cloudflare:workers";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { EdgeEnv } from "../config.ts";
import { serveDurableLink } from "./durable-link.ts";
import { startPeerNode, type PeerNode } from "./peer-node.ts";
import { serverlessOf } from "./serverless-config.ts";
import type { PeerStub } from "./stub-transport.ts";
import { votersOf } from "./voters.ts";

/** How long a cluster without callers may sleep at most. */
const WATCHDOG_MILLISECONDS = 30_000;

export class PeerObject extends DurableObject<EdgeEnv> implements PeerStub {
  readonly #node: PeerNode;

  constructor(context: DurableObjectState, env: EdgeEnv) {
    super(context, env);
    const { cluster, voters, tickMilliseconds } = serverlessOf(env);
    const name = context.id.name ?? "";
    const { sql } = context.storage;
    this.#node = startPeerNode({
      sql: {
        exec: (query, ...bindings) => sql.exec(query, ...bindings),
        get databaseSize() {
          return sql.databaseSize;
        },
      },
      voters: votersOf(cluster, voters),
      name,
      tickMilliseconds,
      stubOf: (to) => {
        if (env.PEER === undefined) throw new Error("the binding PEER is missing");
        return env.PEER.getByName(to);
      },
      report: (level, message, fields) => {
        if (level !== "debug")
          console.log(JSON.stringify({ level, peer: name, message, ...fields }));
      },
      onFatal: (error) => {
        console.error(JSON.stringify({ level: "error", peer: name, message: error.message }));
        context.abort(error.message);
      },
    });
    void context.storage.setAlarm(Date.now() + WATCHDOG_MILLISECONDS);
  }

  deliver(from: string, frame: Bytes): Promise<void> {
    return this.#node.receiver.deliver(from, frame);
  }

  ask(from: string, frame: Bytes): Promise<Bytes> {
    return this.#node.receiver.ask(from, frame);
  }

  stream(from: string, frame: Bytes): Promise<void> {
    return this.#node.receiver.stream(from, frame);
  }

  /** Starts the object anew, as a deploy does: what is not durable is gone. For operators and tests. */
  restart(): void {
    this.ctx.abort("restarted by its operator");
  }

  override fetch(request: Request): Promise<Response> {
    return serveDurableLink(this.#node, request);
  }

  override async alarm(): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now() + WATCHDOG_MILLISECONDS);
  }
}
