/**
 * Links between the members of an in-memory cluster. Messages are handed over by reference, in
 * order, after the sender's turn; any direction can be cut.
 */
import type { Bytes } from "../base/bytes.ts";
import type { PeerInbox, PeerTransport } from "../peer/host.ts";
import type { Message, NodeId, SnapshotMark } from "../raft/types.ts";
import type { PeerCall, PeerReply } from "../wire/peer-call.ts";
import { PEER_VERSION } from "../wire/peer-codec.ts";

export class MemoryNetwork {
  readonly #defer: (callback: () => void) => void;
  readonly #transports = new Map<NodeId, MemoryTransport>();
  /** Directions that are cut, as "from>to". */
  readonly #cuts = new Set<string>();

  constructor(defer: (callback: () => void) => void) {
    this.#defer = defer;
  }

  /** A member's transport; a later one for the same member replaces it. */
  attach(id: NodeId): PeerTransport {
    const transport = new MemoryTransport(this, id);
    this.#transports.set(id, transport);
    return transport;
  }

  detach(id: NodeId): void {
    this.#transports.delete(id);
  }

  /** Cuts a member off from all others, both ways. */
  isolate(id: NodeId, others: readonly NodeId[]): void {
    for (const other of others) {
      this.#cuts.add(`${id}>${other}`);
      this.#cuts.add(`${other}>${id}`);
    }
  }

  heal(): void {
    this.#cuts.clear();
  }

  /** The inbox behind a direction that is open; undefined: cut, or nobody there. */
  inbox(from: NodeId, to: NodeId): PeerInbox | undefined {
    return this.#cuts.has(`${from}>${to}`) ? undefined : this.#transports.get(to)?.inbox;
  }

  deliver(from: NodeId, to: NodeId, messages: readonly Message[]): void {
    this.#defer(() => {
      const inbox = this.inbox(from, to);
      if (inbox === undefined) return;
      if (inbox.isRemoved(from)) this.inbox(to, from)?.removed(to);
      else inbox.messages(from, messages);
    });
  }
}

const NOT_STARTED: PeerInbox = {
  messages: () => undefined,
  call: () => Promise.reject(new Error("the member has not started")),
  snapshot: () => Promise.reject(new Error("the member has not started")),
  unreachable: () => undefined,
  isRemoved: () => false,
  removed: () => undefined,
};

class MemoryTransport implements PeerTransport {
  inbox: PeerInbox = NOT_STARTED;
  readonly #network: MemoryNetwork;
  readonly #self: NodeId;

  constructor(network: MemoryNetwork, self: NodeId) {
    this.#network = network;
    this.#self = self;
  }

  setPeers(): void {
    // Everybody in the process can be reached.
  }

  send(to: NodeId, messages: readonly Message[]): void {
    this.#network.deliver(this.#self, to, messages);
  }

  async call(to: NodeId, call: PeerCall): Promise<PeerReply> {
    const reply = await this.#inboxOf(to).call(this.#self, call);
    if (this.#network.inbox(to, this.#self) === undefined) {
      throw new Error(`the reply of ${to} is lost`);
    }
    return reply;
  }

  async sendSnapshot(to: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void> {
    await this.#inboxOf(to).snapshot(this.#self, mark, chunks);
  }

  idleMilliseconds(id: NodeId): number | undefined {
    return this.#network.inbox(id, this.#self) === undefined ? undefined : 0;
  }

  versionOf(id: NodeId): number | undefined {
    return this.idleMilliseconds(id) === undefined ? undefined : PEER_VERSION;
  }

  #inboxOf(to: NodeId): PeerInbox {
    const inbox = this.#network.inbox(this.#self, to);
    if (inbox === undefined) throw new Error(`${to} is unreachable`);
    return inbox;
  }
}
