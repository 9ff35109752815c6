/**
 * The peer's only door to the world. A host is a Node process (`node-runner`), a Durable Object
 * (`worker`) or the simulator (`test/sim`): it gives the peer storage, links, time and chance.
 */
import type { Backend } from "../backend/backend.ts";
import type { Bytes } from "../base/bytes.ts";
import type { LogStore } from "../raft/log-store.ts";
import type { Message, NodeId, SnapshotMark } from "../raft/types.ts";
import type { PeerCall, PeerReply } from "../wire/peer-call.ts";

export interface Host {
  readonly log: LogStore;
  readonly backend: Backend;
  readonly transport: PeerTransport;

  /** Milliseconds of a clock that never steps back; its zero means nothing. */
  now(): number;
  /**
   * Milliseconds since 1970, for stamps that people read and ids of new members. Never for ordering
   * or expiry.
   */
  wallClock(): number;
  /**
   * Runs `callback` once after at least so many milliseconds; returns a function that cancels it.
   */
  schedule(milliseconds: number, callback: () => void): () => void;
  /**
   * Runs `callback` after the input that has arrived by now, before more is awaited: where batches
   * close.
   */
  defer(callback: () => void): void;
  /** Unpredictable bytes, for ids and seeds. */
  randomBytes(count: number): Bytes;
  sha256(): Hasher;
  report(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void;
  /**
   * The peer can't go on: stop it, never answer again. After a broken invariant or a storage fault
   * at once; after its removal from the cluster (`MemberRemovedError`) in good order.
   */
  fatal(error: Error): void;
}

export interface Hasher {
  update(bytes: Bytes): void;
  digest(): Bytes;
}

export type LogLevel = "debug" | "info" | "warn" | "error";

/** Where a member can be reached, as the membership says. */
export interface PeerAddress {
  readonly id: NodeId;
  readonly peerUrls: readonly string[];
}

/**
 * Links to the other members. `send` never blocks and may lose (raft repeats), but delivers nothing
 * that carries a proposal twice: it would be applied twice. Order within one destination is kept.
 * Each member sends only on connections that it dialled itself, so that one direction can be cut.
 */
export interface PeerTransport {
  /** Set once by the peer, before anything is received. */
  inbox: PeerInbox;
  setPeers(peers: readonly PeerAddress[]): void;
  /** A member whose address `setPeers` hasn't told is answered on the link that it dialled. */
  send(to: NodeId, messages: readonly Message[]): void;
  /** A small request beside raft; rejects when the member can't be reached or the time is over. */
  call(to: NodeId, call: PeerCall, timeoutMilliseconds: number): Promise<PeerReply>;
  /**
   * Streams a snapshot on a connection of its own, pulling `chunks` as the receiver takes them;
   * resolves once installed.
   */
  sendSnapshot(to: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void>;
  /**
   * Milliseconds since something was last received from this member on a live link; undefined: not
   * connected.
   */
  idleMilliseconds(id: NodeId): number | undefined;
  /** The newest version that this member says it speaks; undefined: not connected. */
  versionOf(id: NodeId): number | undefined;
}

export interface PeerInbox {
  messages(from: NodeId, messages: readonly Message[]): void;
  call(from: NodeId, call: PeerCall): Promise<PeerReply>;
  /**
   * Resolves once the snapshot is installed (the peer steps raft itself); rejects when it is
   * refused or broken.
   */
  snapshot(from: NodeId, mark: SnapshotMark, chunks: AsyncIterable<Bytes>): Promise<void>;
  /** Messages to this member are lost; of `unsent` it is certain that they never left. */
  unreachable(to: NodeId, unsent: readonly Message[]): void;
  /**
   * True once links of this member are to be refused, because it was removed from the cluster: the
   * transport tells it so. Asked at each new link, and of those that are there after `setPeers`.
   */
  isRemoved(from: NodeId): boolean;
  /** `by` has refused a link because this member was removed. */
  removed(by: NodeId): void;
}
