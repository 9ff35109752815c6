/**
 * Whom a member in a Durable Object takes for its cluster, and under which id; and that nothing
 * leaves it but from a turn that wrote storage.
 */
import { afterEach, describe, expect, test } from "vitest";
import { CLOSE } from "../../../../shared/peer/links/frame-link.ts";
import type { SocketLike } from "../../../../shared/client/platform.ts";
import type { Message } from "../../../../shared/raft/types.ts";
import type { ToldMember } from "../../../../shared/wire/peer-call.ts";
import { decodePeerFrame, encodePeerFrame } from "../../../../shared/wire/peer-codec.ts";
import type { PeerFrame, PeerHello } from "../../../../shared/wire/peer-codec.ts";
import { DurableMember } from "../../../../worker/durable/member.ts";
import { SocketLink } from "../../../../worker/durable/socket-link.ts";
import type { Sql } from "../../../../worker/durable/sql.ts";
import { NodeSql } from "../../../support/node-sql.ts";

const URL_OF_IT = "https://edge1.example.com:443";
/** Of another member of the same Worker. */
const OTHER_URL = "https://edge2.example.com:443";
const NODE: ToldMember = { id: 1n, name: "m1", peerUrls: ["https://m1.internal:2380"] };
const NEW: ToldMember = { id: 9n, name: "", peerUrls: [URL_OF_IT] };

/** Storage that knows whether something was written in this turn. */
class TurnSql implements Sql {
  readonly #sql = new NodeSql();
  isWritten = false;

  get databaseSize(): number {
    return this.#sql.databaseSize;
  }

  exec(...call: Parameters<Sql["exec"]>): ReturnType<Sql["exec"]> {
    if (!/^\s*SELECT/i.test(call[0])) {
      this.isWritten = true;
      setImmediate(() => {
        this.isWritten = false;
      });
    }
    return [...this.#sql.exec(...call)];
  }
}

/** A Node peer's end of a socket, which answers the question for the members. */
class Caller implements SocketLike {
  binaryType = "";
  readonly received: PeerFrame[] = [];
  closed: { code: number; reason: string } | undefined;
  /** Frames that left a turn without a write. */
  readonly unfenced: PeerFrame[] = [];
  readonly #told: readonly ToldMember[];
  readonly #sql: TurnSql;
  readonly #listeners = new Map<string, (event: { data?: unknown }) => void>();

  constructor(sql: TurnSql, told: readonly ToldMember[]) {
    this.#sql = sql;
    this.#told = told;
  }

  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.set(type, listener as (event: { data?: unknown }) => void);
  }

  send(bytes: Uint8Array): void {
    const frame = decodePeerFrame(bytes, { from: "9", to: "1" });
    if (frame.kind === "malformed") throw new Error(frame.reason);
    if (!this.#sql.isWritten) this.unfenced.push(frame);
    this.received.push(frame);
    if (frame.kind !== "call" || frame.call.kind !== "members") return;
    const reply = { kind: "members", members: this.#told } as const;
    queueMicrotask(() => this.say({ kind: "reply", id: frame.id, reply }));
  }

  close(code = 1000, reason = ""): void {
    this.closed = { code, reason };
  }

  say(frame: PeerFrame): void {
    const data = encodePeerFrame(frame).slice().buffer;
    this.#listeners.get("message")?.({ data });
  }

  kinds(): string[] {
    return this.received.map(({ kind }) => kind);
  }
}

const members: DurableMember[] = [];

afterEach(async () => {
  for (const member of members.splice(0)) await member.served?.peer.stop();
});

/** What it asks of its object when it can't go on as it is. */
interface Started {
  readonly member: DurableMember;
  readonly fatal: string[];
}

function start(sql: Sql): Started {
  const fatal: string[] = [];
  const member = new DurableMember({
    sql,
    member: { name: "edge1", url: URL_OF_IT },
    otherUrls: [OTHER_URL],
    secret: "s",
    tickMilliseconds: 20,
    report: () => {},
    onFatal: (error) => fatal.push(error.message),
  });
  members.push(member);
  return { member, fatal };
}

const HELLO: PeerHello = {
  version: 2,
  versionMin: 1,
  cluster: 7n,
  from: 1n,
  to: 9n,
  incarnation: 1,
  purpose: "messages",
  secret: "s",
};

/** A Node peer dials; `told`: whom it says to be the members. */
function dial(
  { member }: Started,
  sql: TurnSql,
  { hello = {}, told = [NODE, NEW] }: { hello?: Partial<PeerHello>; told?: ToldMember[] } = {},
): Caller {
  const caller = new Caller(sql, told);
  member.accept(caller);
  caller.say({ kind: "hello", hello: { ...HELLO, ...hello } });
  return caller;
}

async function adopted(sql: TurnSql): Promise<Started> {
  const started = start(sql);
  dial(started, sql);
  await expect.poll(() => started.member.served?.memberId, { timeout: 10_000 }).toBe(9n);
  return started;
}

describe("a member in a Durable Object", () => {
  test("becomes the member that it is dialled as, and still is after a restart", async () => {
    const sql = new TurnSql();
    const { member } = await adopted(sql);
    expect(member.served).toMatchObject({ clusterId: 7n, memberId: 9n });
    await member.served?.peer.stop();
    expect(start(sql).member.served).toMatchObject({ clusterId: 7n, memberId: 9n });
  });

  test.each([
    ["a wrong secret", { secret: "t" }, CLOSE.wrongSecret],
    ["another cluster", { cluster: 8n }, CLOSE.wrongCluster],
    ["another member", { to: 10n }, CLOSE.wrongMember],
    ["itself", { from: 9n }, CLOSE.wrongMember],
    ["a version that it doesn't speak", { version: 9, versionMin: 9 }, CLOSE.wrongVersion],
  ])("refuses a hello of %s", async (_, hello, code) => {
    const sql = new TurnSql();
    const started = await adopted(sql);
    const caller = dial(started, sql, { hello });
    expect(caller.closed?.code).toBe(code);
    expect(caller.kinds()).toEqual([]);
  });

  test.each([
    ["has run before, elsewhere", [{ ...NEW, name: "edge1" }], "has run before"],
    ["is at another URL", [{ ...NEW, peerUrls: [OTHER_URL] }], "peer URL"],
    ["doesn't exist", [{ ...NEW, id: 11n }], "no such member"],
    ["couldn't talk to another", [NEW, { ...NEW, id: 12n, peerUrls: [OTHER_URL] }], "dial each"],
  ])("doesn't become a member that %s", async (_, rows, reason) => {
    const sql = new TurnSql();
    const started = start(sql);
    const caller = dial(started, sql, { told: [NODE, ...rows] });
    await expect.poll(() => caller.closed?.reason, { timeout: 10_000 }).toContain(reason);
    expect(started.member.served).toBeUndefined();
  });

  test("never again becomes a member that it was: its votes and its log are gone", async () => {
    const sql = new TurnSql();
    const started = await adopted(sql);
    // The Node peers forgot to tell; they dial the one that was added after its removal.
    await started.member.served?.peer.stop();
    const again = start(sql);
    const other: ToldMember = { ...NEW, id: 10n };
    const caller = dial(again, sql, { hello: { to: 10n }, told: [NODE, other] });
    await expect.poll(() => caller.closed, { timeout: 10_000 }).toBeDefined();
    expect(again.member.served).toBeUndefined();
    // Its data are dropped where nothing reads them: in an object that has just started.
    const next = dial(again, sql, { hello: { to: 10n }, told: [NODE, other] });
    await expect.poll(() => again.fatal, { timeout: 10_000 }).toHaveLength(1);
    expect(next.kinds()).toEqual(["welcome", "call"]);

    // A lagging Node peer knows of neither the removal nor the new member.
    const fresh = start(sql);
    expect(dial(fresh, sql).closed?.code).toBe(CLOSE.wrongMember);
    expect(fresh.member.served).toBeUndefined();
    // The control: without the memory of former ids it would come back, and vote anew.
    for (const row of sql.exec("DELETE FROM former_member")) void row;
    dial(fresh, sql);
    await expect.poll(() => fresh.member.served?.memberId, { timeout: 10_000 }).toBe(9n);
  });
});

describe("what leaves a member's sockets", () => {
  const heartbeat = (round: number): Message => ({
    type: "heartbeat",
    from: "1",
    to: "9",
    term: 5,
    commit: 0,
    round,
  });

  test("leaves turns that wrote storage, answers to pings excepted", async () => {
    const sql = new TurnSql();
    const started = await adopted(sql);
    const caller = dial(started, sql);
    for (const round of [1, 2, 3]) {
      caller.say({ kind: "messages", messages: [heartbeat(round)] });
      const answers = () => caller.received.filter(({ kind }) => kind === "messages").length;
      await expect.poll(answers, { timeout: 10_000 }).toBeGreaterThanOrEqual(round);
    }
    expect(caller.unfenced).toEqual([]);
    await new Promise((resolve) => setImmediate(resolve));
    caller.say({ kind: "ping", number: 4 });
    expect(caller.received.at(-1)).toEqual({ kind: "pong", number: 4 });
  });

  test("would not, without the fence", () => {
    const sql = new TurnSql();
    const caller = new Caller(sql, []);
    const link = new SocketLink(caller, { beforeSend: () => {}, now: () => 0 });
    link.send({ kind: "messages", messages: [heartbeat(1)] });
    expect(caller.unfenced).toHaveLength(1);
  });
});
