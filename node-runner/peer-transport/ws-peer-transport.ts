/**
 * `PeerTransport` over WebSocket. Each member dials every other member's advertised peer URL and sends only on
 * connections that it dialled (so that a proxy can cut one direction); replies to a call come back on the connection
 * on which it was asked, and so does all that a member in a Durable Object has to say, as it doesn't dial, and what is
 * said to a member whose address isn't known yet. A pair has up to four connections: messages and snapshots, each way.
 *
 * Promises: `send` never blocks, keeps the order per destination and bounds what waits; a connection that is dead in
 * either direction is found by pings and replaced; input from others closes at most their connection.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Host, PeerAddress, PeerInbox, PeerTransport } from "../../shared/peer/host.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { CLOSE } from "../../shared/peer/links/frame-link.ts";
import type { PeerIdentity } from "../../shared/peer/links/hello-check.ts";
import type { Message, NodeId, SnapshotMark } from "../../shared/raft/types.ts";
import type { PeerCall, PeerReply } from "../../shared/wire/peer-call.ts";
import { peerFrameBytesMaxOf } from "../../shared/wire/peer-codec.ts";
import { monotonicNow } from "./frame-socket.ts";
import { PeerListener } from "./listener.ts";
import { MessageLink } from "./message-link.ts";
import { sendSnapshot } from "./snapshot-link.ts";

export interface WsPeerTransportOptions {
  readonly identity: PeerIdentity;
  /** For URLs that start with `https:`, as of now. */
  readonly tls?: () => ConnectionOptions;
  readonly report: Host["report"];
  /** Of the largest request that a member may propose, and all members take; absent: the default. */
  readonly requestBytesMax?: number;
}

const NO_TLS = (): ConnectionOptions => ({});

interface Destination {
  readonly link: MessageLink;
  urls: readonly string[];
}

export class WsPeerTransport implements PeerTransport {
  inbox: PeerInbox = {
    messages: () => {},
    call: () => Promise.reject(new Error("not started")),
    snapshot: () => Promise.reject(new Error("not started")),
    unreachable: () => {},
    isRemoved: () => false,
    removed: () => {},
  };
  readonly #options: WsPeerTransportOptions;
  readonly #frameBytesMax: number;
  readonly #listener: PeerListener;
  readonly #destinations = new Map<NodeId, Destination>();
  readonly #snapshots = new Set<() => void>();
  #closed = false;

  constructor(options: WsPeerTransportOptions) {
    this.#options = options;
    const { identity, report, requestBytesMax = LIMITS.requestBytesMax } = options;
    const frameBytesMax = peerFrameBytesMaxOf(requestBytesMax);
    this.#frameBytesMax = frameBytesMax;
    this.#listener = new PeerListener({ identity, report, inbox: () => this.inbox, frameBytesMax });
  }

  /** Takes the upgrades of `/raft` on the server of the peer port. */
  attach(server: Server): void {
    this.#listener.attach(server);
  }

  /** The same for servers that dispatch upgrades themselves. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#listener.upgrade(request, socket, head);
  }

  setPeers(peers: readonly PeerAddress[]): void {
    if (this.#closed) return;
    const own = this.#options.identity.memberId.toString();
    const wanted = new Map(peers.filter(({ id }) => id !== own).map((peer) => [peer.id, peer]));
    for (const [id, { link }] of this.#destinations) {
      if (wanted.has(id)) continue;
      link.close();
      this.#destinations.delete(id);
    }
    for (const { id, peerUrls } of wanted.values()) {
      const known = this.#destinations.get(id);
      if (known === undefined) {
        this.#destinations.set(id, { link: this.#linkTo(id, peerUrls), urls: peerUrls });
      } else {
        known.link.setUrls(peerUrls);
        known.urls = peerUrls;
      }
    }
    this.#listener.dropRemoved();
  }

  send(to: NodeId, messages: readonly Message[]): void {
    const destination = this.#destinations.get(to);
    if (destination !== undefined) destination.link.send(messages);
    else this.#listener.send(to, messages);
  }

  call(to: NodeId, call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply> {
    const destination = this.#destinations.get(to);
    if (destination === undefined) return Promise.reject(new Error(`member ${to} is unknown`));
    return destination.link.call(call, timeoutMilliseconds);
  }

  async sendSnapshot(to: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void> {
    const url = this.#destinations.get(to)?.urls[0];
    if (url === undefined || this.#closed) throw new Error(`member ${to} is unknown`);
    const { identity, tls = NO_TLS } = this.#options;
    let started: (() => void) | undefined;
    try {
      await sendSnapshot({
        identity,
        tls,
        frameBytesMax: this.#frameBytesMax,
        to: BigInt(to),
        url,
        mark,
        chunks,
        onStart: (giveUp) => {
          started = giveUp;
          this.#snapshots.add(giveUp);
        },
      });
    } finally {
      if (started !== undefined) this.#snapshots.delete(started);
    }
  }

  idleMilliseconds(id: NodeId): number | undefined {
    const outgoing = this.#destinations.get(id)?.link.lastReceived;
    const incoming = this.#listener.lastReceived(BigInt(id));
    if (outgoing === undefined && incoming === undefined) return undefined;
    return Math.max(0, monotonicNow() - Math.max(outgoing ?? 0, incoming ?? 0));
  }

  versionOf(id: NodeId): number | undefined {
    // A member in a Durable Object doesn't dial: what its link speaks is what both do.
    return this.#listener.versionOf(BigInt(id)) ?? this.#destinations.get(id)?.link.version;
  }

  /** Ends all connections; nothing is received any more. */
  close(): void {
    this.#closed = true;
    for (const { link } of this.#destinations.values()) link.close();
    this.#destinations.clear();
    for (const giveUp of this.#snapshots) giveUp();
    this.#listener.close();
  }

  #linkTo(id: NodeId, urls: readonly string[]): MessageLink {
    const { identity, report, tls = NO_TLS } = this.#options;
    // A member that is down is told once, not at every attempt.
    let lastReason: string | undefined;
    return new MessageLink({
      identity,
      tls,
      frameBytesMax: this.#frameBytesMax,
      to: BigInt(id),
      urls,
      onUnsent: (messages) => this.inbox.unreachable(id, messages),
      inbox: () => this.inbox,
      onUp: () => {
        lastReason = undefined;
        report("info", "connected to a peer", { peer: BigInt(id) });
      },
      onDown: (code, reason) => {
        if (code === CLOSE.removed) this.inbox.removed(id);
        if (reason === lastReason) return;
        lastReason = reason;
        const refused = code >= CLOSE.malformed && code <= CLOSE.protocol;
        report(refused ? "error" : "warn", "lost a peer", { peer: BigInt(id), code, reason });
      },
    });
  }
}
