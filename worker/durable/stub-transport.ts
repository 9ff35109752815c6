/**
 * Links between peers in Durable Objects, by their stubs: calls on one stub arrive in order, each at
 * most once. Raft's messages are one call a batch; a snapshot is a call a chunk, so that the receiver
 * sets the pace.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { PeerAddress, PeerInbox, PeerTransport } from "../../shared/peer/host.ts";
import type { Message, NodeId, SnapshotMark } from "../../shared/raft/types.ts";
import type { PeerCall, PeerReply } from "../../shared/wire/peer-call.ts";
import { decodePeerFrame, encodePeerFrame, type PeerFrame } from "../../shared/wire/peer-codec.ts";
import { messageBatches } from "../../shared/wire/raft-codec.ts";
import type { Fence } from "./fence.ts";
import { SnapshotIntake } from "./snapshot-intake.ts";

/** What a peer's object offers to the others. `from` is the caller's member id in decimal. */
export interface PeerStub {
  /** A frame of raft's messages. */
  deliver(from: string, frame: Bytes): Promise<void>;
  /** A call's frame in, its reply's frame out. */
  ask(from: string, frame: Bytes): Promise<Bytes>;
  /** A snapshot's frame, a chunk's or the end's; resolves once it is taken, the end's once installed. */
  stream(from: string, frame: Bytes): Promise<void>;
}

export interface StubTransportOptions {
  readonly memberId: bigint;
  readonly fence: Fence;
  /** A new stub for a member: those that failed once are of no use any more. */
  stubOf(id: NodeId): PeerStub | undefined;
  /** Milliseconds of a clock that never steps back. */
  now(): number;
}

/** Of a peer that has not started, or has stopped. */
export const NOT_STARTED: PeerInbox = {
  messages: () => {},
  call: () => Promise.reject(new Error("not started")),
  snapshot: () => Promise.reject(new Error("not started")),
  unreachable: () => {},
  isRemoved: () => false,
  removed: () => {},
};

export class StubTransport implements PeerTransport {
  inbox: PeerInbox = NOT_STARTED;
  readonly #options: StubTransportOptions;
  readonly #stubs = new Map<NodeId, PeerStub>();
  /** Bytes under way to a member. */
  readonly #unsent = new Map<NodeId, number>();
  readonly #lastReceived = new Map<NodeId, number>();
  readonly #intakes = new Map<NodeId, SnapshotIntake>();
  #closed = false;

  constructor(options: StubTransportOptions) {
    this.#options = options;
  }

  setPeers(peers: readonly PeerAddress[]): void {
    const ids = new Set(peers.map(({ id }) => id));
    for (const id of this.#stubs.keys()) if (!ids.has(id)) this.#stubs.delete(id);
  }

  send(to: NodeId, messages: readonly Message[]): void {
    const waiting = this.#unsent.get(to) ?? 0;
    const stub = this.#stub(to);
    if (stub === undefined || waiting > LIMITS.peerSendBufferBytesMax) {
      this.inbox.unreachable(to, messages);
      return;
    }
    for (const batch of messageBatches(messages)) {
      const frame = encodePeerFrame({ kind: "messages", messages: batch });
      this.#count(to, frame.length);
      this.#options.fence.pass();
      stub.deliver(this.#self, frame).then(
        () => this.#count(to, -frame.length),
        () => {
          this.#count(to, -frame.length);
          this.#failed(to, stub);
        },
      );
    }
  }

  async call(to: NodeId, call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply> {
    const stub = this.#stub(to);
    if (stub === undefined) throw new Error(`member ${to} is unknown`);
    this.#options.fence.pass();
    const answer = stub.ask(this.#self, encodePeerFrame({ kind: "call", id: 1, call }));
    const frame = decodePeerFrame(await within(answer, timeoutMilliseconds), this.#ends(to));
    if (frame.kind !== "reply") throw new Error(`a ${frame.kind} frame for a reply`);
    return frame.reply;
  }

  async sendSnapshot(to: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void> {
    const stub = this.#stub(to);
    if (stub === undefined) throw new Error(`member ${to} is unknown`);
    const pass = (frame: PeerFrame): Promise<void> => {
      this.#options.fence.pass();
      return within(stub.stream(this.#self, encodePeerFrame(frame)), CHUNK_MILLISECONDS);
    };
    await pass({ kind: "snapshot", mark });
    for await (const bytes of chunks) await pass({ kind: "chunk", bytes });
    await pass({ kind: "end" });
  }

  idleMilliseconds(id: NodeId): number | undefined {
    const last = this.#lastReceived.get(id);
    return last === undefined ? undefined : Math.max(0, this.#options.now() - last);
  }

  /** Calls between objects carry no hello: the cluster keeps the version that it began with. */
  versionOf(): undefined {
    return undefined;
  }

  /** The receiving side of `PeerStub`. */
  readonly receiver: PeerStub = {
    deliver: async (from, bytes) => {
      const frame = this.#received(from, bytes);
      if (frame.kind !== "messages") throw new Error(`a ${frame.kind} frame for messages`);
      this.inbox.messages(from, frame.messages);
    },
    ask: async (from, bytes) => {
      const frame = this.#received(from, bytes);
      if (frame.kind !== "call") throw new Error(`a ${frame.kind} frame for a call`);
      const reply = await this.inbox.call(from, frame.call);
      this.#options.fence.pass();
      return encodePeerFrame({ kind: "reply", id: frame.id, reply });
    },
    stream: async (from, bytes) => {
      const frame = this.#received(from, bytes);
      if (frame.kind === "snapshot") {
        this.#intakes.get(from)?.cut("replaced by a newer snapshot");
        const intake = new SnapshotIntake((chunks) =>
          this.inbox.snapshot(from, frame.mark, chunks),
        );
        this.#intakes.set(from, intake);
        return;
      }
      const intake = this.#intakes.get(from);
      if (intake === undefined) throw new Error("no snapshot was begun");
      if (frame.kind === "chunk") await intake.take(frame.bytes);
      else if (frame.kind === "end") {
        await intake.finish();
        this.#intakes.delete(from);
      } else throw new Error(`a ${frame.kind} frame within a snapshot`);
      this.#options.fence.pass();
    },
  };

  close(): void {
    this.#closed = true;
    this.inbox = NOT_STARTED;
    for (const intake of this.#intakes.values()) intake.cut("the peer stops");
  }

  get #self(): string {
    return this.#options.memberId.toString();
  }

  #ends(from: NodeId) {
    return { from, to: this.#self };
  }

  #received(from: NodeId, bytes: Bytes) {
    if (this.#closed) throw new Error("the peer stops");
    if (this.inbox.isRemoved(from)) throw new Error("the member was removed from the cluster");
    const frame = decodePeerFrame(bytes, this.#ends(from));
    if (frame.kind === "malformed") throw new Error(frame.reason);
    this.#lastReceived.set(from, this.#options.now());
    return frame;
  }

  #stub(to: NodeId): PeerStub | undefined {
    const known = this.#stubs.get(to);
    if (known !== undefined || this.#closed) return known;
    const stub = this.#options.stubOf(to);
    if (stub !== undefined) this.#stubs.set(to, stub);
    return stub;
  }

  #count(to: NodeId, bytes: number): void {
    this.#unsent.set(to, (this.#unsent.get(to) ?? 0) + bytes);
  }

  #failed(to: NodeId, stub: PeerStub): void {
    if (this.#stubs.get(to) === stub) this.#stubs.delete(to);
    if (!this.#closed) this.inbox.unreachable(to, []);
  }
}

/** A chunk that isn't taken by then gives the snapshot up. */
const CHUNK_MILLISECONDS = 30_000;

async function within<Value>(answer: Promise<Value>, milliseconds: number): Promise<Value> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error("the member did not answer in time")),
    milliseconds,
  );
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
