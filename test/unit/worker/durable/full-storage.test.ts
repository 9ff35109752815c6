/**
 * Voters in Durable Objects whose storage is full: SQLite throws on every write. Such a voter stops
 * and acknowledges nothing; the others go on while they are a majority; once there is room again,
 * everything that was acknowledged is there. In the control the storage swallows writes instead.
 */
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test } from "vitest";
import { EMPTY, textOf, utf8 } from "../../../../shared/base/bytes.ts";
import { wholeRange } from "../../../../shared/mvcc/types.ts";
import { encodeCallFrame, joinFrames } from "../../../../shared/wire/link-codec.ts";
import { LINK_VERSION } from "../../../../shared/wire/link.ts";
import { serveDurableLink } from "../../../../worker/durable/durable-link.ts";
import { LinkRoom } from "../../../../worker/durable/link-room.ts";
import { startPeerNode } from "../../../../worker/durable/peer-node.ts";
import type { PeerNode } from "../../../../worker/durable/peer-node.ts";
import type { Sql, SqlValue } from "../../../../worker/durable/sql.ts";
import type { PeerStub } from "../../../../worker/durable/stub-transport.ts";
import { votersOf } from "../../../../worker/durable/voters.ts";
import { PATIENT_CALL } from "../../../support/in-process-cluster.ts";
import { NodeSql } from "../../../support/node-sql.ts";

const FULL = "database or disk is full: SQLITE_FULL";
const PATIENT = { timeout: 30_000 };

/**
 * An object's storage: the statements of a turn commit together, and what leaves the object waits
 * for that.
 */
class Storage implements Sql {
  /** `full`: writes throw. `swallows`: they are dropped, as nothing real does. */
  state: "open" | "full" | "swallows" = "open";
  readonly #database = new DatabaseSync(":memory:");
  readonly #sql = new NodeSql(this.#database);
  #turn: Promise<void> | undefined;

  get databaseSize(): number {
    return this.#sql.databaseSize;
  }

  exec(query: string, ...bindings: SqlValue[]): ReturnType<Sql["exec"]> {
    if (/^\s*SELECT/i.test(query)) return this.#sql.exec(query, ...bindings);
    if (this.state === "full") throw new Error(FULL);
    if (this.state === "swallows") return [];
    if (this.#turn === undefined) {
      this.#database.exec("BEGIN");
      this.#turn = new Promise((resolve) => {
        setImmediate(() => {
          this.#end("COMMIT");
          resolve();
        });
      });
    }
    return this.#sql.exec(query, ...bindings);
  }

  /** The output gate. */
  async durable(): Promise<void> {
    await this.#turn;
  }

  /** The object is aborted: what its turn has written is gone. */
  abort(): void {
    this.#end("ROLLBACK");
  }

  #end(how: "COMMIT" | "ROLLBACK"): void {
    if (this.#turn === undefined) return;
    this.#turn = undefined;
    this.#database.exec(how);
  }
}

interface Member {
  readonly name: string;
  readonly storage: Storage;
  node: PeerNode;
  /** Why it stopped. */
  fatal: Error | undefined;
}

const running: Member[] = [];
afterEach(async () => {
  for (const { storage } of running) storage.state = "open";
  await Promise.all(running.splice(0).map(({ node }) => node.peer.stop()));
});

/** All voters of a cluster, calling each other as stubs do. */
function startCluster(voters: number): Member[] {
  const members: Member[] = [];
  for (const { name } of votersOf("c", voters).members) {
    const storage = new Storage();
    const node = startNode(name, storage, { voters, members });
    members.push({ name, storage, node, fatal: undefined });
  }
  running.push(...members);
  return members;
}

function startNode(
  name: string,
  storage: Storage,
  { voters, members }: { readonly voters: number; readonly members: readonly Member[] },
): PeerNode {
  const own = (): Member | undefined => members.find((each) => each.name === name);
  // What leaves an object that was aborted is never sent.
  const leaves = async (): Promise<void> => {
    await storage.durable();
    if (own()?.fatal !== undefined) throw new Error("the object was aborted");
  };
  const stubOf = (to: string): PeerStub => {
    const target = (): PeerStub => {
      const member = members.find((each) => each.name === to);
      if (member === undefined || member.fatal !== undefined) throw new Error("nobody there");
      return member.node.receiver;
    };
    return {
      deliver: (...frame) => leaves().then(() => target().deliver(...frame)),
      ask: (...frame) => leaves().then(() => target().ask(...frame)),
      stream: (...frame) => leaves().then(() => target().stream(...frame)),
    };
  };
  return startPeerNode({
    sql: storage,
    voters: votersOf("c", voters),
    name,
    tickMilliseconds: 20,
    stubOf,
    report: () => undefined,
    onFatal: (error) => {
      const member = own();
      if (member !== undefined) member.fatal ??= error;
      storage.abort();
    },
  });
}

/** What the platform does with an object that was aborted: it starts anew on its storage. */
async function restart(member: Member, members: readonly Member[]): Promise<void> {
  await member.node.peer.stop();
  member.storage.state = "open";
  member.fatal = undefined;
  member.node = startNode(member.name, member.storage, { voters: members.length, members });
}

async function put({ node, storage }: Member, key: string): Promise<"acknowledged"> {
  const op = { kind: "put", key: utf8(key), value: utf8(key), lease: 0n } as const;
  const rest = { previousKv: false, ignoreValue: false, ignoreLease: false };
  await node.peer.services.kv.put({ ...op, ...rest }, PATIENT_CALL);
  node.fence.pass();
  await storage.durable();
  return "acknowledged";
}

async function get({ node, storage }: Member, key: string): Promise<string | undefined> {
  const range = wholeRange(utf8(key), EMPTY);
  const answer = await node.peer.services.kv.range(range, { serializable: false }, PATIENT_CALL);
  node.fence.pass();
  await storage.durable();
  const [kv] = answer.kvs;
  return kv === undefined ? undefined : textOf(kv.value);
}

/** What a write came to, and "stopped" if its member stopped before it was told. */
async function outcomeOf(member: Member, written: Promise<string>): Promise<string> {
  let outcome = "";
  written.then(
    (told) => (outcome = told),
    () => (outcome = "refused"),
  );
  await expect.poll(() => outcome !== "" || member.fatal !== undefined, PATIENT).toBe(true);
  return outcome === "acknowledged" ? outcome : "stopped";
}

const only = (members: readonly Member[]): Member => members[0] as Member;

describe("a voter whose storage is full", () => {
  test("stops without an acknowledgement, and has all that it acknowledged once there is room", async () => {
    const members = startCluster(1);
    const member = only(members);
    await member.node.peer.ready();
    await put(member, "before");
    member.storage.state = "full";
    expect(await outcomeOf(member, put(member, "during"))).toBe("stopped");
    expect(member.fatal?.message).toBe(FULL);
    await expect(get(member, "before")).rejects.toThrow();
    await restart(member, members);
    await member.node.peer.ready();
    expect(await get(member, "before")).toBe("before");
    expect(await get(member, "during")).toBeUndefined();
    expect(await put(member, "after")).toBe("acknowledged");
  });

  test("negative control: one whose storage swallows writes acknowledges what is then lost", async () => {
    const members = startCluster(1);
    const member = only(members);
    await member.node.peer.ready();
    member.storage.state = "swallows";
    expect(await outcomeOf(member, put(member, "during"))).toBe("acknowledged");
    await restart(member, members);
    await member.node.peer.ready();
    expect(await get(member, "during")).toBeUndefined();
  });

  test("answers no read either: what proves that it is the only one can't be written", async () => {
    const member = only(startCluster(1));
    await member.node.peer.ready();
    await put(member, "before");
    member.storage.state = "full";
    await expect(get(member, "before")).rejects.toThrow();
    await expect.poll(() => member.fatal?.message, PATIENT).toBe(FULL);
  });

  test("tells a link's caller by a whole problem, and a write's outcome as unknown", async () => {
    const member = only(startCluster(1));
    await member.node.peer.ready();
    member.storage.state = "full";
    const request = { method: "status" } as const;
    const call = { kind: "call", id: 1, timeoutMilliseconds: 5000, requireLeader: true } as const;
    const frames = [
      { kind: "hello", version: LINK_VERSION, role: "edge", token: "" } as const,
      { ...call, identity: undefined, request },
    ];
    const answer = await serveDurableLink(
      member.node,
      new Request("http://peer/link", {
        method: "POST",
        headers: { "content-type": "application/cbor" },
        body: Uint8Array.from(joinFrames(frames.map(encodeCallFrame))),
      }),
      new LinkRoom(),
    );
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(await answer.json()).toMatchObject({ status: 500, outcome: "unknown" });
    expect(member.fatal?.message).toBe(FULL);
  });

  test("leaves the cluster to the others while they are a majority (3 voters)", async () => {
    const members = startCluster(3);
    await Promise.all(members.map(({ node }) => node.peer.ready()));
    const [first, second, third] = members as [Member, Member, Member];
    expect(await put(first, "by all")).toBe("acknowledged");
    third.storage.state = "full";
    // Its part in this write is what stops it, or the fence of its next message.
    await expect.poll(() => tried(first, "by two"), PATIENT).toBe("acknowledged");
    await expect.poll(() => third.fatal?.message, PATIENT).toBe(FULL);
    second.storage.state = "full";
    const lost = put(first, "by one").catch(() => "refused");
    await expect.poll(() => second.fatal?.message, PATIENT).toBe(FULL);
    await restart(third, members);
    await expect.poll(() => tried(third, "with room"), PATIENT).toBe("acknowledged");
    for (const key of ["by all", "by two", "with room"]) expect(await get(third, key)).toBe(key);
    await restart(second, members);
    await expect.poll(() => get(second, "by two").catch(() => ""), PATIENT).toBe("by two");
    // Whoever was told something was told the truth.
    if ((await lost) === "acknowledged") expect(await get(second, "by one")).toBe("by one");
  });
});

/** A write that is tried once; while a leader is elected it may be refused. */
const tried = (member: Member, key: string): Promise<string> =>
  put(member, key).catch(() => "refused");
