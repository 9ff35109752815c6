/**
 * The receiving end of the links: takes upgrades on the peer port, checks the hello, and hands frames to the inbox. A
 * hello for another cluster, another member, an unknown version or with a wrong secret closes the connection with a
 * code and a log line. Senders that the membership doesn't name are let in: a member that lags may not know its leader
 * yet, and raft drops what it need not heed. Only those that were removed are refused: so they learn of it.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { LIMITS } from "../../shared/base/limits.ts";
import type { Host, PeerInbox } from "../../shared/peer/host.ts";
import type { PeerCall } from "../../shared/wire/peer-call.ts";
import { PEER_VERSION, PEER_VERSION_MIN } from "../../shared/wire/peer-codec.ts";
import type { PeerFrame, PeerHello } from "../../shared/wire/peer-codec.ts";
import { refuseUpgrade } from "../http/upgrade.ts";
import type { PeerIdentity } from "./dialler.ts";
import { PEER_PATH } from "./dialler.ts";
import { CLOSE, FrameSocket } from "./frame-socket.ts";
import { SnapshotReceiver } from "./snapshot-link.ts";

export interface PeerListenerOptions {
  readonly identity: PeerIdentity;
  readonly report: Host["report"];
  readonly inbox: () => PeerInbox;
}

const REMOVED = "the member has been permanently removed from the cluster";

/** Refuses a hello: the close code and the reason. */
interface HelloRefusal {
  readonly code: number;
  readonly reason: string;
}

export class PeerListener {
  readonly #options: PeerListenerOptions;
  readonly #server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: LIMITS.frameBytesMax,
  });
  readonly #sockets = new Set<FrameSocket>();
  /** Accepted links by sender and purpose. */
  readonly #links = new Map<string, FrameSocket>();
  /** What the senders on message links speak. */
  readonly #versions = new Map<bigint, number>();
  #handshakes = 0;
  #closed = false;

  constructor(options: PeerListenerOptions) {
    this.#options = options;
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
    const refusal = checkHello(hello, identity, removed);
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
    const from = hello.from.toString();
    let calls = 0;
    const answer = async (id: number, call: PeerCall): Promise<void> => {
      calls += 1;
      try {
        const reply = await this.#options.inbox().call(from, call);
        link.send({ kind: "reply", id, reply });
      } catch {
        // The caller asks another member, or again.
        link.send({ kind: "reply", id, reply: { kind: "refused", reason: "noConfirmation" } });
      } finally {
        calls -= 1;
      }
    };
    receivers.onFrame = (frame) => {
      if (frame.kind === "messages") {
        return this.#options.inbox().messages(from, frame.messages);
      }
      if (frame.kind === "call" && calls < LIMITS.peerCallsMax) {
        return void answer(frame.id, frame.call);
      }
      link.close(CLOSE.protocol, `a ${frame.kind} frame too many`);
    };
  }

  #takeSnapshot(link: FrameSocket, hello: PeerHello, receivers: Receivers): void {
    const from = hello.from.toString();
    const receiver = new SnapshotReceiver(link, (mark, chunks) =>
      this.#options.inbox().snapshot(from, mark, chunks),
    );
    receivers.onFrame = (frame) => receiver.receive(frame);
    receivers.onClose = (reason) => receiver.closed(reason);
  }
}

/** What a link does once its hello was taken. */
interface Receivers {
  onFrame: ((frame: PeerFrame) => void) | undefined;
  onClose: ((reason: string) => void) | undefined;
}

function checkHello(
  hello: PeerHello,
  identity: PeerIdentity,
  removed: boolean,
): HelloRefusal | undefined {
  if (!sameSecret(hello.secret, identity.secret)) {
    return { code: CLOSE.wrongSecret, reason: "wrong secret" };
  }
  if (hello.cluster !== identity.clusterId) {
    return { code: CLOSE.wrongCluster, reason: "cluster ID mismatch" };
  }
  if (hello.to !== identity.memberId) {
    return { code: CLOSE.wrongMember, reason: "addressed to another member" };
  }
  if (hello.from === identity.memberId || hello.from === 0n) {
    return { code: CLOSE.wrongMember, reason: "claims to be this member, or none" };
  }
  if (removed) return { code: CLOSE.removed, reason: REMOVED };
  if (hello.version < PEER_VERSION_MIN || hello.versionMin > (identity.version ?? PEER_VERSION)) {
    return { code: CLOSE.wrongVersion, reason: `no common version: ${hello.version}` };
  }
  return undefined;
}

/** Compares digests, so that neither content nor length shows in the time that it takes. */
function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "").split("?", 1)[0] ?? "";
}
