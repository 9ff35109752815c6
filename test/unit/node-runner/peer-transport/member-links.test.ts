/**
 * The links between a Node peer, which dials, and a member in a Durable Object, which answers on them:
 * messages, calls and snapshots both ways, over real sockets.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { WsPeerTransport } from "../../../../node-runner/peer-transport/ws-peer-transport.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import type { PeerInbox, PeerTransport } from "../../../../shared/peer/host.ts";
import { simpleMembership } from "../../../../shared/raft/log-store.ts";
import type { Message } from "../../../../shared/raft/types.ts";
import { PEER_VERSION } from "../../../../shared/wire/peer-codec.ts";
import { MemberTransport } from "../../../../worker/durable/member-transport.ts";
import { SocketLink } from "../../../../worker/durable/socket-link.ts";

const WAIT = { timeout: 30_000, interval: 5 };
const MARK = { index: 9, term: 2, membership: simpleMembership(["1", "2"]) };

/** One side: its transport, and what has come to its inbox. */
interface Side<Transport extends PeerTransport = PeerTransport> {
  readonly transport: Transport;
  readonly messages: Message[];
  /** Bytes of each snapshot that came whole. */
  readonly snapshots: number[];
  /** Refuses the next snapshot once it has read so many chunks. */
  refuseAfter: number | undefined;
}

function sideOf<Transport extends PeerTransport>(transport: Transport): Side<Transport> {
  const side: Side<Transport> = { transport, messages: [], snapshots: [], refuseAfter: undefined };
  const inbox: PeerInbox = {
    messages: (_from, messages) => void side.messages.push(...messages),
    call: async (_from, call) => {
      if (call.kind !== "hashKv") throw new Error("no such call");
      return {
        kind: "hashKv",
        result: { hash: call.revision * 2, hashRevision: call.revision, compactRevision: -1 },
      };
    },
    async snapshot(_from, _mark, chunks) {
      let bytes = 0;
      let count = 0;
      for await (const chunk of chunks) {
        bytes += chunk.length;
        count += 1;
        if (count === side.refuseAfter) {
          side.refuseAfter = undefined;
          throw new Error("no room");
        }
      }
      side.snapshots.push(bytes);
    },
    unreachable: () => {},
    isRemoved: () => false,
    removed: () => {},
  };
  transport.inbox = inbox;
  return side;
}

let server: WebSocketServer;
let node: Side<WsPeerTransport>;
let member: Side<MemberTransport>;

const schedule = (milliseconds: number, callback: () => void) => {
  const timer = setTimeout(callback, milliseconds);
  return () => clearTimeout(timer);
};

beforeEach(async () => {
  const now = (): number => performance.now();
  const memberTransport = new MemberTransport({ now, schedule });
  member = sideOf(memberTransport);
  server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  server.on("connection", (socket) => {
    const link = new SocketLink(socket, { beforeSend: () => {}, now });
    link.onFrame = (frame) => {
      if (frame.kind !== "hello") throw new Error(`a ${frame.kind} frame first`);
      link.identify({ from: String(frame.hello.from), to: "2" });
      link.send({ kind: "welcome", version: PEER_VERSION });
      memberTransport.attach(link, frame.hello);
    };
  });
  await once(server, "listening");
  const nodeTransport = new WsPeerTransport({
    identity: { clusterId: 7n, memberId: 1n, incarnation: 1, secret: "" },
    report: () => {},
  });
  node = sideOf(nodeTransport);
  const { port } = server.address() as AddressInfo;
  nodeTransport.setPeers([{ id: "2", peerUrls: [`http://127.0.0.1:${port}`] }]);
  await expect.poll(() => memberTransport.linkCount, WAIT).toBe(1);
  await expect.poll(() => nodeTransport.versionOf("2"), WAIT).toBe(PEER_VERSION);
});
afterEach(async () => {
  member.transport.close("done");
  node.transport.close();
  for (const socket of server.clients) socket.terminate();
  await new Promise((resolve) => server.close(resolve));
});

function heartbeat(from: string, to: string, round: number): Message {
  return { type: "heartbeat", from, to, term: 1, commit: 0, round };
}

async function* chunksOf(count: number, bytes: number): AsyncGenerator<Uint8Array> {
  for (let chunk = 0; chunk < count; chunk += 1) yield new Uint8Array(bytes).fill(chunk);
}

describe("a link that a Node peer dialled to a member in a Durable Object", () => {
  test("carries messages both ways, in order", async () => {
    for (let round = 0; round < 20; round += 1) {
      node.transport.send("2", [heartbeat("1", "2", round)]);
      member.transport.send("1", [heartbeat("2", "1", round)]);
    }
    const rounds = (side: Side) =>
      side.messages.map((message) => (message.type === "heartbeat" ? message.round : -1));
    const all = Array.from({ length: 20 }, (_, round) => round);
    await expect.poll(() => rounds(member), WAIT).toEqual(all);
    await expect.poll(() => rounds(node), WAIT).toEqual(all);
  });

  test("carries calls both ways", async () => {
    const call = { kind: "hashKv", revision: 21 } as const;
    const reply = { kind: "hashKv", result: { hash: 42 } };
    expect(await node.transport.call("2", call, 30_000)).toMatchObject(reply);
    expect(await member.transport.call("1", call, 30_000)).toMatchObject(reply);
  });

  test("carries the member's snapshots, one after the other, beside messages", async () => {
    const chunks = 3 * LIMITS.snapshotWindowChunks;
    await member.transport.sendSnapshot("1", MARK, chunksOf(chunks, 1000));
    member.transport.send("1", [heartbeat("2", "1", 1)]);
    await member.transport.sendSnapshot("1", MARK, chunksOf(2, 10));
    expect(node.snapshots).toEqual([chunks * 1000, 20]);
    expect(node.messages).toHaveLength(1);
  });

  test("lives on when a snapshot is refused, or given up by its sender", async () => {
    node.refuseAfter = 2;
    const many = chunksOf(3 * LIMITS.snapshotWindowChunks, 1000);
    await expect(member.transport.sendSnapshot("1", MARK, many)).rejects.toThrow("no room");
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(10);
      throw new Error("disk");
    };
    const given = member.transport.sendSnapshot("1", MARK, failing());
    await expect(given).rejects.toThrow("could not be sent");
    // As raft does, again: the receiver has yet to say that it gave up, too.
    const again = () => member.transport.sendSnapshot("1", MARK, chunksOf(2, 10));
    await expect.poll(() => again().then(() => "sent", String), WAIT).toBe("sent");
    expect(node.snapshots).toEqual([20]);
    expect(member.transport.linkCount).toBe(1);
  });

  test("a Node peer's snapshots come on links of their own", async () => {
    const chunks = 3 * LIMITS.snapshotWindowChunks;
    await node.transport.sendSnapshot("2", MARK, chunksOf(chunks, 1000));
    expect(member.snapshots).toEqual([chunks * 1000]);
  });

  test("a member that lost its link is dialled again", async () => {
    for (const socket of server.clients) socket.terminate();
    const answer = () =>
      member.transport.call("1", { kind: "hashKv", revision: 1 }, 1000).then(({ kind }) => kind);
    await expect.poll(answer, WAIT).toBe("hashKv");
  });
});
