/**
 * A peer as a Durable Object: a voter of a cluster of such objects alone, or a member of a cluster
 * of Node peers, as its name says. The edge opens links by `fetch`; voters call each other's
 * `deliver`, `ask` and `stream`, and Node peers come with an upgrade to `/raft`.
 *
 * A voter lives while it has work: an alarm starts it again, and with it the others, if the platform
 * put it away. A member beside Node peers is woken by their dialling.
 */
import { DurableObject } from "cloudflare:workers";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { LogLevel } from "../../shared/peer/host.ts";
import { PEER_PATH } from "../../shared/peer/links/frame-link.ts";
import type { CallContext } from "../../shared/peer/services.ts";
import type { EdgeEnv } from "../config.ts";
import { HttpError, problemResponse } from "../problem.ts";
import { serveDurableLink } from "./durable-link.ts";
import { LinkRoom } from "./link-room.ts";
import { hostedMembers, memberOfObject } from "./hosted-members.ts";
import { DurableMember } from "./member.ts";
import { startPeerNode, type PeerNode, type ServedPeer } from "./peer-node.ts";
import { serverlessOf, tickOf } from "./serverless-config.ts";
import type { Sql } from "./sql.ts";
import type { PeerStub } from "./stub-transport.ts";
import { votersOf } from "./voters.ts";

/** How long a cluster without callers may sleep at most. */
const WATCHDOG_MILLISECONDS = 30_000;

/** A member's tick is that of the Node peers beside it, whose default it is. */
const MEMBER_TICK_MILLISECONDS = 100;

const OPERATOR: CallContext = {
  timeoutMilliseconds: undefined,
  requireLeader: false,
  onCancel: () => undefined,
};

export class PeerObject extends DurableObject<EdgeEnv> implements PeerStub {
  readonly #room = new LinkRoom();
  /** One of the two. */
  readonly #voter: PeerNode | undefined;
  readonly #member: DurableMember | undefined;

  constructor(context: DurableObjectState, env: EdgeEnv) {
    super(context, env);
    const name = context.id.name ?? "";
    const member = memberOfObject(name, env);
    const { sql } = context.storage;
    const parts = {
      sql: {
        exec: (query, ...bindings) => sql.exec(query, ...bindings),
        get databaseSize() {
          return sql.databaseSize;
        },
      } satisfies Sql,
      report: (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => {
        if (level !== "debug") console.log(lineOf({ level, peer: name, message, ...fields }));
      },
      onFatal: (error: Error) => {
        console.error(lineOf({ level: "error", peer: name, message: error.message }));
        context.abort(error.message);
      },
    };
    if (member !== undefined) {
      this.#member = new DurableMember({
        ...parts,
        member,
        otherUrls: hostedMembers(env)
          .filter((each) => each.name !== member.name)
          .map(({ url }) => url),
        secret: env.QUORATE_PEER_SECRET ?? "",
        tickMilliseconds: tickOf(env, MEMBER_TICK_MILLISECONDS),
      });
      return;
    }
    const { cluster, voters, tickMilliseconds } = serverlessOf(env);
    this.#voter = startPeerNode({
      ...parts,
      voters: votersOf(cluster, voters),
      name,
      tickMilliseconds,
      stubOf: (to) => {
        if (env.PEER === undefined) throw new Error("the binding PEER is missing");
        return env.PEER.getByName(to);
      },
    });
    void context.storage.setAlarm(Date.now() + WATCHDOG_MILLISECONDS);
  }

  deliver(from: string, frame: Bytes): Promise<void> {
    return this.#receiver.deliver(from, frame);
  }

  ask(from: string, frame: Bytes): Promise<Bytes> {
    return this.#receiver.ask(from, frame);
  }

  stream(from: string, frame: Bytes): Promise<void> {
    return this.#receiver.stream(from, frame);
  }

  /** Starts the object anew, as a deploy does: what is not durable is gone. For operators and tests. */
  restart(): void {
    this.ctx.abort("restarted by its operator");
  }

  /** The hash of the data at a revision, as Maintenance.HashKV has it. For operators and tests. */
  async hashKv(revision: number): Promise<{ hash: number; compactRevision: number }> {
    const { hash, compactRevision } = await this.#served.peer.services.maintenance.hashKv(
      revision,
      OPERATOR,
    );
    return { hash, compactRevision };
  }

  override async fetch(request: Request): Promise<Response> {
    try {
      if (new URL(request.url).pathname === PEER_PATH) return this.#answerMember(request);
      return await serveDurableLink(this.#served, request, this.#room);
    } catch (error) {
      return problemResponse(error);
    }
  }

  override async alarm(): Promise<void> {
    if (this.#voter === undefined) return;
    await this.ctx.storage.setAlarm(Date.now() + WATCHDOG_MILLISECONDS);
  }

  /** The Worker has checked who comes. */
  #answerMember(request: Request): Response {
    const member = this.#member;
    if (member === undefined) throw new HttpError(404, "voters call each other by stubs");
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return Response.json(member.describe(), { headers: { "cache-control": "no-store" } });
    }
    const { 0: client, 1: server } = new WebSocketPair();
    server.accept();
    member.accept(server);
    return new Response(null, { status: 101, webSocket: client });
  }

  get #served(): ServedPeer {
    const served = this.#voter ?? this.#member?.served;
    if (served === undefined) throw new HttpError(503, this.#member?.reason ?? "");
    return served;
  }

  get #receiver(): PeerStub {
    if (this.#voter === undefined) throw new Error("the object is no voter");
    return this.#voter.receiver;
  }
}

/** A line of the log; ids are 64 bits, which JSON's numbers don't hold. */
function lineOf(fields: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(fields, (_name, value: unknown) =>
    typeof value === "bigint" ? value.toString(16) : value,
  );
}
