/**
 * The bytes of a log entry's command. Every member must read every entry alike, for ever: the
 * layout carries a version, and a reader that meets a newer version or an unknown kind throws, upon
 * which the peer stops rather than skips a write.
 *
 * One hand-written layout for all kinds, no CBOR: the hot kinds want it (a put of 256 bytes is
 * written in 0.6 us and read in 0.3 us), and a second layout for the rest would be one more thing
 * to keep for ever.
 *
 *   byte      version (1)
 *   byte      kind: 1 put, 2 deleteRange, 3 txn, 4 compact, 5 leaseGrant, 6 leaseRevoke, 7 alarm, 8 memberAttributes,
 *             9 clusterVersion, 10 memberAdd, 11 memberRemove, 12 memberPromote, 13 memberUpdate, 14 memberChange
 *   byte      flags: 1 a request id follows, 2 a write identity follows
 *   [request  24 bytes: member, incarnation, sequence, 8 bytes each, big-endian]
 *   [identity bytes client, number sequence, number floor]
 *   body      by kind, as `writeCommand` below lists the fields
 *
 * number: base 128, least seven bits first. bytes, text: number of bytes, then they. id: 8 bytes,
 * big-endian, two's complement. Bits of an operation's options stand in one byte. Lists are a
 * number and their items.
 */
import { assert, unreachable } from "../base/assert.ts";
import { ByteReader, MalformedError } from "../base/byte-reader.ts";
import { ByteWriter } from "../base/byte-writer.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Command, LogCommand, MemberStep, RequestId, WriteIdentity } from "./command.ts";
import {
  readDeleteRange,
  readPut,
  readTxn,
  writeDeleteRange,
  writePut,
  writeTxn,
} from "./operation-codec.ts";

const VERSION = 1;

/**
 * The version of the cluster (`PEER_VERSION`) from which on entries of a kind may be proposed: all
 * members must be able to read them. A new kind takes the next version that no release speaks yet.
 */
const SINCE: Readonly<Record<Command["kind"], number>> = {
  put: 1,
  deleteRange: 1,
  txn: 1,
  compact: 1,
  leaseGrant: 1,
  leaseRevoke: 1,
  alarm: 1,
  memberAttributes: 1,
  clusterVersion: 1,
  memberAdd: 1,
  memberRemove: 1,
  memberPromote: 1,
  memberUpdate: 1,
  memberChange: 2,
};
/** The same for entries with a write identity. */
const IDENTITY_SINCE = 2;
const HAS_REQUEST = 1;
const HAS_IDENTITY = 2;
const REQUEST_OFFSET = 3;
const REQUEST_END = REQUEST_OFFSET + 24;
/** Of a request, the part before its sequence. */
const PROPOSER_BYTES = 16;

const KINDS = {
  put: 1,
  deleteRange: 2,
  txn: 3,
  compact: 4,
  leaseGrant: 5,
  leaseRevoke: 6,
  alarm: 7,
  memberAttributes: 8,
  clusterVersion: 9,
  memberAdd: 10,
  memberRemove: 11,
  memberPromote: 12,
  memberUpdate: 13,
  memberChange: 14,
} as const satisfies Record<Command["kind"], number>;

const STEPS: ReadonlySet<number> = new Set([
  KINDS.memberAdd,
  KINDS.memberRemove,
  KINDS.memberPromote,
]);

/** The entry can't be read here: written by a newer version, or damaged. The peer must stop. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

const writer = new ByteWriter();

export function encodeCommand(entry: LogCommand): Bytes {
  const { request, identity, command } = entry;
  assert(writer.length === 0, "the writer is free");
  writer.byte(VERSION);
  writer.byte(KINDS[command.kind]);
  writer.byte(
    (request === undefined ? 0 : HAS_REQUEST) | (identity === undefined ? 0 : HAS_IDENTITY),
  );
  if (request !== undefined) {
    writer.fixed64(request.member);
    writer.fixedCount(request.incarnation);
    writer.fixedCount(request.sequence);
  }
  if (identity !== undefined) {
    writer.bytes(identity.client);
    writer.varint(identity.sequence);
    writer.varint(identity.floor);
  }
  writeCommand(writer, command);
  return writer.finishShared();
}

/** The version that all members must speak before such an entry may be proposed. */
export function versionNeeded(kind: Command["kind"], hasIdentity: boolean): number {
  return hasIdentity ? Math.max(SINCE[kind], IDENTITY_SINCE) : SINCE[kind];
}

/** Throws `CommandError` for an entry that a peer of this version must not meet. */
export function assertSpoken(data: Bytes, command: Command, version: number): void {
  const hasIdentity = ((data[2] as number) & HAS_IDENTITY) !== 0;
  const needed = versionNeeded(command.kind, hasIdentity);
  if (needed > version) {
    throw new CommandError(
      `a log entry (${command.kind}) of version ${needed}, this peer speaks ${version}: a newer version wrote it`,
    );
  }
  if (command.kind !== "clusterVersion" || Number(command.version) <= version) return;
  throw new CommandError(
    `the cluster's version is ${command.version} from now on, this peer speaks ${version}: run a newer one`,
  );
}

/** Byte strings of the result are views of `data`. Throws `CommandError`. */
export function decodeCommand(data: Bytes): LogCommand {
  return readEntry(data, (reader, kind, flags) => ({
    request: (flags & HAS_REQUEST) === 0 ? undefined : readRequest(reader),
    identity: (flags & HAS_IDENTITY) === 0 ? undefined : readIdentity(reader),
    command: readCommand(reader, kind),
  }));
}

/** The identity alone, of an entry that was decoded before; undefined for the many without one. */
export function writeIdentityOf(data: Bytes): WriteIdentity | undefined {
  const flags = data[2] ?? 0;
  if ((flags & HAS_IDENTITY) === 0) return undefined;
  return readIdentity(
    new ByteReader(data, (flags & HAS_REQUEST) === 0 ? REQUEST_OFFSET : REQUEST_END),
  );
}

function readIdentity(reader: ByteReader): WriteIdentity {
  return { client: reader.bytes(), sequence: reader.varint(), floor: reader.varint() };
}

/** The command alone, as apply wants it of each entry. Like `decodeCommand` in all else. */
export function commandOf(data: Bytes): Command {
  return readEntry(data, readCommandAlone);
}

function readCommandAlone(reader: ByteReader, kind: number, flags: number): Command {
  if ((flags & HAS_REQUEST) !== 0) reader.skip(REQUEST_END - REQUEST_OFFSET);
  if ((flags & HAS_IDENTITY) !== 0) {
    reader.bytes();
    reader.varint();
    reader.varint();
  }
  return readCommand(reader, kind);
}

function readEntry<Result>(
  data: Bytes,
  readBody: (reader: ByteReader, kind: number, flags: number) => Result,
): Result {
  try {
    const reader = new ByteReader(data);
    const version = reader.byte();
    if (version !== VERSION) {
      throw new CommandError(`a log entry of format ${version}; this peer reads ${VERSION}`);
    }
    const kind = reader.byte();
    const flags = reader.byte();
    if ((flags & ~(HAS_REQUEST | HAS_IDENTITY)) !== 0) {
      throw new CommandError(`a log entry with unknown flags ${flags}`);
    }
    const result = readBody(reader, kind, flags);
    if (!reader.atEnd) {
      throw new CommandError(`a log entry ends at ${reader.offset} of ${data.length}`);
    }
    return result;
  } catch (cause) {
    if (cause instanceof MalformedError) {
      throw new CommandError(`a log entry is damaged: ${cause.message}`, { cause });
    }
    throw cause;
  }
}

/** What the entries of one incarnation of a member have in common: how `ownSequence` knows them. */
export function proposerBytes(own: {
  readonly member: bigint;
  readonly incarnation: number;
}): Bytes {
  const bytes = new ByteWriter();
  bytes.fixed64(own.member);
  bytes.fixedCount(own.incarnation);
  return bytes.finish();
}

/**
 * The sequence of an entry that this incarnation of this member proposed, without decoding the
 * rest; undefined for all others. Asked for each entry at apply.
 */
export function ownSequence(data: Bytes, proposer: Bytes): number | undefined {
  if (data.length < REQUEST_END || ((data[2] as number) & HAS_REQUEST) === 0) return undefined;
  for (let position = 0; position < proposer.length; position += 1) {
    if (data[REQUEST_OFFSET + position] !== proposer[position]) return undefined;
  }
  return new ByteReader(data, REQUEST_OFFSET + proposer.length).fixedCount();
}

/** What `proposerBytes` made of an entry's proposer, as a view; undefined for one without. */
export function proposerOf(data: Bytes): Bytes | undefined {
  if (data.length < REQUEST_END || ((data[2] as number) & HAS_REQUEST) === 0) return undefined;
  return data.subarray(REQUEST_OFFSET, REQUEST_OFFSET + PROPOSER_BYTES);
}

function readRequest(reader: ByteReader): RequestId {
  return {
    member: reader.uint64(),
    incarnation: reader.fixedCount(),
    sequence: reader.fixedCount(),
  };
}

function writeCommand(to: ByteWriter, command: Command): void {
  switch (command.kind) {
    case "put":
      return writePut(to, command);
    case "deleteRange":
      return writeDeleteRange(to, command);
    case "txn":
      return writeTxn(to, command);
    case "compact":
      return to.varint(command.revision);
    case "leaseGrant":
      to.fixed64(command.id);
      return to.varint(command.ttlSeconds);
    case "leaseRevoke":
      to.varint(command.term === undefined ? 0 : command.term + 1);
      to.varint(command.ids.length);
      for (const id of command.ids) to.fixed64(id);
      return;
    case "alarm":
      to.byte((command.action === "activate" ? 1 : 0) | (command.alarm === "nospace" ? 2 : 0));
      return to.fixed64(command.member);
    case "memberAttributes":
      to.fixed64(command.member);
      to.text(command.name);
      return writeTexts(to, command.clientUrls);
    case "clusterVersion":
      return to.text(command.version);
    case "memberAdd":
      to.fixed64(command.member);
      to.byte(command.isLearner ? 1 : 0);
      to.varint(command.learnersMax);
      return writeTexts(to, command.peerUrls);
    case "memberRemove":
    case "memberPromote":
      return to.fixed64(command.member);
    case "memberUpdate":
      to.fixed64(command.member);
      return writeTexts(to, command.peerUrls);
    case "memberChange":
      to.varint(command.steps.length);
      for (const step of command.steps) {
        to.byte(KINDS[step.kind]);
        writeCommand(to, step);
      }
      return;
    default:
      unreachable("every kind has its fields");
  }
}

function readCommand(from: ByteReader, kind: number): Command {
  switch (kind) {
    case KINDS.put:
      return readPut(from);
    case KINDS.deleteRange:
      return readDeleteRange(from);
    case KINDS.txn:
      return readTxn(from, 1);
    case KINDS.compact:
      return { kind: "compact", revision: from.varint() };
    case KINDS.leaseGrant:
      return { kind: "leaseGrant", id: from.int64(), ttlSeconds: from.varint() };
    case KINDS.leaseRevoke: {
      const term = from.varint();
      const ids = readList(from, () => from.int64());
      return { kind: "leaseRevoke", ids, term: term === 0 ? undefined : term - 1 };
    }
    case KINDS.alarm: {
      const bits = from.byte();
      return {
        kind: "alarm",
        action: (bits & 1) === 0 ? "deactivate" : "activate",
        member: from.uint64(),
        alarm: (bits & 2) === 0 ? "corrupt" : "nospace",
      };
    }
    case KINDS.memberAttributes:
      return {
        kind: "memberAttributes",
        member: from.uint64(),
        name: from.text(),
        clientUrls: readList(from, () => from.text()),
      };
    case KINDS.clusterVersion:
      return { kind: "clusterVersion", version: from.text() };
    case KINDS.memberAdd:
      return {
        kind: "memberAdd",
        member: from.uint64(),
        isLearner: from.byte() === 1,
        learnersMax: from.varint(),
        peerUrls: readList(from, () => from.text()),
      };
    case KINDS.memberRemove:
      return { kind: "memberRemove", member: from.uint64() };
    case KINDS.memberPromote:
      return { kind: "memberPromote", member: from.uint64() };
    case KINDS.memberUpdate:
      return {
        kind: "memberUpdate",
        member: from.uint64(),
        peerUrls: readList(from, () => from.text()),
      };
    case KINDS.memberChange:
      return { kind: "memberChange", steps: readList(from, () => readStep(from)) };
    default:
      throw new CommandError(`a log entry of unknown kind ${kind}: a newer version wrote it`);
  }
}

function readStep(from: ByteReader): MemberStep {
  const kind = from.byte();
  if (!STEPS.has(kind)) {
    throw new CommandError(`a change of members with a step of unknown kind ${kind}`);
  }
  return readCommand(from, kind) as MemberStep;
}

function writeTexts(to: ByteWriter, texts: readonly string[]): void {
  to.varint(texts.length);
  for (const text of texts) to.text(text);
}

/** A list whose length can't exceed what its bytes could hold. */
function readList<Item>(from: ByteReader, read: () => Item): Item[] {
  const count = from.varint();
  const items: Item[] = [];
  for (let position = 0; position < count; position += 1) items.push(read());
  return items;
}
