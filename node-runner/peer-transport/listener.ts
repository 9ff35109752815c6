/**
 * The receiving end of the links: takes upgrades on the peer port, checks the hello, and hands frames to the inbox. A
 * hello for another cluster, another member, an unknown version or with a wrong secret closes the connection with a
 * code and a log line. Senders that the membership doesn't name are let in: a member that lags may not know its leader
 * yet, and raft drops what it need not heed. It is answered on its own link until then: an answer may be what it takes
 * to learn of it. Only those that were removed are refused: so they learn of it.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { LIMITS } from "../../shared/base/limits.ts";
import type { Host, PeerInbox } from "../../shared/peer/host.ts";
import { CLOSE, PEER_PATH } from "../../shared/peer/links/frame-link.ts";
import { checkHello, REMOVED } from "../../shared/peer/links/hello-check.ts";
import type { PeerIdentity } from "../../shared/peer/links/hello-check.ts";
import { LinkIntake } from "../../shared/peer/links/link-intake.ts";
import { SnapshotReceiver } from "../../shared/peer/links/snapshot-receiver.ts";
import type { Message, NodeId } from "../../shared/raft/types.ts";
import { PEER_VERSION } from "../../shared/wire/peer-codec.ts";
import type { PeerFrame, PeerHello } from "../../shared/wire/peer-codec.ts";
import { messageBatches } from "../../shared/wire/raft-codec.ts";
import { refuseUpgrade } from "../http/upgrade.ts";
import { sameSecret } from "../same-secret.ts";
import { FrameSocket } from "./frame-socket.ts";

export interface PeerListenerOptions {
  readonly identity: PeerIdentity;
  readonly report: Host["report"];
  readonly inbox: () => PeerInbox;
  /** Bytes of one frame. */
  readonly frameBytesMax: number;
}

export class PeerListener {
  readonly #options: PeerListenerOptions;
  readonly #server: WebSocketServer;
  readonly #sockets = new Set<FrameSocket>();
  /** Accepted links by sender and purpose. */
  readonly #links = new Map<string, FrameSocket>();
  /** What the senders on message links speak. */
  readonly #versions = new Map<bigint, number>();
  #handshakes = 0;
  #closed = false;

  constructor(options: PeerListenerOptions) {
    this.#options = options;
    this.#server = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: options.frameBytesMax,
    });
  }

  /** Takes the upgrades of `/raft` here; others stay for other listeners, or are refused. */
  attach(server: Server): void {
    server.on("upgrade", (request, socket, head) => {
      if (pathOf(request) === PEER_PATH) return this.upgrade(request, socket, head);
      if (server.listenerCount("upgrade") === 1) refuseUpgrade(socket, 404);
    });
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Browsers always name an origin: scripts in them have no business here.
    if (request.headers.origin !== undefined) return refuseUpgrade(socket, 403);
    if (this.#closed || this.#handshakes >= LIMITS.peerHandshakesMax) {
      return refuseUpgrade(socket, 503);
    }
    this.#server.handleUpgrade(request, socket, head, (accepted) => this.#accept(accepted));
  }

  lastReceived(from: bigint): number | undefined {
    return this.#links.get(`${from} messages`)?.lastReceived;
  }

  /** On the link that the other side has dialled, for a member whose address isn't known; else they are dropped. */
  send(to: NodeId, messages: readonly Message[]): void {
    const link = this.#links.get(`${to} messages`);
    if (link === undefined || link.bufferedBytes > LIMITS.peerSendBufferBytesMax) return;
    for (const batch of messageBatches(messages)) link.send({ kind: "messages", messages: batch });
  }

  /** Ends the links of members that were removed in the meantime. */
  dropRemoved(): void {
    for (const link of this.#links.values()) {
      if (this.#options.inbox().isRemoved(link.from)) link.close(CLOSE.removed, REMOVED);
    }
  }

  versionOf(from: bigint): number | undefined {
    return this.#versions.get(from);
  }

  close(): void {
    this.#closed = true;
    for (const socket of this.#sockets) socket.terminate("the transport is closed");
    this.#server.close();
  }

  #accept(socket: WebSocket): void {
    const receivers: Receivers = { onFrame: undefined, onClose: undefined };
    this.#handshakes += 1;
    const link = new FrameSocket(socket, {
      ends: { from: "1", to: "1" },
      helloPending: true,
      bytesMax: this.#options.frameBytesMax,
      events: {
        onFrame: (frame) => {
          if (receivers.onFrame !== undefined) return receivers.onFrame(frame);
          this.#greet(link, frame, receivers);
        },
        onClose: (_code, reason) => {
          if (receivers.onFrame === undefined) this.#handshakes -= 1;
          this.#sockets.delete(link);
          receivers.onClose?.(reason);
        },
      },
    });
    this.#sockets.add(link);
  }

  #greet(link: FrameSocket, frame: PeerFrame, receivers: Receivers): void {
    const { identity, report } = this.#options;
    if (frame.kind !== "hello") return link.close(CLOSE.protocol, "no hello");
    const { hello } = frame;
    const removed = this.#options.inbox().isRemoved(hello.from.toString());
    const refusal = checkHello(hello, identity, { removed, sameSecret });
    if (refusal !== undefined) {
      const { cluster, from, to } = hello;
      report("warn", `refused a peer: ${refusal.reason}`, { cluster, from, to });
      return link.close(refusal.code, refusal.reason);
    }
    this.#handshakes -= 1;
    link.identify({ from: hello.from.toString(), to: hello.to.toString() });
    const name = `${hello.from} ${hello.purpose}`;
    this.#links.get(name)?.close(CLOSE.replaced, "replaced by a newer connection");
    this.#links.set(name, link);
    if (hello.purpose === "messages") this.#versions.set(hello.from, hello.version);
    if (hello.purpose === "messages") this.#takeMessages(link, hello, receivers);
    else this.#takeSnapshot(link, hello, receivers);
    const { onClose } = receivers;
    receivers.onClose = (reason) => {
      if (this.#links.get(name) === link) {
        this.#links.delete(name);
        if (hello.purpose === "messages") this.#versions.delete(hello.from);
      }
      onClose?.(reason);
    };
    link.send({
      kind: "welcome",
      version: Math.min(identity.version ?? PEER_VERSION, hello.version),
    });
  }

  #takeMessages(link: FrameSocket, hello: PeerHello, receivers: Receivers): void {
    const intake = new LinkIntake(link, hello.from.toString(), this.#options.inbox);
    receivers.onFrame = (frame) => {
      if (!intake.receive(frame)) link.close(CLOSE.protocol, `a ${frame.kind} frame too many`);
    };
    receivers.onClose = (reason) => intake.closed(reason);
  }

  #takeSnapshot(link: FrameSocket, hello: PeerHello, receivers: Receivers): void {
    const from = hello.from.toString();
    const receiver = new SnapshotReceiver(link, (mark, chunks) =>
      this.#options.inbox().snapshot(from, mark, chunks),
    );
    receivers.onFrame = (frame) => {
      if (!receiver.receive(frame))
        link.close(CLOSE.protocol, `a ${frame.kind} frame out of place`);
    };
    receivers.onClose = (reason) => receiver.closed(reason);
  }
}

/** What a link does once its hello was taken. */
interface Receivers {
  onFrame: ((frame: PeerFrame) => void) | undefined;
  onClose: ((reason: string) => void) | undefined;
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "").split("?", 1)[0] ?? "";
}
