/**
 * `PeerTransport` of a member in a Durable Object beside Node peers: they dial it, and it speaks on
 * the links that they dialled, snapshots included. So nothing leaves for their peer ports, which may
 * be private; and while a member doesn't dial, nothing reaches it.
 */
import type { Bytes } from "../../shared/base/bytes.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import type { PeerInbox, PeerTransport } from "../../shared/peer/host.ts";
import { CLOSE } from "../../shared/peer/links/frame-link.ts";
import { REMOVED } from "../../shared/peer/links/hello-check.ts";
import { LinkIntake } from "../../shared/peer/links/link-intake.ts";
import { SnapshotReceiver } from "../../shared/peer/links/snapshot-receiver.ts";
import { SnapshotSender } from "../../shared/peer/links/snapshot-sender.ts";
import { WaitingCalls, type Schedule } from "../../shared/peer/links/waiting-calls.ts";
import type { Message, NodeId, SnapshotMark } from "../../shared/raft/types.ts";
import type { PeerCall, PeerReply } from "../../shared/wire/peer-call.ts";
import type { PeerHello } from "../../shared/wire/peer-codec.ts";
import { messageBatches } from "../../shared/wire/raft-codec.ts";
import type { SocketLink } from "./socket-link.ts";
import { NOT_STARTED } from "./stub-transport.ts";

export interface MemberTransportOptions {
  /** Milliseconds of a clock that never steps back. */
  now(): number;
  readonly schedule: Schedule;
}

/** A link of messages, both ways. */
interface Talk {
  readonly link: SocketLink;
  readonly version: number;
  readonly calls: WaitingCalls;
  /** Until the receiver has answered. */
  sender: SnapshotSender | undefined;
}

export class MemberTransport implements PeerTransport {
  inbox: PeerInbox = NOT_STARTED;
  readonly #options: MemberTransportOptions;
  readonly #talks = new Map<NodeId, Talk>();
  /** On which others send their snapshots. */
  readonly #snapshotLinks = new Map<NodeId, SocketLink>();
  #cancelLook = (): void => {};
  #closed = false;

  constructor(options: MemberTransportOptions) {
    this.#options = options;
    this.#dropSilent();
  }

  /** Members that have a link here. */
  get linkCount(): number {
    return this.#talks.size;
  }

  /** Takes a link whose hello was accepted. */
  attach(link: SocketLink, { purpose, version }: Pick<PeerHello, "purpose" | "version">): void {
    if (this.#closed) return link.close(CLOSE.done, "the member stops");
    if (purpose === "messages") this.#talk(link, version);
    else this.#takeSnapshot(link);
  }

  /** Members dial; only what was removed is to be told. */
  setPeers(): void {
    const links = [...this.#talks.values()].map(({ link }) => link);
    for (const link of [...links, ...this.#snapshotLinks.values()]) {
      if (this.inbox.isRemoved(link.from)) link.close(CLOSE.removed, REMOVED);
    }
  }

  send(to: NodeId, messages: readonly Message[]): void {
    const talk = this.#talks.get(to);
    if (talk === undefined || talk.link.bufferedBytes > LIMITS.peerSendBufferBytesMax) {
      return this.inbox.unreachable(to, messages);
    }
    for (const batch of messageBatches(messages)) {
      talk.link.send({ kind: "messages", messages: batch });
    }
  }

  call(to: NodeId, call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply> {
    const talk = this.#talks.get(to);
    if (talk === undefined) return Promise.reject(new Error(`member ${to} is not connected`));
    return talk.calls.call(talk.link, call, timeoutMilliseconds);
  }

  async sendSnapshot(to: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void> {
    const talk = this.#talks.get(to);
    if (talk === undefined) throw new Error(`member ${to} is not connected`);
    if (talk.sender !== undefined) throw new Error(`another snapshot to ${to} has yet to end`);
    const sender = new SnapshotSender(talk.link, mark, chunks);
    talk.sender = sender;
    await sender.done;
  }

  idleMilliseconds(id: NodeId): number | undefined {
    const talk = this.#talks.get(id);
    if (talk === undefined) return undefined;
    return Math.max(0, this.#options.now() - talk.link.lastReceived);
  }

  versionOf(id: NodeId): number | undefined {
    return this.#talks.get(id)?.version;
  }

  close(reason: string): void {
    this.#closed = true;
    this.#cancelLook();
    for (const { link } of this.#talks.values()) link.close(CLOSE.done, reason);
    for (const link of this.#snapshotLinks.values()) link.close(CLOSE.done, reason);
    this.inbox = NOT_STARTED;
  }

  /** Cuts links on which nothing has come for too long: those who dialled them ping each second. */
  #dropSilent(): void {
    const oldest = this.#options.now() - LIMITS.peerIdleMillisecondsMax;
    const links = [...this.#talks.values()].map(({ link }) => link);
    for (const link of [...links, ...this.#snapshotLinks.values()]) {
      if (link.lastReceived < oldest) link.close(CLOSE.done, "nothing was received");
    }
    const look = (): void => this.#dropSilent();
    this.#cancelLook = this.#options.schedule(LIMITS.peerPingMilliseconds, look);
  }

  #talk(link: SocketLink, version: number): void {
    const { from } = link;
    this.#talks.get(from)?.link.close(CLOSE.replaced, "replaced by a newer connection");
    const calls = new WaitingCalls(this.#options.schedule);
    const talk: Talk = { link, version, calls, sender: undefined };
    this.#talks.set(from, talk);
    const intake = new LinkIntake(link, from, () => this.inbox);
    link.onFrame = (frame) => {
      if (frame.kind === "reply") return calls.receive(frame);
      if (talk.sender?.receive(frame) === true) {
        if (talk.sender.isAnswered) talk.sender = undefined;
        return;
      }
      if (!intake.receive(frame)) link.close(CLOSE.protocol, `a ${frame.kind} frame too many`);
    };
    link.onClose = (reason) => {
      if (this.#talks.get(from) === talk) this.#talks.delete(from);
      calls.rejectAll("the connection was lost");
      talk.sender?.fail(new Error(`the connection ended: ${reason}`));
      intake.closed(reason);
    };
  }

  #takeSnapshot(link: SocketLink): void {
    const { from } = link;
    this.#snapshotLinks.get(from)?.close(CLOSE.replaced, "replaced by a newer connection");
    this.#snapshotLinks.set(from, link);
    const receiver = new SnapshotReceiver(link, (mark, chunks) =>
      this.inbox.snapshot(from, mark, chunks),
    );
    link.onFrame = (frame) => {
      if (!receiver.receive(frame))
        link.close(CLOSE.protocol, `a ${frame.kind} frame out of place`);
    };
    link.onClose = (reason) => {
      if (this.#snapshotLinks.get(from) === link) this.#snapshotLinks.delete(from);
      receiver.closed(reason);
    };
  }
}
