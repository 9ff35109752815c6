/**
 * The frames of a link between two members: each a CBOR array `[tag, ...fields]`, one a WebSocket message.
 *
 *   0 hello     [version, versionMin, cluster, from, to, incarnation, purpose: 0 messages | 1 snapshot, secret]
 *   1 welcome   [version]: the listener takes the hello; before it nothing else is sent
 *   2 messages  [message...]            raft-codec.ts
 *   3 call      [id, call]              4 reply   [id, reply]
 *   5 ping      [number]                6 pong    [number]
 *   7 snapshot  [index, term, ...membership]      8 chunk  [bytes]     9 end  []
 *  10 taken     [chunks]: so many more chunks were consumed, the sender may go on
 *  11 installed []                     12 refused [reason]: by either end, the transfer is over
 *  call:  [0, ids] leaseRenew          [1, id] leaseRemaining                   [2, member] memberPromote
 *         [3, revision] hashKv        [4] members                         [5, term, index] snapshotStaged
 *         [6, members] learnersReady
 *  reply: [0, ttlSeconds] leaseRenew   [1, milliseconds | null] leaseRemaining   [2, 0 notLeader | 1 noConfirmation]
 *         [3, refusal] memberPromote  [4, hash, revision (0: none), compacted revision + 1] hashKv
 *         [5, [[id, name, [peer URL...]]...]] members      [6, chunks] snapshotStaged
 *         [7, refusal] learnersReady
 *
 * Versions: a hello names the range that its sender speaks, the listener picks the highest that both do, or closes. A
 * changed layout gets a new version.
 */
import { MalformedError } from "../base/byte-reader.ts";
import type { Bytes } from "../base/bytes.ts";
import { LIMITS } from "../base/limits.ts";
import type { Message, NodeId, SnapshotMark } from "../raft/types.ts";
import { countOf, encodeInt64, int64Of, textOfField, uint64Of } from "./cbor-fields.ts";
import { decodeCbor, encodeCbor, WireError } from "./cbor.ts";
import { FieldReader } from "./field-reader.ts";
import type { PeerCall, PeerReply, ToldMember } from "./peer-call.ts";
import { membershipToCbor, messageFromCbor, messageToCbor, readMembership } from "./raft-codec.ts";

/**
 * The versions that this code speaks: what travels between members, and what stands in the log
 * (`command-codec.ts` says what each brought). Members of two versions side by side use what the
 * older one reads: a link by its hello, the log by the cluster's replicated version.
 */
export const PEER_VERSION = 2;
export const PEER_VERSION_MIN = 1;

export interface PeerHello {
  readonly version: number;
  readonly versionMin: number;
  readonly cluster: bigint;
  readonly from: bigint;
  readonly to: bigint;
  /** Random per start of the sender. */
  readonly incarnation: number;
  readonly purpose: "messages" | "snapshot";
  /** Proof that the sender belongs to the cluster; empty when none is configured. */
  readonly secret: string;
}

export type PeerFrame =
  | { readonly kind: "hello"; readonly hello: PeerHello }
  | { readonly kind: "welcome"; readonly version: number }
  | { readonly kind: "messages"; readonly messages: readonly Message[] }
  | { readonly kind: "call"; readonly id: number; readonly call: PeerCall }
  | { readonly kind: "reply"; readonly id: number; readonly reply: PeerReply }
  | { readonly kind: "ping" | "pong"; readonly number: number }
  | { readonly kind: "snapshot"; readonly mark: SnapshotMark }
  | { readonly kind: "chunk"; readonly bytes: Bytes }
  | { readonly kind: "end" }
  | { readonly kind: "taken"; readonly chunks: number }
  | { readonly kind: "installed" }
  | { readonly kind: "refused"; readonly reason: string };

/** What came was no frame; the link is to be closed. */
export interface MalformedFrame {
  readonly kind: "malformed";
  readonly reason: string;
}

/** Whose messages a link carries, from its hello. */
export interface LinkEnds {
  readonly from: NodeId;
  readonly to: NodeId;
}

/** What a frame may have where a member takes requests of up to so many bytes. */
export function peerFrameBytesMaxOf(requestBytesMax: number): number {
  const { frameBytesMax, peerBatchBytesMax, requestOverheadBytes, appendBytesMax } = LIMITS;
  const around = peerBatchBytesMax + requestOverheadBytes + appendBytesMax;
  return Math.max(frameBytesMax, requestBytesMax + around);
}

export function encodePeerFrame(frame: PeerFrame): Bytes {
  return encodeCbor(frameToCbor(frame));
}

/** Never throws for any input. */
export function decodePeerFrame(
  bytes: Bytes,
  ends: LinkEnds,
  bytesMax: number = LIMITS.frameBytesMax,
): PeerFrame | MalformedFrame {
  if (bytes.length > bytesMax) {
    return { kind: "malformed", reason: `a frame of ${bytes.length} bytes` };
  }
  try {
    const fields = new FieldReader(decodeCbor(bytes), "frame");
    const frame = readFrame(fields, ends);
    fields.end();
    return frame;
  } catch (error) {
    if (error instanceof WireError || error instanceof MalformedError) {
      return { kind: "malformed", reason: error.message };
    }
    throw error;
  }
}

function frameToCbor(frame: PeerFrame): unknown {
  switch (frame.kind) {
    case "hello": {
      const { version, versionMin, cluster, from, to, incarnation, purpose, secret } = frame.hello;
      const purposeTag = purpose === "messages" ? 0 : 1;
      const ids = [encodeInt64(cluster), encodeInt64(from), encodeInt64(to)];
      return [0, version, versionMin, ...ids, incarnation, purposeTag, secret];
    }
    case "welcome":
      return [1, frame.version];
    case "messages":
      return [2, frame.messages.map(messageToCbor)];
    case "call":
      return [3, frame.id, callToCbor(frame.call)];
    case "reply":
      return [4, frame.id, replyToCbor(frame.reply)];
    case "ping":
      return [5, frame.number];
    case "pong":
      return [6, frame.number];
    case "snapshot": {
      const { index, term, membership } = frame.mark;
      return [7, index, term, ...membershipToCbor(membership)];
    }
    case "chunk":
      return [8, frame.bytes];
    case "end":
      return [9];
    case "taken":
      return [10, frame.chunks];
    case "installed":
      return [11];
    case "refused":
      return [12, frame.reason];
  }
}

function readFrame(fields: FieldReader, ends: LinkEnds): PeerFrame {
  const tag = fields.count();
  switch (tag) {
    case 0:
      return { kind: "hello", hello: readHello(fields) };
    case 1:
      return { kind: "welcome", version: fields.count() };
    case 2: {
      const messages = fields.list((value) => messageFromCbor(value, ends.from, ends.to));
      return { kind: "messages", messages };
    }
    case 3:
      return { kind: "call", id: fields.count(), call: readCall(fields.value()) };
    case 4:
      return { kind: "reply", id: fields.count(), reply: readReply(fields.value()) };
    case 5:
    case 6:
      return { kind: tag === 5 ? "ping" : "pong", number: fields.count() };
    case 7: {
      const [index, term] = [fields.count(), fields.count()];
      return { kind: "snapshot", mark: { index, term, membership: readMembership(fields) } };
    }
    case 8:
      return { kind: "chunk", bytes: fields.bytes() };
    case 9:
      return { kind: "end" };
    case 10:
      return { kind: "taken", chunks: fields.count() };
    case 11:
      return { kind: "installed" };
    case 12:
      return { kind: "refused", reason: fields.text() };
    default:
      throw new WireError(`unknown frame ${tag}`);
  }
}

function readHello(fields: FieldReader): PeerHello {
  const [version, versionMin] = [fields.count(), fields.count()];
  const [cluster, from, to] = [fields.id(), fields.id(), fields.id()];
  const incarnation = fields.count();
  const purposeTag = fields.count();
  if (purposeTag > 1) throw new WireError(`purpose ${purposeTag}`);
  const purpose = purposeTag === 0 ? "messages" : "snapshot";
  const secret = fields.text();
  return { version, versionMin, cluster, from, to, incarnation, purpose, secret };
}

function callToCbor(call: PeerCall): unknown {
  switch (call.kind) {
    case "leaseRenew":
      return [0, call.ids.map(encodeInt64)];
    case "leaseRemaining":
      return [1, encodeInt64(call.id)];
    case "memberPromote":
      return [2, encodeInt64(call.member)];
    case "hashKv":
      return [3, call.revision];
    case "members":
      return [4];
    case "snapshotStaged":
      return [5, call.term, call.index];
    case "learnersReady":
      return [6, call.members.map(encodeInt64)];
  }
}

function readCall(value: unknown): PeerCall {
  const fields = new FieldReader(value, "call");
  const tag = fields.count();
  const call = readCallOf(tag, fields);
  fields.end();
  return call;
}

function readCallOf(tag: number, fields: FieldReader): PeerCall {
  switch (tag) {
    case 0:
      return { kind: "leaseRenew", ids: fields.list((id) => int64Of(id, "lease")) };
    case 1:
      return { kind: "leaseRemaining", id: fields.int64() };
    case 2:
      return { kind: "memberPromote", member: fields.id() };
    case 3:
      return { kind: "hashKv", revision: fields.count() };
    case 4:
      return { kind: "members" };
    case 5:
      return { kind: "snapshotStaged", term: fields.count(), index: fields.count() };
    case 6:
      return { kind: "learnersReady", members: fields.list((id) => uint64Of(id, "member")) };
    default:
      throw new WireError(`unknown call ${tag}`);
  }
}

function replyToCbor(reply: PeerReply): unknown {
  switch (reply.kind) {
    case "leaseRenew":
      return [0, reply.ttlSeconds];
    case "leaseRemaining":
      return [1, reply.remainingMilliseconds ?? null];
    case "refused":
      return [2, reply.reason === "notLeader" ? 0 : 1];
    case "memberPromote":
      return [3, reply.refusal];
    case "hashKv": {
      if (reply.result === undefined) return [4, 0, 0, 0];
      const { hash, hashRevision, compactRevision } = reply.result;
      return [4, hash, hashRevision, compactRevision + 1];
    }
    case "members": {
      const told = reply.members.map(({ id, name, peerUrls }) => [encodeInt64(id), name, peerUrls]);
      return [5, told];
    }
    case "snapshotStaged":
      return [6, reply.chunks];
    case "learnersReady":
      return [7, reply.refusal];
  }
}

function readReply(value: unknown): PeerReply {
  const fields = new FieldReader(value, "reply");
  const tag = fields.count();
  const reply = readReplyOf(tag, fields);
  fields.end();
  return reply;
}

function readReplyOf(tag: number, fields: FieldReader): PeerReply {
  switch (tag) {
    case 0: {
      const ttlSeconds = fields.list((ttl) => countOf(ttl, "ttl"));
      return { kind: "leaseRenew", ttlSeconds };
    }
    case 1: {
      const remainingMilliseconds = fields.optionalNumber();
      return { kind: "leaseRemaining", remainingMilliseconds };
    }
    case 2: {
      const reason = fields.count();
      if (reason > 1) throw new WireError(`refusal ${reason}`);
      return { kind: "refused", reason: reason === 0 ? "notLeader" : "noConfirmation" };
    }
    case 3:
      return { kind: "memberPromote", refusal: fields.text() };
    case 4: {
      const [hash, hashRevision, above] = [fields.count(), fields.count(), fields.count()];
      // No store is at revision 0.
      if (hashRevision === 0) return { kind: "hashKv", result: undefined };
      return { kind: "hashKv", result: { hash, hashRevision, compactRevision: above - 1 } };
    }
    case 5:
      return { kind: "members", members: fields.list(readToldMember) };
    case 6:
      return { kind: "snapshotStaged", chunks: fields.count() };
    case 7:
      return { kind: "learnersReady", refusal: fields.text() };
    default:
      throw new WireError(`unknown reply ${tag}`);
  }
}

function readToldMember(value: unknown): ToldMember {
  const fields = new FieldReader(value, "member");
  const [id, name] = [fields.id(), fields.text()];
  const peerUrls = fields.list((url) => textOfField(url, "a peer URL"));
  fields.end();
  return { id, name, peerUrls };
}
