/** The transport between members on real sockets: delivery, order, refusals, reconnection, dead links, snapshots. */
import { createServer } from "node:http";
import type { Server } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { WsPeerTransport } from "../../../../node-runner/peer-transport/ws-peer-transport.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import type { PeerInbox } from "../../../../shared/peer/host.ts";
import { simpleMembership } from "../../../../shared/raft/log-store.ts";
import type { Message } from "../../../../shared/raft/types.ts";
import type { PeerReply } from "../../../../shared/wire/peer-call.ts";
import { encodePeerFrame } from "../../../../shared/wire/peer-codec.ts";

const WAIT = { timeout: 9000, interval: 5 };

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

interface Identity {
  readonly cluster?: bigint;
  readonly id: bigint;
  readonly secret?: string;
}

interface TestMember {
  readonly id: string;
  readonly transport: WsPeerTransport;
  readonly url: string;
  readonly server: Server;
  readonly received: Message[];
  readonly batches: number[];
  readonly unreachable: { readonly to: string; readonly unsent: readonly Message[] }[];
  readonly reports: string[];
  readonly inbox: Partial<PeerInbox>;
}

async function startMember(
  identity: Identity,
  port = 0,
  requestBytesMax: number = LIMITS.requestBytesMax,
): Promise<TestMember> {
  const server = createServer((_request, response) => response.end("plain"));
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const reports: string[] = [];
  const { cluster = 7n, id, secret = "" } = identity;
  const transport = new WsPeerTransport({
    identity: { clusterId: cluster, memberId: id, incarnation: 1, secret },
    requestBytesMax,
    report: (_level, message, fields) => {
      const reason = fields?.["reason"];
      reports.push(`${message} ${typeof reason === "string" ? reason : ""}`);
    },
  });
  const { port: bound } = server.address() as AddressInfo;
  const member: TestMember = {
    id: id.toString(),
    transport,
    url: `http://127.0.0.1:${bound}`,
    server,
    received: [],
    batches: [],
    unreachable: [],
    reports,
    inbox: {},
  };
  transport.inbox = {
    messages: (_from, messages) => {
      member.received.push(...messages);
      member.batches.push(messages.length);
    },
    call: (from, call) => member.inbox.call?.(from, call) ?? Promise.reject(new Error("none")),
    snapshot: (from, mark, chunks) =>
      member.inbox.snapshot?.(from, mark, chunks) ?? Promise.reject(new Error("none")),
    unreachable: (to, unsent) => member.unreachable.push({ to, unsent }),
    isRemoved: (from) => member.inbox.isRemoved?.(from) ?? false,
    removed: (by) => member.inbox.removed?.(by),
  };
  transport.attach(server);
  cleanups.push(() => stopMember(member));
  return member;
}

function stopMember({ transport, server }: TestMember): void {
  transport.close();
  server.closeAllConnections();
  server.close();
}

function introduce(a: TestMember, b: Pick<TestMember, "id" | "url">, url = b.url): void {
  a.transport.setPeers([
    { id: a.id, peerUrls: [a.url] },
    { id: b.id, peerUrls: [url] },
  ]);
}

async function connected(member: TestMember, times = 1): Promise<void> {
  await vi.waitFor(() => {
    expect(member.reports.filter((line) => line.startsWith("connected")).length).toBe(times);
  }, WAIT);
}

async function startPair(requestBytesMax?: number): Promise<[TestMember, TestMember]> {
  const a = await startMember({ id: 1n }, 0, requestBytesMax);
  const b = await startMember({ id: 2n }, 0, requestBytesMax);
  introduce(a, b);
  await connected(a);
  return [a, b];
}

function heartbeat(round: number): Message {
  return { type: "heartbeat", from: "1", to: "2", term: 1, commit: 0, round };
}

function rounds(member: TestMember): number[] {
  return member.received.map((message) => (message.type === "heartbeat" ? message.round : -1));
}

describe("messages", () => {
  test("arrive once and in order, those of one turn in one frame", async () => {
    const [a, b] = await startPair();
    for (let round = 0; round < 50; round += 1) a.transport.send("2", [heartbeat(round)]);
    await vi.waitFor(() => expect(b.received.length).toBe(50), WAIT);
    expect(rounds(b)).toEqual(Array.from({ length: 50 }, (_, round) => round));
    expect(b.batches).toEqual([50]);
    expect(a.transport.idleMilliseconds("2")).toBeLessThan(5000);
    expect(b.transport.idleMilliseconds("1")).toBeLessThan(5000);
    expect(b.transport.idleMilliseconds("3")).toBeUndefined();
  });

  test("an entry as large as the members let requests be goes through, and the link holds", async () => {
    const [a, b] = await startPair(8 * 1024 * 1024);
    const entries = [{ kind: "normal" as const, data: new Uint8Array(8 * 1024 * 1024).fill(3) }];
    a.transport.send("2", [{ type: "propose", from: "1", to: "2", term: 1, entries }]);
    a.transport.send("2", [heartbeat(1)]);
    await vi.waitFor(() => expect(b.received.length).toBe(2), WAIT);
    expect(b.received[0]).toMatchObject({ type: "propose" });
    expect(a.reports.filter((line) => line.startsWith("lost"))).toEqual([]);
  });

  test("large batches are cut into frames below the limit", async () => {
    const [a, b] = await startPair();
    const entries = [{ kind: "normal" as const, data: new Uint8Array(700_000).fill(3) }];
    const large: Message = { type: "propose", from: "1", to: "2", term: 1, entries };
    const messages = Array.from({ length: 12 }, () => large);
    a.transport.send("2", messages);
    await vi.waitFor(() => expect(b.received.length).toBe(12), WAIT);
    expect(b.batches).toEqual([2, 2, 2, 2, 2, 2]);
    const last = b.received[11];
    expect(last?.type === "propose" && last.entries[0]?.data.length).toBe(700_000);
  });

  test("are dropped with a report while the member can't be reached", async () => {
    const a = await startMember({ id: 1n });
    a.transport.setPeers([{ id: "2", peerUrls: ["http://127.0.0.1:1"] }]);
    const unsent = [heartbeat(1), heartbeat(2)];
    a.transport.send("2", unsent);
    expect(a.unreachable).toEqual([]);
    await vi.waitFor(() => expect(a.unreachable).toEqual([{ to: "2", unsent }]), WAIT);
    expect(a.transport.idleMilliseconds("2")).toBeUndefined();
  });

  test("to a member that isn't known yet go back on the link that it dialled", async () => {
    const [a, b] = [await startMember({ id: 1n }), await startMember({ id: 2n })];
    introduce(a, b);
    await vi.waitFor(() => expect(b.transport.idleMilliseconds("1")).toBeDefined(), WAIT);
    const reply = { type: "heartbeatReply", from: "2", to: "1", term: 1, round: 7 } as const;
    b.transport.send("1", [reply]);
    await vi.waitFor(() => expect(a.received).toMatchObject([reply]), WAIT);
    // Neither known nor linked: nowhere to go.
    b.transport.send("3", [{ ...reply, to: "3" }]);
  });

  test("to a removed member go nowhere, and its link ends", async () => {
    const [a, b] = await startPair();
    a.transport.setPeers([{ id: "1", peerUrls: [a.url] }]);
    a.transport.send("2", [heartbeat(1)]);
    await vi.waitFor(() => expect(b.transport.idleMilliseconds("1")).toBeUndefined(), WAIT);
    expect(b.received).toEqual([]);
  });
});

describe("calls", () => {
  test("are answered on the same link, also out of order", async () => {
    const [a, b] = await startPair();
    const answers: ((reply: PeerReply) => void)[] = [];
    b.inbox.call = () => new Promise((resolve) => answers.push(resolve));
    const first = a.transport.call("2", { kind: "leaseRenew", ids: [5n] }, 5000);
    const second = a.transport.call("2", { kind: "leaseRemaining", id: -1n }, 5000);
    await vi.waitFor(() => expect(answers.length).toBe(2), WAIT);
    answers[1]?.({ kind: "leaseRemaining", remainingMilliseconds: 12.5 });
    answers[0]?.({ kind: "leaseRenew", ttlSeconds: [60] });
    expect(await second).toEqual({ kind: "leaseRemaining", remainingMilliseconds: 12.5 });
    expect(await first).toEqual({ kind: "leaseRenew", ttlSeconds: [60] });
  });

  test("reject on time-out, on loss of the link, and for unknown members", async () => {
    const [a, b] = await startPair();
    const asked = vi.fn<PeerInbox["call"]>(() => new Promise(() => {}));
    b.inbox.call = asked;
    const call = { kind: "leaseRemaining", id: 1n } as const;
    await expect(a.transport.call("2", call, 20)).rejects.toThrow("in time");
    await expect(a.transport.call("3", call, 20)).rejects.toThrow("unknown");
    const lost = a.transport.call("2", call, 60_000);
    await vi.waitFor(() => expect(asked).toHaveBeenCalledTimes(2), WAIT);
    stopMember(b);
    await expect(lost).rejects.toThrow("lost");
  });

  test("that fail there are refused rather than left open", async () => {
    const [a] = await startPair();
    const reply = await a.transport.call("2", { kind: "leaseRemaining", id: 1n }, 5000);
    expect(reply).toEqual({ kind: "refused", reason: "noConfirmation" });
  });
});

describe("hello", () => {
  test.each<[string, Identity, string]>([
    ["another cluster", { id: 2n, cluster: 8n }, "cluster ID mismatch"],
    ["another member", { id: 3n }, "addressed to another member"],
    ["another secret", { id: 2n, secret: "x" }, "wrong secret"],
  ])("to %s is refused with a log line on both sides", async (_name, identity, reason) => {
    const [a, b] = [await startMember({ id: 1n }), await startMember(identity)];
    introduce(a, { id: "2", url: b.url });
    await vi.waitFor(() => {
      expect(a.reports).toContain(`lost a peer ${reason}`);
      expect(b.reports[0]).toContain(`refused a peer: ${reason}`);
    }, WAIT);
    a.transport.send("2", [heartbeat(1)]);
    await vi.waitFor(() => expect(a.unreachable.length).toBeGreaterThan(0), WAIT);
    expect(b.received).toEqual([]);
  });

  test("of a removed member is refused, and it is told so", async () => {
    const [a, b] = await startPair();
    let isRemoved = false;
    const told: string[] = [];
    Object.assign(b.inbox, { isRemoved: () => isRemoved });
    Object.assign(a.inbox, { removed: (by: string) => told.push(by) });
    // The link that is there ends with the next news of the members.
    isRemoved = true;
    b.transport.setPeers([]);
    await vi.waitFor(() => expect(told).toEqual(["2"]), WAIT);
    await vi.waitFor(() => expect(told.length).toBeGreaterThan(1), WAIT);
    a.transport.send("2", [heartbeat(1)]);
    expect(b.received).toEqual([]);
  });

  test("from a newer connection of the same member replaces the older one", async () => {
    const [a, b] = await startPair();
    const twin = await startMember({ id: 1n });
    introduce(twin, b);
    await connected(twin);
    await vi.waitFor(() => {
      expect(a.reports).toContain("lost a peer replaced by a newer connection");
    }, WAIT);
  });
});

describe("input that no member sends", () => {
  function open(url: string, headers: Record<string, string> = {}): WebSocket {
    const socket = new WebSocket(`${url.replace("http", "ws")}/raft`, { headers });
    cleanups.push(() => socket.terminate());
    return socket;
  }
  function closeCode(socket: WebSocket): Promise<number> {
    return new Promise((resolve) => {
      socket.once("close", resolve);
    });
  }
  function failure(socket: WebSocket): Promise<string> {
    return new Promise((resolve) => {
      socket.once("error", (error) => resolve(error.message));
    });
  }

  test("closes its own connection and no other", async () => {
    const [a, b] = await startPair();
    const noHello = encodePeerFrame({ kind: "end" });
    for (const garbage of ["text", Uint8Array.of(255), noHello, new Uint8Array(5000)]) {
      const socket = open(b.url);
      const code = closeCode(socket);
      socket.once("open", () => socket.send(garbage));
      expect(await code).toBeGreaterThanOrEqual(4000);
    }
    const socket = open(b.url);
    const code = closeCode(socket);
    socket.once("open", () => socket.send(new Uint8Array(LIMITS.frameBytesMax + 1)));
    expect(await code).toBe(1009);
    a.transport.send("2", [heartbeat(1)]);
    await vi.waitFor(() => expect(b.received.length).toBe(1), WAIT);
  });

  test("a browser's upgrade, another path and plain requests get plain answers", async () => {
    const b = await startMember({ id: 2n });
    expect(await failure(open(b.url, { origin: "http://evil" }))).toContain("403");
    expect(await failure(new WebSocket(`${b.url.replace("http", "ws")}/other`))).toContain("404");
    expect(await (await fetch(`${b.url}/version`)).text()).toBe("plain");
  });

  test("connections that never say hello are bounded", async () => {
    const b = await startMember({ id: 2n });
    const sockets = Array.from({ length: LIMITS.peerHandshakesMax }, () => open(b.url));
    const opened = sockets.map((socket) => new Promise((resolve) => socket.once("open", resolve)));
    await Promise.all(opened);
    expect(await failure(open(b.url))).toContain("503");
  });
});

describe("reconnection", () => {
  test("follows a restart of the member on the same port", async () => {
    const [a, b] = await startPair();
    const { port } = b.server.address() as AddressInfo;
    stopMember(b);
    await vi.waitFor(() => {
      expect(a.reports.some((line) => line.startsWith("lost"))).toBe(true);
    }, WAIT);
    const again = await startMember({ id: 2n }, port);
    await connected(a, 2);
    a.transport.send("2", [heartbeat(9)]);
    await vi.waitFor(() => expect(rounds(again)).toEqual([9]), WAIT);
  });

  test("a link whose answers are cut off is given up, the other direction stays", async () => {
    const [a, b] = [await startMember({ id: 1n }), await startMember({ id: 2n })];
    const proxy = await startProxy(Number(new URL(b.url).port));
    introduce(a, b, `http://127.0.0.1:${proxy.port}`);
    introduce(b, a);
    await connected(a);
    await connected(b);
    proxy.cutAnswers();
    await vi.waitFor(() => {
      expect(a.reports.some((line) => line.includes("nothing was received"))).toBe(true);
    }, WAIT);
    b.transport.send("1", [{ ...heartbeat(3), from: "2", to: "1" }]);
    await vi.waitFor(() => expect(rounds(a)).toEqual([3]), WAIT);
    expect(b.reports.filter((line) => line.startsWith("lost"))).toEqual([]);
  }, 20_000);
});

/** A TCP proxy that can swallow everything the server says, as a cut of one direction does. */
async function startProxy(target: number): Promise<{ port: number; cutAnswers(): void }> {
  let cut = false;
  const sockets = new Set<Socket>();
  const server = createTcpServer((inbound) => {
    const outbound = connect(target, "127.0.0.1");
    for (const socket of [inbound, outbound]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    }
    inbound.on("data", (bytes) => outbound.write(bytes));
    outbound.on("data", (bytes) => {
      if (!cut) inbound.write(bytes);
    });
    inbound.on("close", () => outbound.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const cutAnswers = (): void => {
    cut = true;
  };
  return { port: (server.address() as AddressInfo).port, cutAnswers };
}

describe("snapshots", () => {
  const mark = { index: 70, term: 6, membership: simpleMembership(["1", "2"]) };
  const CHUNKS = 40;

  async function* chunksOf(onPull: (pulled: number) => void): AsyncGenerator<Uint8Array> {
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
      onPull(chunk + 1);
      yield new Uint8Array(LIMITS.snapshotChunkBytes).fill(chunk);
    }
  }

  test("a slow receiver holds the sender within the window; all arrive in order", async () => {
    const [a, b] = await startPair();
    let pulled = 0;
    let taken = 0;
    let aheadMost = 0;
    b.inbox.snapshot = async (from, received, chunks) => {
      expect(from).toBe("1");
      expect(received).toEqual(mark);
      for await (const bytes of chunks) {
        await new Promise((resolve) => setImmediate(resolve));
        expect(bytes.every((byte) => byte === taken)).toBe(true);
        taken += 1;
      }
    };
    const source = chunksOf((count) => {
      pulled = count;
      aheadMost = Math.max(aheadMost, pulled - taken);
    });
    await a.transport.sendSnapshot("2", mark, source);
    expect(taken).toBe(CHUNKS);
    expect(pulled).toBe(CHUNKS);
    expect(aheadMost).toBeLessThanOrEqual(LIMITS.snapshotWindowChunks + 2);
  });

  test("heartbeats pass while the receiver doesn't take the snapshot", async () => {
    const [a, b] = await startPair();
    let release = (): void => {};
    b.inbox.snapshot = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    let pulled = 0;
    const source = chunksOf((count) => {
      pulled = count;
    });
    const sending = a.transport.sendSnapshot("2", mark, source);
    await vi.waitFor(() => expect(pulled).toBe(LIMITS.snapshotWindowChunks + 1), WAIT);
    a.transport.send("2", [heartbeat(1)]);
    await vi.waitFor(() => expect(rounds(b)).toEqual([1]), WAIT);
    release();
    await sending;
  });

  test("a refusal rejects with its reason", async () => {
    const [a, b] = await startPair();
    b.inbox.snapshot = () => Promise.reject(new Error("hash mismatch"));
    const source = chunksOf(() => {});
    await expect(a.transport.sendSnapshot("2", mark, source)).rejects.toThrow("hash mismatch");
  });

  test("a broken stream breaks the receiver's chunks too", async () => {
    const [a, b] = await startPair();
    let broken = "";
    b.inbox.snapshot = async (_from, _mark, chunks) => {
      try {
        for await (const bytes of chunks) expect(bytes.length).toBeGreaterThan(0);
      } catch (error) {
        broken = String(error);
        throw error;
      }
    };
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(10);
      throw new Error("disk");
    };
    await expect(a.transport.sendSnapshot("2", mark, failing())).rejects.toThrow("not be sent");
    await vi.waitFor(() => expect(broken).toMatch(/given up|connection ended/), WAIT);
  });
});
