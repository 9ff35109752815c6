/**
 * Raft's messages as CBOR arrays: `[tag, term, ...fields]`. Sender and receiver are not written: they are those of the
 * link's hello, so a member can't speak for another.
 *
 *   1 append         [previousIndex, previousTerm, commit, entries]
 *   2 appendReply    [index, reject, hintIndex, hintTerm]
 *   3 heartbeat      [commit, round] or, where leader leases are used, [commit, round, sentAt]
 *   4 heartbeatReply [round] or [round, sentAt, promisedMilliseconds]
 *   5 vote           [lastIndex, lastTerm, transfer]  6 preVote    the same
 *   7 voteReply      [reject, commit, commitTerm]     8 preVoteReply the same
 *   9 snapshot       [index, term, voters, learners, votersOutgoing, learnersNext, autoLeave]
 *  10 timeoutNow     []                        11 propose          [entries]
 *  12 readIndex      [context]                 13 readIndexReply   [context, index]
 *  14 transferLeader [transferee]
 *
 * Entries are one byte string, because a generic encoder spends most of its time on their framing (100 entries of 300
 * bytes: 51 us as nested arrays, 21 us packed). For each entry, with numbers in base 128 (`ByteWriter`):
 *
 *   term (0 in a proposal) | kind: 0 normal, 1 membership | length of data | data
 *
 * Indexes are not written: an append's entries follow its `previousIndex` without a gap. Decoded data are views of the
 * received frame.
 */
import { assert } from "../base/assert.ts";
import { ByteReader } from "../base/byte-reader.ts";
import { ByteWriter } from "../base/byte-writer.ts";
import type { Bytes } from "../base/bytes.ts";
import { LIMITS } from "../base/limits.ts";
import type { Entry, Membership, Message, NodeId, ProposedEntry } from "../raft/types.ts";
import { encodeInt64, uint64Of } from "./cbor-fields.ts";
import { WireError } from "./cbor.ts";
import { FieldReader } from "./field-reader.ts";

/** What an entry takes beside its data, at most: two numbers in base 128, and the kind. */
const ENTRY_OVERHEAD_BYTES = 8 + 1 + 8;
/** The version of the cluster from which on heartbeats may ask for promises: all read the field. */
export const LEADER_LEASE_SINCE = 2;

/** What a message takes beside its entries, amply. */
const MESSAGE_OVERHEAD_BYTES = 128;

/** An upper bound of a message's encoded size, so that senders can cut batches (a snapshot's members are few). */
export function messageBytesMax(message: Message): number {
  let bytes = MESSAGE_OVERHEAD_BYTES;
  if (message.type === "append" || message.type === "propose") {
    for (const entry of message.entries) bytes += entry.data.length + ENTRY_OVERHEAD_BYTES;
  } else if (message.type === "snapshot") {
    const { voters, learners, votersOutgoing, learnersNext } = message.snapshot.membership;
    const members = voters.length + learners.length + votersOutgoing.length + learnersNext.length;
    bytes += members * 9;
  }
  return bytes;
}

/** Cuts messages into what one frame carries: each is complete once it holds `peerBatchBytesMax`. */
export function* messageBatches(messages: readonly Message[]): Generator<readonly Message[]> {
  let start = 0;
  let bytes = 0;
  for (const [position, message] of messages.entries()) {
    bytes += messageBytesMax(message);
    if (bytes < LIMITS.peerBatchBytesMax) continue;
    yield messages.slice(start, position + 1);
    start = position + 1;
    bytes = 0;
  }
  if (start < messages.length) yield start === 0 ? messages : messages.slice(start);
}

/** The message as a value for `encodeCbor`. */
export function messageToCbor(message: Message): unknown {
  const { term } = message;
  switch (message.type) {
    case "append": {
      const { previousIndex, previousTerm, commit, entries } = message;
      assert(
        entries.every((entry, position) => entry.index === previousIndex + 1 + position),
        "the entries of an append follow each other",
      );
      return [1, term, previousIndex, previousTerm, commit, packEntries(entries)];
    }
    case "appendReply":
      return [2, term, message.index, message.reject, message.hintIndex, message.hintTerm];
    case "heartbeat":
      return [3, term, message.commit, message.round, ...present(message.sentAt)];
    case "heartbeatReply": {
      const { round, sentAt, promisedMilliseconds } = message;
      if (sentAt === undefined || promisedMilliseconds === undefined) return [4, term, round];
      return [4, term, round, sentAt, promisedMilliseconds];
    }
    case "vote":
      return [5, term, message.lastIndex, message.lastTerm, message.transfer];
    case "preVote":
      return [6, term, message.lastIndex, message.lastTerm, message.transfer];
    case "voteReply":
      return [7, term, message.reject, message.commit, message.commitTerm];
    case "preVoteReply":
      return [8, term, message.reject, message.commit, message.commitTerm];
    case "snapshot": {
      const { index, term: lastTerm, membership } = message.snapshot;
      return [9, term, index, lastTerm, ...membershipToCbor(membership)];
    }
    case "timeoutNow":
      return [10, term];
    case "propose":
      return [11, term, packEntries(message.entries)];
    case "readIndex":
      return [12, term, message.context];
    case "readIndexReply":
      return [13, term, message.context, message.index];
    case "transferLeader":
      return [14, term, idToCbor(message.transferee)];
  }
}

function present(value: number | undefined): readonly number[] {
  return value === undefined ? [] : [value];
}

/** Throws `WireError`, or `MalformedError` for entries. */
export function messageFromCbor(value: unknown, from: NodeId, to: NodeId): Message {
  const fields = new FieldReader(value, "message");
  const tag = fields.count();
  const term = fields.count();
  const message = readMessage(tag, fields, { from, to, term });
  fields.end();
  return message;
}

interface Envelope {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly term: number;
}

function readMessage(tag: number, fields: FieldReader, envelope: Envelope): Message {
  const { from, to, term } = envelope;
  switch (tag) {
    case 1:
      return readAppend(fields, envelope);
    case 2: {
      const [index, reject] = [fields.count(), fields.flag()];
      const [hintIndex, hintTerm] = [fields.count(), fields.count()];
      return { type: "appendReply", from, to, term, index, reject, hintIndex, hintTerm };
    }
    case 3:
      return readHeartbeat(fields, envelope);
    case 4:
      return readHeartbeatReply(fields, envelope);
    case 5:
    case 6: {
      const type = tag === 5 ? "vote" : "preVote";
      const [lastIndex, lastTerm] = [fields.count(), fields.count()];
      return { type, from, to, term, lastIndex, lastTerm, transfer: fields.flag() };
    }
    case 7:
    case 8: {
      const type = tag === 7 ? "voteReply" : "preVoteReply";
      const reject = fields.flag();
      return { type, from, to, term, reject, commit: fields.count(), commitTerm: fields.count() };
    }
    case 9: {
      const [index, lastTerm] = [fields.count(), fields.count()];
      const snapshot = { index, term: lastTerm, membership: readMembership(fields) };
      return { type: "snapshot", from, to, term, snapshot };
    }
    case 10:
      return { type: "timeoutNow", from, to, term };
    case 11:
      return { type: "propose", from, to, term, entries: unpackProposals(fields.bytes()) };
    case 12:
      return { type: "readIndex", from, to, term, context: fields.count() };
    case 13: {
      const [context, index] = [fields.count(), fields.count()];
      return { type: "readIndexReply", from, to, term, context, index };
    }
    case 14:
      return { type: "transferLeader", from, to, term, transferee: fields.id().toString() };
    default:
      throw new WireError(`unknown message ${tag}`);
  }
}

function readHeartbeat(fields: FieldReader, envelope: Envelope): Message {
  const plain = { type: "heartbeat", commit: fields.count(), round: fields.count() } as const;
  if (fields.atEnd) return { ...envelope, ...plain };
  return { ...envelope, ...plain, sentAt: fields.count() };
}

function readHeartbeatReply(fields: FieldReader, envelope: Envelope): Message {
  const plain = { type: "heartbeatReply", round: fields.count() } as const;
  if (fields.atEnd) return { ...envelope, ...plain };
  const [sentAt, promisedMilliseconds] = [fields.count(), fields.count()];
  return { ...envelope, ...plain, sentAt, promisedMilliseconds };
}

function readAppend(fields: FieldReader, { from, to, term }: Envelope): Message {
  const previousIndex = fields.count();
  const previousTerm = fields.count();
  const commit = fields.count();
  const entries = unpackEntries(fields.bytes(), previousIndex + 1);
  return { type: "append", from, to, term, previousIndex, previousTerm, commit, entries };
}

/** The five fields of a membership; members are 64-bit numbers. */
export function membershipToCbor(membership: Membership): unknown[] {
  return [
    membership.voters.map(idToCbor),
    membership.learners.map(idToCbor),
    membership.votersOutgoing.map(idToCbor),
    membership.learnersNext.map(idToCbor),
    membership.autoLeave,
  ];
}

export function readMembership(fields: FieldReader): Membership {
  const voters = fields.list(nodeId);
  const learners = fields.list(nodeId);
  const votersOutgoing = fields.list(nodeId);
  const learnersNext = fields.list(nodeId);
  return { voters, learners, votersOutgoing, learnersNext, autoLeave: fields.flag() };
}

function idToCbor(id: NodeId): unknown {
  return encodeInt64(BigInt(id));
}

/** A member's id; 0 is none. */
function nodeId(value: unknown): NodeId {
  const id = uint64Of(value, "member");
  if (id === 0n) throw new WireError("member 0");
  return id.toString();
}

const writer = new ByteWriter();

/** Entries as one byte string, in the layout above. Logs store them so too. */
export function packEntries(entries: readonly (Entry | ProposedEntry)[]): Bytes {
  for (const entry of entries) {
    writer.varint("term" in entry ? entry.term : 0);
    writer.byte(entry.kind === "normal" ? 0 : 1);
    writer.bytes(entry.data);
  }
  return writer.finish();
}

/** The entries of a byte string, of which the first has the index `first`. Throws `WireError`. */
export function unpackEntries(packed: Bytes, first: number): Entry[] {
  const entries: Entry[] = [];
  unpack(packed, (term, kind, data) => {
    entries.push({ index: first + entries.length, term, kind, data });
  });
  return entries;
}

function unpackProposals(packed: Bytes): ProposedEntry[] {
  const entries: ProposedEntry[] = [];
  unpack(packed, (term, kind, data) => {
    if (term !== 0) throw new WireError("a proposal with a term");
    entries.push({ kind, data });
  });
  return entries;
}

function unpack(
  packed: Bytes,
  visit: (term: number, kind: Entry["kind"], data: Bytes) => void,
): void {
  const reader = new ByteReader(packed);
  while (!reader.atEnd) {
    const term = reader.varint();
    const kind = reader.byte();
    if (kind > 1) throw new WireError(`entry kind ${kind}`);
    visit(term, kind === 0 ? "normal" : "membership", reader.bytes());
  }
}
