/**
 * What a peer can be asked, free of any transport: the gRPC server, the JSON gateway, the link
 * server, the in-process client and the edge's Durable Object peer all call these. Requests and
 * answers are plain values; `shared/peer/proto` maps etcd's protobuf messages to them. Refusals are
 * thrown as `RpcError`; a write that may have happened says `outcome: "unknown"`.
 */
import type { RpcError } from "../api/errors.ts";
import type { Bytes } from "../base/bytes.ts";
import type { HashResult } from "../mvcc/store.ts";
import type { KeyValue, RangeQuery, RangeResult } from "../mvcc/types.ts";
import type { DeleteRangeOp, PutOp, TxnOp, WriteIdentity } from "../wire/command.ts";
import type {
  Freshness,
  LinkMember as Member,
  LinkOpResult as OpResult,
  LinkStatus,
  LinkWatchCreate as WatchCreate,
  LinkWatchResponse,
} from "../wire/link.ts";

// What answers and the link have in common stands there.
export type {
  LinkEvent as WatchedEvent,
  LinkMember as Member,
  LinkOpResult as OpResult,
  LinkWatchCreate as WatchCreate,
} from "../wire/link.ts";

export interface CallContext {
  /** Milliseconds that the caller will wait from now on; undefined: the peer's own limit alone. */
  readonly timeoutMilliseconds: number | undefined;
  /** etcd's `hasleader` metadata: refuse at once, and end streams, when there is no leader. */
  readonly requireLeader: boolean;
  /** Of a write that its caller may send again, so that it applies once. */
  readonly identity?: WriteIdentity | undefined;
  /** Called once if the caller goes away before the answer. */
  onCancel(callback: () => void): void;
}

export interface Header {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly revision: number;
  readonly raftTerm: number;
}

export interface RangeAnswer extends RangeResult {
  readonly header: Header;
  /**
   * How far at most the answer lay behind the cluster when it was read: 0 for a linearizable one.
   * Undefined: not known.
   */
  readonly ageMilliseconds?: number | undefined;
}

/** How a read may be answered. */
export interface ReadLevel {
  /** From this peer's state, however old, as long as it is `fresh` enough; else by ReadIndex. */
  readonly serializable: boolean;
  readonly fresh?: Freshness | undefined;
}

export interface KvService {
  range(query: RangeQuery, level: ReadLevel, call: CallContext): Promise<RangeAnswer>;
  /** Chunks at one pinned revision; only the last has header, count and more. */
  rangeStream(
    query: RangeQuery,
    options: { serializable: boolean },
    call: CallContext,
  ): AsyncIterable<{ readonly kvs: readonly KeyValue[]; readonly last: RangeAnswer | undefined }>;
  put(op: PutOp, call: CallContext): Promise<{ header: Header; previous: KeyValue | undefined }>;
  deleteRange(
    op: DeleteRangeOp,
    call: CallContext,
  ): Promise<{ header: Header; deleted: number; previous: readonly KeyValue[] }>;
  /** `serializable`: all of its ranges are (it matters only when nothing is written). */
  txn(
    op: TxnOp,
    options: { serializable: boolean },
    call: CallContext,
  ): Promise<{ header: Header; succeeded: boolean; results: readonly OpResult[] }>;
  compact(
    options: { revision: number; physical: boolean },
    call: CallContext,
  ): Promise<{ header: Header }>;
}

export interface LeaseService {
  /** `id` 0n: the peer chooses. */
  grant(
    options: { id: bigint; ttlSeconds: bigint },
    call: CallContext,
  ): Promise<{ header: Header; id: bigint; ttlSeconds: number }>;
  revoke(id: bigint, call: CallContext): Promise<{ header: Header }>;
  /**
   * Renews in one batch; one ttl per id, 0: unknown or expired. Answers only after a confirmation
   * of leadership that began after the call. The header is taken before the renewal.
   */
  keepAlive(
    ids: readonly bigint[],
    call: CallContext,
  ): Promise<{ header: Header; ttlSeconds: readonly number[] }>;
  /** Unknown lease: ttl -1, granted 0. */
  timeToLive(
    options: { id: bigint; keys: boolean },
    call: CallContext,
  ): Promise<{
    header: Header;
    ttlSeconds: number;
    grantedTtlSeconds: number;
    keys: readonly Bytes[];
  }>;
  leases(call: CallContext): Promise<{ header: Header; ids: readonly bigint[] }>;
}

export interface WatchResponse extends Omit<LinkWatchResponse, "header"> {
  readonly header: Header;
  /**
   * The same map for all watchers that got the same events: encoders keep their encoded form of
   * `events` in it.
   */
  readonly encoded: Map<string, unknown>;
}

export interface WatchSink {
  /**
   * False: full. The stream holds back until `WatchStream.resume`. The response itself was taken.
   */
  send(response: WatchResponse): boolean;
  /**
   * Asked before events are sent. True: it has no room, and the stream holds back until
   * `WatchStream.resume`, as if it were full. Absent: there always is.
   */
  isCrowded?(): boolean;
  /** The stream is over (no leader, peer stopped); nothing follows. */
  end(error: RpcError): void;
}

/** One client's watch stream, with etcd's rules for ids, order and progress. */
export interface WatchStream {
  create(request: WatchCreate): void;
  cancel(watchId: bigint): void;
  progress(): void;
  resume(): void;
  close(): void;
}

export interface WatchService {
  /** Throws an RpcError if no stream can be had now: no leader, but one is required; or the peer stops. */
  open(sink: WatchSink, call: CallContext): WatchStream;
}

/** All members as they are after the call. */
export interface MembersAnswer {
  readonly header: Header;
  readonly members: readonly Member[];
}

/** Names each member once. To replace one is to remove it and to add or promote another. */
export interface MembersChange {
  readonly add: readonly { readonly peerUrls: readonly string[]; readonly isLearner: boolean }[];
  readonly promote: readonly bigint[];
  readonly remove: readonly bigint[];
}

/**
 * Changes of the members go one after the other; each is refused when it would endanger the quorum
 * (`PeerConfig.strictReconfigCheck`), and answered once it is applied here. They may be asked of
 * any member that votes.
 */
export interface ClusterService {
  memberList(options: { linearizable: boolean }, call: CallContext): Promise<MembersAnswer>;
  memberAdd(
    options: { peerUrls: readonly string[]; isLearner: boolean },
    call: CallContext,
  ): Promise<MembersAnswer & { member: Member }>;
  /** Its id never comes back. */
  memberRemove(id: bigint, call: CallContext): Promise<MembersAnswer>;
  memberUpdate(
    options: { id: bigint; peerUrls: readonly string[] },
    call: CallContext,
  ): Promise<MembersAnswer>;
  /** Gives a learner a vote, once its log is nearly as long as the leader's. */
  memberPromote(id: bigint, call: CallContext): Promise<MembersAnswer>;
  /**
   * Several at once, by joint consensus: all of it or nothing, under the rules of the single calls.
   * Answered once the old voters are needed no more; `added` in the order in which they were asked.
   */
  memberChange(
    change: MembersChange,
    call: CallContext,
  ): Promise<MembersAnswer & { added: readonly Member[] }>;
  /** True while this peer is a learner: its doors refuse most calls (`learner-rules.ts`). */
  isLearner(): boolean;
}

export interface PeerStatus extends LinkStatus {
  readonly header: Header;
  readonly raftTerm: number;
  readonly alarms: readonly { readonly member: bigint; readonly alarm: "nospace" | "corrupt" }[];
}

export interface AlarmChange {
  readonly action: "get" | "activate" | "deactivate";
  /** Counts literally, and only for changes. */
  readonly member: bigint;
  /** "none": all kinds in a question, and nothing at all in a change. */
  readonly alarm: "none" | "nospace" | "corrupt";
}

export interface MaintenanceService {
  /** Answers the alarms asked for, or those that the change touched. */
  alarm(
    change: AlarmChange,
    call: CallContext,
  ): Promise<{ header: Header; alarms: PeerStatus["alarms"] }>;
  status(call: CallContext): Promise<PeerStatus>;
  hashKv(revision: number, call: CallContext): Promise<{ header: Header } & HashResult>;
  /** A checksum of everything that this member stores: for tests of storage, not for comparing members. */
  hash(call: CallContext): Promise<{ header: Header; hash: number }>;
  /** Makes this member's database as small as its content; it serves meanwhile. */
  defragment(call: CallContext): Promise<void>;
  /** A snapshot file (`state/snapshot-file.ts`) in pieces, of one state; the member serves meanwhile. */
  snapshot(call: CallContext): AsyncIterable<SnapshotPart>;
  /** Etcd's steps of a downgrade; `version` of the answer: the cluster's. */
  downgrade(
    request: { readonly action: "validate" | "enable" | "cancel"; readonly version: string },
    call: CallContext,
  ): Promise<{ header: Header; version: string }>;
  /** Hands leadership to a voter; resolves once that one leads. Asked of the leader only. */
  moveLeader(target: bigint, call: CallContext): Promise<void>;
}

export interface SnapshotPart {
  readonly bytes: Bytes;
  /** About how many bytes follow; 0 with the last part. */
  readonly remainingBytes: number;
}

/**
 * The versions of etcd's API that this project speaks; answered by Status, /version and metrics.
 */
export const ETCD_VERSION = "3.7.1";
export const ETCD_CLUSTER_VERSION = "3.7.0";
export const ETCD_STORAGE_VERSION = "3.7.0";

export interface Services {
  /** The last log index that this peer has applied: a floor for writes that begin from now on. */
  readonly appliedIndex: number;
  readonly kv: KvService;
  readonly lease: LeaseService;
  readonly watch: WatchService;
  readonly cluster: ClusterService;
  readonly maintenance: MaintenanceService;
}
