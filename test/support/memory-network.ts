/**
 * Links between peers of one process. Messages are handed over by reference at the end of the sender's turn, in
 * order; a test may cut any direction, or look at what passes.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import type { PeerAddress, PeerInbox, PeerTransport } from "../../shared/peer/host.ts";
import type { Message, NodeId, SnapshotMark } from "../../shared/raft/types.ts";
import type { PeerCall, PeerReply } from "../../shared/wire/peer-call.ts";
import { PEER_VERSION } from "../../shared/wire/peer-codec.ts";
import type { Clock } from "./clocks.ts";

const NO_INBOX: PeerInbox = {
  messages: () => {},
  call: () => Promise.reject(new Error("not started")),
  snapshot: () => Promise.reject(new Error("not started")),
  unreachable: () => {},
  isRemoved: () => false,
  removed: () => {},
};

export class MemoryNetwork {
  readonly #clock: Clock;
  readonly #endpoints = new Map<NodeId, MemoryTransport>();
  /** Directions that are cut, as "from>to". */
  readonly #cuts = new Set<string>();
  /** Sees each message before it is delivered; false drops it. */
  filter: (message: Message) => boolean = () => true;
  /** Carries a snapshot's stream; may break it by an error. */
  carryChunks: (chunks: AsyncIterable<Bytes>) => AsyncIterable<Bytes> = (chunks) => chunks;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A member's transport; a second one for the same member replaces the first. */
  attach(id: NodeId): PeerTransport {
    const transport = new MemoryTransport(this, id);
    this.#endpoints.set(id, transport);
    return transport;
  }

  detach(id: NodeId): void {
    this.#endpoints.delete(id);
  }

  cut(from: NodeId, to: NodeId): void {
    this.#cuts.add(`${from}>${to}`);
  }

  /** Cuts a member off, both ways. */
  isolate(id: NodeId): void {
    for (const other of this.#endpoints.keys()) {
      if (other === id) continue;
      this.cut(id, other);
      this.cut(other, id);
    }
  }

  heal(): void {
    this.#cuts.clear();
  }

  /** What members speak, where it isn't the newest. */
  readonly versions = new Map<NodeId, number>();

  /** The inbox behind a direction that is open; undefined: cut, or nobody there. */
  inboxOf(from: NodeId, to: NodeId): PeerInbox | undefined {
    return this.#cuts.has(`${from}>${to}`) ? undefined : this.#endpoints.get(to)?.inbox;
  }

  deliver(from: NodeId, to: NodeId, messages: readonly Message[]): void {
    this.#clock.defer(() => {
      const passed = messages.filter((message) => this.filter(message));
      const inbox = passed.length > 0 ? this.inboxOf(from, to) : undefined;
      if (inbox === undefined) return;
      if (!inbox.isRemoved(from)) return inbox.messages(from, passed);
      this.inboxOf(to, from)?.removed(to);
    });
  }
}

class MemoryTransport implements PeerTransport {
  inbox: PeerInbox = NO_INBOX;
  readonly #network: MemoryNetwork;
  readonly #self: NodeId;

  constructor(network: MemoryNetwork, self: NodeId) {
    this.#network = network;
    this.#self = self;
  }

  setPeers(_peers: readonly PeerAddress[]): void {}

  send(to: NodeId, messages: readonly Message[]): void {
    this.#network.deliver(this.#self, to, messages);
  }

  async call(to: NodeId, call: PeerCall): Promise<PeerReply> {
    const inbox = this.#network.inboxOf(this.#self, to);
    if (inbox === undefined) throw new Error(`${to} is unreachable`);
    const reply = await inbox.call(this.#self, call);
    if (this.#network.inboxOf(to, this.#self) === undefined) {
      throw new Error(`the reply of ${to} is lost`);
    }
    return reply;
  }

  async sendSnapshot(to: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void> {
    const inbox = this.#network.inboxOf(this.#self, to);
    if (inbox === undefined) throw new Error(`${to} is unreachable`);
    await inbox.snapshot(this.#self, mark, this.#network.carryChunks(chunks));
  }

  idleMilliseconds(id: NodeId): number | undefined {
    const network = this.#network;
    const there = network.inboxOf(this.#self, id) !== undefined;
    return there && network.inboxOf(id, this.#self) !== undefined ? 0 : undefined;
  }

  versionOf(id: NodeId): number | undefined {
    if (this.idleMilliseconds(id) === undefined) return undefined;
    return this.#network.versions.get(id) ?? PEER_VERSION;
  }
}
