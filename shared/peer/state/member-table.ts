/**
 * The replicated facts about the cluster itself: its id, members, alarms and version, in the
 * backend's `member` and `meta` tables. Read whole into memory at start and after a snapshot was
 * installed; changed only by apply.
 *
 *     member  8-byte id                           ->  member: byte layout version 1, byte isLearner,
 *                                                     text name, list of peer URLs, list of client URLs
 *     meta    "peer.cluster"                      ->  cluster id, 8 bytes
 *             "peer.term"                         ->  term of the last applied entry, 8 bytes
 *             "peer.version"                      ->  the cluster's version, as text
 *             "peer.alarm." | byte (1 nospace, 2 corrupt) | member id, 8 bytes   ->  nothing
 *             "peer.removed." | member id, 8 bytes                               ->  nothing
 *             "peer.joint"                        ->  joint change: byte layout version 1, ids of the
 *                                                     old voters, ids of those that leave with its end
 *
 * Ids that were removed never come back. "peer.joint" is there while such a change is under way; its
 * two lists are a number and 8 bytes for each id.
 */
import { assert } from "../../base/assert.ts";
import { ByteReader } from "../../base/byte-reader.ts";
import { ByteWriter } from "../../base/byte-writer.ts";
import type { Bytes } from "../../base/bytes.ts";
import { concatBytes, EMPTY, prefixEnd, readUint64, textOf, utf8 } from "../../base/bytes.ts";
import type { Backend, BackendReader, BatchWriter } from "../../backend/backend.ts";
import type { Membership, NodeId } from "../../raft/types.ts";
import type { MemberCommand } from "../../wire/command.ts";
import type { Member } from "../services.ts";
import type { Refused } from "./apply-operations.ts";
import { refused } from "./apply-operations.ts";
import { planSteps, stepsOf, urlsTaken } from "./member-steps.ts";

const LAYOUT_VERSION = 1;
const CLUSTER_KEY = utf8("peer.cluster");
/** The row of `meta` that changes without a command: each leader begins with a term of its own. */
export const TERM_KEY = utf8("peer.term");
const VERSION_KEY = utf8("peer.version");
const JOINT_KEY = utf8("peer.joint");
const REMOVED_PREFIX = utf8("peer.removed.");
const ALARM_PREFIX = utf8("peer.alarm.");
const ALARM_BYTES = { nospace: 1, corrupt: 2 } as const;

export type AlarmKind = keyof typeof ALARM_BYTES;
export interface Alarm {
  readonly member: bigint;
  readonly alarm: AlarmKind;
}

/** A joint change that is under way: majorities of the old and of the new voters decide together. */
interface Joint {
  readonly outgoing: readonly bigint[];
  /** Members until it ends, and never again. */
  readonly leaving: readonly bigint[];
}

const writer = new ByteWriter();

function idBytes(id: bigint): Bytes {
  writer.fixed64(id);
  return writer.finish();
}

function encodeMember(member: Member): Bytes {
  writer.byte(LAYOUT_VERSION);
  writer.byte(member.isLearner ? 1 : 0);
  writer.text(member.name);
  for (const urls of [member.peerUrls, member.clientUrls]) {
    writer.varint(urls.length);
    for (const url of urls) writer.text(url);
  }
  return writer.finish();
}

function decodeMember(key: Bytes, value: Bytes): Member {
  const reader = new ByteReader(value);
  assert(reader.byte() === LAYOUT_VERSION, "a member row of a newer version");
  const isLearner = reader.byte() === 1;
  const name = reader.text();
  const urls = () => Array.from({ length: reader.varint() }, () => reader.text());
  return {
    id: new ByteReader(key).uint64(),
    name,
    peerUrls: urls(),
    clientUrls: urls(),
    isLearner,
  };
}

function encodeJoint(joint: Joint): Bytes {
  writer.byte(LAYOUT_VERSION);
  for (const ids of [joint.outgoing, joint.leaving]) {
    writer.varint(ids.length);
    for (const id of ids) writer.fixed64(id);
  }
  return writer.finish();
}

function decodeJoint(value: Bytes): Joint {
  const reader = new ByteReader(value);
  assert(reader.byte() === LAYOUT_VERSION, "a joint change's row of a newer version");
  const ids = () => Array.from({ length: reader.varint() }, () => reader.uint64());
  return { outgoing: ids(), leaving: ids() };
}

function alarmKey(alarm: Alarm): Bytes {
  return concatBytes(ALARM_PREFIX, Uint8Array.of(ALARM_BYTES[alarm.alarm]), idBytes(alarm.member));
}

function removedKey(id: bigint): Bytes {
  return concatBytes(REMOVED_PREFIX, idBytes(id));
}

/** The term of the last entry whose effects this backend holds: for hosts, before a peer runs. */
export function appliedTermOf(backend: BackendReader): number | undefined {
  const term = backend.get("meta", TERM_KEY);
  return term === undefined ? undefined : readUint64(term, 0);
}

/** The cluster that a store belongs to; undefined for one that was never started. */
export function clusterIdOf(backend: BackendReader): bigint | undefined {
  const row = backend.get("meta", CLUSTER_KEY);
  return row === undefined ? undefined : new ByteReader(row).uint64();
}

/** Whether a store knows its members: one that has joined a cluster doesn't before its first snapshot. */
export function hasMembers(backend: BackendReader): boolean {
  let found = false;
  backend.scan("member", {}, () => {
    found = true;
    return false;
  });
  return found;
}

export class MemberTable {
  #members = new Map<bigint, Member>();
  #removed = new Set<bigint>();
  #joint: Joint | undefined;
  #alarms: readonly Alarm[] = [];
  #term = 0;
  #version = 1;

  constructor(backend: BackendReader) {
    this.load(backend);
  }

  /** Reads everything anew. */
  load(backend: BackendReader): void {
    this.#members = new Map();
    backend.scan("member", {}, (key, value) => {
      const member = decodeMember(key, value);
      this.#members.set(member.id, member);
      return true;
    });
    this.#removed = new Set();
    backend.scan("meta", { start: REMOVED_PREFIX, end: prefixEnd(REMOVED_PREFIX) }, (key) => {
      this.#removed.add(new ByteReader(key, REMOVED_PREFIX.length).uint64());
      return true;
    });
    const joint = backend.get("meta", JOINT_KEY);
    this.#joint = joint === undefined ? undefined : decodeJoint(joint);
    const alarms: Alarm[] = [];
    const end = prefixEnd(ALARM_PREFIX);
    backend.scan("meta", { start: ALARM_PREFIX, end }, (key) => {
      const reader = new ByteReader(key, ALARM_PREFIX.length);
      const alarm = reader.byte() === ALARM_BYTES.nospace ? "nospace" : "corrupt";
      alarms.push({ alarm, member: reader.uint64() });
      return true;
    });
    this.#alarms = alarms;
    this.#term = appliedTermOf(backend) ?? 0;
    const version = backend.get("meta", VERSION_KEY);
    this.#version = version === undefined ? 1 : Number(textOf(version));
  }

  /** All members, by id. */
  get members(): readonly Member[] {
    return [...this.#members.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  member(id: bigint): Member | undefined {
    return this.#members.get(id);
  }

  /** It was a member once, and can't be one again. */
  isRemoved(id: bigint): boolean {
    return this.#removed.has(id);
  }

  get alarms(): readonly Alarm[] {
    return this.#alarms;
  }

  hasAlarm(kind: AlarmKind): boolean {
    return this.#alarms.length > 0 && this.#alarms.some((each) => each.alarm === kind);
  }

  /** The term of the last applied entry; 0 before the first. */
  get appliedTerm(): number {
    return this.#term;
  }

  /** What all members speak, so what may stand in the log; 1 until it was decided otherwise. */
  get version(): number {
    return this.#version;
  }

  /** The membership as raft sees it. */
  get membership(): Membership {
    const { outgoing = [], leaving = [] } = this.#joint ?? {};
    const stay = this.members.filter(({ id }) => !leaving.includes(id));
    const ids = (learners: boolean): NodeId[] =>
      stay.filter((each) => each.isLearner === learners).map((each) => String(each.id));
    return {
      voters: ids(false),
      learners: ids(true),
      votersOutgoing: outgoing.map(String),
      learnersNext: [],
      autoLeave: this.isJoint,
    };
  }

  /** A joint change is under way: those that it removes are members until it ends. */
  get isJoint(): boolean {
    return this.#joint !== undefined;
  }

  // Changes, inside Backend.apply.

  setTerm(term: number, to: BatchWriter): void {
    if (term === this.#term) return;
    assert(term > this.#term, `applied terms never fall: ${this.#term} -> ${term}`);
    this.#term = term;
    writer.fixedCount(term);
    to.put("meta", TERM_KEY, writer.finish());
  }

  /** A member's own description of itself; unknown members (removed since) are ignored. */
  setAttributes(
    id: bigint,
    attributes: { readonly name: string; readonly clientUrls: readonly string[] },
    to: BatchWriter,
  ): void {
    const old = this.#members.get(id);
    if (old === undefined) return;
    const { name, clientUrls } = attributes;
    this.#setMember({ ...old, name, clientUrls }, to);
  }

  /**
   * Changes the members, or refuses without effect. What is judged here is judged alike on every
   * member; whether a change is wise (are enough members there?) its proposer asked before.
   */
  change(command: MemberCommand, to: BatchWriter): Refused | undefined {
    // Raft takes no other change meanwhile.
    if (this.isJoint) return refused("unhealthy");
    if (command.kind === "memberUpdate") return this.#update(command, to);
    const plan = planSteps(stepsOf(command), this);
    if (plan.kind === "refused") return plan;
    const outgoing = plan.membership.votersOutgoing.map(BigInt);
    for (const member of plan.changed) this.#setMember(member, to);
    const leaving: bigint[] = [];
    for (const { id } of plan.removed) {
      if (outgoing.includes(id)) leaving.push(id);
      else this.#remove(id, to);
    }
    if (outgoing.length === 0) return undefined;
    this.#joint = { outgoing, leaving };
    to.put("meta", JOINT_KEY, encodeJoint(this.#joint));
    return undefined;
  }

  /** Ends the joint change, if one is under way. */
  leaveJoint(to: BatchWriter): void {
    if (this.#joint === undefined) return;
    for (const id of this.#joint.leaving) this.#remove(id, to);
    this.#joint = undefined;
    to.delete("meta", JOINT_KEY);
  }

  #update(
    { member: id, peerUrls }: MemberCommand & { kind: "memberUpdate" },
    to: BatchWriter,
  ): Refused | undefined {
    const known = this.#members.get(id);
    if (known === undefined) return refused("memberNotFound");
    const others = this.members.filter((each) => each.id !== id);
    if (urlsTaken(peerUrls, others)) return refused("peerUrlExist");
    this.#setMember({ ...known, peerUrls }, to);
    return undefined;
  }

  #remove(id: bigint, to: BatchWriter): void {
    this.#members.delete(id);
    this.#removed.add(id);
    to.delete("member", idBytes(id));
    to.put("meta", removedKey(id), EMPTY);
  }

  setAlarm(alarm: Alarm, active: boolean, to: BatchWriter): void {
    const others = this.#alarms.filter(
      (each) => each.alarm !== alarm.alarm || each.member !== alarm.member,
    );
    this.#alarms = active ? [...others, alarm] : others;
    if (active) to.put("meta", alarmKey(alarm), EMPTY);
    else to.delete("meta", alarmKey(alarm));
  }

  /** It never falls: entries of the higher one may stand in the log. */
  setVersion(version: number, to: BatchWriter): void {
    if (!(version > this.#version)) return;
    this.#version = version;
    to.put("meta", VERSION_KEY, utf8(String(version)));
  }

  /**
   * The first members of a new cluster: the same on every one of them, before the first log entry.
   * None: this store waits for a snapshot of a running cluster.
   */
  bootstrap(
    clusterId: bigint,
    members: readonly Member[],
    { backend, version }: { readonly backend: Backend; readonly version: number },
  ): void {
    assert(backend.visibleIndex === 0, "only a new store can be given its first members");
    backend.apply(0, (to) => {
      to.put("meta", CLUSTER_KEY, idBytes(clusterId));
      // A new cluster begins with one version; later ones are decided in the log.
      if (members.length > 0) this.setVersion(version, to);
      for (const member of members) this.#setMember(member, to);
    });
    backend.flush();
  }

  #setMember(member: Member, to: BatchWriter): void {
    this.#members.set(member.id, member);
    to.put("member", idBytes(member.id), encodeMember(member));
  }
}
