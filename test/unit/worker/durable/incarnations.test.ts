/**
 * Two live incarnations of one voter in a Durable Object. The platform may let a superseded one go on
 * from memory: its writes never become durable, and its output gate holds back what leaves a turn
 * behind them - but nothing that leaves without a write. So everything that counts passes the fence;
 * the controls, whose fence writes nothing, show what would happen otherwise.
 */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, describe, expect, test } from "vitest";
import { EMPTY, textOf, utf8 } from "../../../../shared/base/bytes.ts";
import { wholeRange } from "../../../../shared/mvcc/types.ts";
import type { Message } from "../../../../shared/raft/types.ts";
import { decodePeerFrame, encodePeerFrame } from "../../../../shared/wire/peer-codec.ts";
import { startPeerNode, type PeerNode } from "../../../../worker/durable/peer-node.ts";
import type { Sql } from "../../../../worker/durable/sql.ts";
import type { PeerStub } from "../../../../worker/durable/stub-transport.ts";
import { votersOf } from "../../../../worker/durable/voters.ts";
import { PATIENT_CALL } from "../../../support/in-process-cluster.ts";
import { NodeSql } from "../../../support/node-sql.ts";
import { makeTempDir, removeTempDir } from "../../../support/temp-dir.ts";

const folders: string[] = [];
const nodes: PeerNode[] = [];

afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.peer.stop()));
  for (const folder of folders.splice(0)) removeTempDir(folder);
});

/** One incarnation's storage: once superseded, what it writes is never durable. */
class Storage implements Sql {
  readonly path: string;
  readonly #sql: NodeSql;
  #superseded = false;
  /** The output gate waits for a write that will never be durable. */
  isGateShut = false;

  constructor(path: string) {
    this.path = path;
    this.#sql = new NodeSql(new DatabaseSync(path));
  }

  get databaseSize(): number {
    return this.#sql.databaseSize;
  }

  exec(...call: Parameters<Sql["exec"]>): ReturnType<Sql["exec"]> {
    if (this.#superseded && !/^\s*SELECT/i.test(call[0])) this.isGateShut = true;
    return this.#sql.exec(...call);
  }

  /** The storage of a new incarnation, which holds what is durable by now. */
  supersede(): Storage {
    const path = `${this.path}+`;
    copyFileSync(this.path, path);
    this.#superseded = true;
    return new Storage(path);
  }
}

interface Incarnation {
  readonly node: PeerNode;
  readonly storage: Storage;
  /** Raft's messages that left, as "type term to". */
  readonly sent: string[];
}

interface Setup {
  readonly voters: number;
  /** False: the control, in which outputs write nothing. */
  readonly fenced: boolean;
}

function newStorage(): Storage {
  const folder = makeTempDir("incarnations");
  folders.push(folder);
  return new Storage(join(folder, "voter.sqlite"));
}

/** Starts the first voter on a storage. The others are never there; what is sent to them is noted. */
function start(storage: Storage, { voters, fenced }: Setup): Incarnation {
  const sent: string[] = [];
  const members = votersOf("c", voters);
  const self = String(members.members[0]?.id);
  const stub = (to: string): PeerStub => ({
    async deliver(_from, frame) {
      if (storage.isGateShut) throw new Error("the output gate is shut");
      const decoded = decodePeerFrame(frame, { from: self, to });
      if (decoded.kind !== "messages") throw new Error(decoded.kind);
      for (const { type, term } of decoded.messages) sent.push(`${type} ${term} ${to}`);
    },
    ask: () => Promise.reject(new Error("nobody there")),
    stream: () => Promise.reject(new Error("nobody there")),
  });
  const node = startPeerNode({
    sql: storage,
    voters: members,
    name: "c/0",
    tickMilliseconds: 20,
    stubOf: (name) => stub(String(members.members.find((each) => each.name === name)?.id)),
    report: () => {},
    onFatal: (error) => {
      throw error;
    },
  });
  if (!fenced) node.fence.pass = () => {};
  nodes.push(node);
  return { node, storage, sent };
}

/** What a caller sees of an answer: undefined when the gate holds it back. */
async function answerOf<Answer>(
  { node, storage }: Incarnation,
  call: (peer: PeerNode["peer"]) => Promise<Answer>,
): Promise<Answer | undefined> {
  const answer = await call(node.peer);
  node.fence.pass();
  return storage.isGateShut ? undefined : answer;
}

const put = (incarnation: Incarnation, value: string) =>
  answerOf(incarnation, ({ services }) =>
    services.kv.put(
      {
        kind: "put",
        key: utf8("k"),
        value: utf8(value),
        lease: 0n,
        previousKv: false,
        ignoreValue: false,
        ignoreLease: false,
      },
      PATIENT_CALL,
    ),
  );

async function get(incarnation: Incarnation): Promise<string | undefined> {
  const answer = await answerOf(incarnation, ({ services }) =>
    services.kv.range(wholeRange(utf8("k"), EMPTY), { serializable: false }, PATIENT_CALL),
  );
  return answer === undefined ? undefined : textOf(answer.kvs[0]?.value ?? EMPTY);
}

/** A single voter, superseded while it lives: the old and the new incarnation. */
async function twoOfOne(fenced: boolean): Promise<[Incarnation, Incarnation]> {
  const setup = { voters: 1, fenced };
  const old = start(newStorage(), setup);
  await old.node.peer.ready();
  await put(old, "before");
  const successor = start(old.storage.supersede(), setup);
  await successor.node.peer.ready();
  return [old, successor];
}

describe("a superseded voter", () => {
  test("never answers a read with what its successor has overwritten", async () => {
    const [old, successor] = await twoOfOne(true);
    expect(await put(successor, "after")).toBeDefined();
    expect(await get(old)).toBeUndefined();
    expect(await get(successor)).toBe("after");
  });

  test("would, were its answer not to pass the fence", async () => {
    const [old, successor] = await twoOfOne(false);
    await put(successor, "after");
    old.storage.isGateShut = false;
    expect(await get(old)).toBe("before");
  });

  test("acknowledges no write: it would be lost", async () => {
    const [old, successor] = await twoOfOne(true);
    expect(await put(old, "lost")).toBeUndefined();
    expect(await get(successor)).toBe("before");
  });

  test("casts no second vote in a term", async () => {
    const [old, successor, candidates] = twoOfThree(true);
    for (const [place, incarnation] of [old, successor].entries()) {
      await deliver(incarnation, {
        type: "vote",
        from: candidates[place] ?? "",
        to: candidates[2] ?? "",
        term: TERM,
        lastIndex: 1000,
        lastTerm: TERM - 1,
        transfer: true,
      });
    }
    await expect.poll(() => sentOf(successor, "voteReply")).toHaveLength(1);
    expect(sentOf(old, "voteReply")).toEqual([]);
  });

  test.each([
    ["confirms no leader", true, 0],
    ["would confirm one, were its answer not to pass the fence", false, 1],
  ])("%s", async (_, fenced, confirmations) => {
    const [old, successor, [leader = "", , self = ""]] = twoOfThree(fenced);
    const heartbeat = (term: number, round: number): Message => ({
      type: "heartbeat",
      from: leader,
      to: self,
      term,
      commit: 0,
      round,
    });
    // Both know of the term; what follows changes nothing that would be written.
    await deliver(old, heartbeat(TERM, 1));
    await expect.poll(() => old.node.peer.raftStatus().term).toBe(TERM);
    await new Promise((resolve) => setTimeout(resolve, 50));
    old.sent.length = 0;
    if (!fenced) old.storage.isGateShut = false;
    await deliver(old, heartbeat(TERM, 2));
    await deliver(successor, heartbeat(TERM, 2));
    await expect.poll(() => sentOf(successor, "heartbeatReply")).toHaveLength(1);
    await expect.poll(() => sentOf(old, "heartbeatReply")).toHaveLength(confirmations);
  });
});

const TERM = 50;

/** A voter of three, superseded while it lives: the old, the new, and the ids of the others and its own. */
function twoOfThree(fenced: boolean): [Incarnation, Incarnation, string[]] {
  const setup = { voters: 3, fenced };
  const old = start(newStorage(), setup);
  const successor = start(old.storage.supersede(), setup);
  const [self = "", ...others] = votersOf("c", 3).members.map(({ id }) => String(id));
  return [old, successor, [...others, self]];
}

async function deliver({ node }: Incarnation, message: Message): Promise<void> {
  const frame = encodePeerFrame({ kind: "messages", messages: [message] });
  await node.receiver.deliver(message.from, frame);
}

const sentOf = ({ sent }: Incarnation, type: string): string[] =>
  sent.filter((each) => each.startsWith(`${type} `));
