/**
 * The replicated facts about the cluster itself: its id, members, alarms and version, in the backend's `member` and
 * `meta` tables. Read whole into memory at start and after a snapshot was installed; changed only by apply.
 *
 * member  8-byte id -> byte layout version 1, byte isLearner, text name, list of peer URLs, list of client URLs
 * meta    "peer.cluster" -> 8-byte cluster id "peer.term" -> 8-byte term of the last applied entry "peer.alarm."
 * byte (1 nospace, 2 corrupt), 8-byte member id -> empty "peer.version" -> the cluster's version, as text
 */
import { assert } from "../../base/assert.ts";
import { ByteReader } from "../../base/byte-reader.ts";
import { ByteWriter } from "../../base/byte-writer.ts";
import type { Bytes } from "../../base/bytes.ts";
import { concatBytes, EMPTY, prefixEnd, readUint64, textOf, utf8 } from "../../base/bytes.ts";
import type { Backend, BackendReader, BatchWriter } from "../../backend/backend.ts";
import type { Membership, NodeId } from "../../raft/types.ts";
import type { Member } from "../services.ts";

const LAYOUT_VERSION = 1;
const CLUSTER_KEY = utf8("peer.cluster");
const TERM_KEY = utf8("peer.term");
const VERSION_KEY = utf8("peer.version");
const ALARM_PREFIX = utf8("peer.alarm.");
const ALARM_BYTES = { nospace: 1, corrupt: 2 } as const;

export type AlarmKind = keyof typeof ALARM_BYTES;
export interface Alarm {
  readonly member: bigint;
  readonly alarm: AlarmKind;
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

function alarmKey(alarm: Alarm): Bytes {
  return concatBytes(ALARM_PREFIX, Uint8Array.of(ALARM_BYTES[alarm.alarm]), idBytes(alarm.member));
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

export class MemberTable {
  #members = new Map<bigint, Member>();
  #alarms: readonly Alarm[] = [];
  #term = 0;
  #version: string | undefined;

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
    this.#version = version === undefined ? undefined : textOf(version);
  }

  /** All members, by id. */
  get members(): readonly Member[] {
    return [...this.#members.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  member(id: bigint): Member | undefined {
    return this.#members.get(id);
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

  get clusterVersion(): string | undefined {
    return this.#version;
  }

  /** The membership as raft sees it. */
  get membership(): Membership {
    const ids = (learners: boolean): NodeId[] =>
      this.members.filter((each) => each.isLearner === learners).map((each) => String(each.id));
    return {
      voters: ids(false),
      learners: ids(true),
      votersOutgoing: [],
      learnersNext: [],
      autoLeave: false,
    };
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

  setAlarm(alarm: Alarm, active: boolean, to: BatchWriter): void {
    const others = this.#alarms.filter(
      (each) => each.alarm !== alarm.alarm || each.member !== alarm.member,
    );
    this.#alarms = active ? [...others, alarm] : others;
    if (active) to.put("meta", alarmKey(alarm), EMPTY);
    else to.delete("meta", alarmKey(alarm));
  }

  setClusterVersion(version: string, to: BatchWriter): void {
    this.#version = version;
    to.put("meta", VERSION_KEY, utf8(version));
  }

  /** The first members of a new cluster: the same on every one of them, before the first log entry. */
  bootstrap(clusterId: bigint, members: readonly Member[], backend: Backend): void {
    assert(backend.visibleIndex === 0, "only a new store can be given its first members");
    backend.apply(0, (to) => {
      to.put("meta", CLUSTER_KEY, idBytes(clusterId));
      for (const member of members) this.#setMember(member, to);
    });
    backend.flush();
  }

  #setMember(member: Member, to: BatchWriter): void {
    this.#members.set(member.id, member);
    to.put("member", idBytes(member.id), encodeMember(member));
  }
}
