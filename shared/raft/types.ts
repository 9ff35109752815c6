/**
 * The vocabulary of the consensus core: what it is given, what it hands out, and the one seam
 * between core and host. `README.md` in this folder numbers the host's duties. Names are those of
 * the Raft thesis (Ongaro 2014) and etcd-io/raft.
 *
 * Node ids are decimal strings of unsigned 64-bit numbers ("0" is no id and never occurs: absence
 * is `undefined`), so that they compare and serve as map keys cheaply. Terms and indexes are safe
 * integers; index 0 is before the first entry.
 */
import type { Bytes } from "../base/bytes.ts";
import type { LeaderLeaseConfig } from "./leader-lease.ts";

export type NodeId = string;

/**
 * `normal` entries carry a command of the state machine (empty data: a new leader's first entry);
 * `membership` ones a `ConfChange`.
 */
export type EntryKind = "normal" | "membership";

export interface Entry {
  readonly term: number;
  readonly index: number;
  readonly kind: EntryKind;
  readonly data: Bytes;
}

/** What a node must never forget. `commit` may lag in storage without harm. */
export interface HardState {
  readonly term: number;
  readonly vote: NodeId | undefined;
  readonly commit: number;
}

/** The members as of a log position. Joint consensus fills `votersOutgoing` and `learnersNext`. */
export interface Membership {
  readonly voters: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** The old voters while a joint change is under way; empty otherwise. */
  readonly votersOutgoing: readonly NodeId[];
  /** Outgoing voters that turn into learners when the joint change ends. */
  readonly learnersNext: readonly NodeId[];
  /** The joint change ends by itself once it is committed. */
  readonly autoLeave: boolean;
}

/**
 * Names a state of the state machine: all entries up to `index` are in it. The data travel beside
 * raft (host duty).
 */
export interface SnapshotMark {
  readonly index: number;
  readonly term: number;
  readonly membership: Membership;
}

export type Role = "follower" | "preCandidate" | "candidate" | "leader";

interface Envelope {
  readonly from: NodeId;
  readonly to: NodeId;
  /** The sender's term; for pre-votes the term that the sender would campaign in. */
  readonly term: number;
}

/** Everything that nodes say to each other. */
export type Message = Envelope &
  (
    | {
        readonly type: "append";
        readonly previousIndex: number;
        readonly previousTerm: number;
        readonly entries: readonly Entry[];
        readonly commit: number;
      }
    | {
        readonly type: "appendReply";
        /**
         * Accepted: the last index that is durable here and matches. Rejected: the `previousIndex`
         * that did not match; 0, where every log matches, asks for a snapshot (a node that joins
         * and knows no members).
         */
        readonly index: number;
        readonly reject: boolean;
        /**
         * Rejected only: where this log may match (index and its term), so that the leader skips
         * whole terms.
         */
        readonly hintIndex: number;
        readonly hintTerm: number;
      }
    | {
        readonly type: "heartbeat";
        readonly commit: number;
        /**
         * Names the leader's newest confirmation round when this was sent; 0 when there was none.
         */
        readonly round: number;
        /** Asks for a promise: when this was sent, or earlier, by the leader's clock. */
        readonly sentAt?: number | undefined;
      }
    | {
        readonly type: "heartbeatReply";
        readonly round: number;
        /** The heartbeat's, with the promise that it asked for (`leader-lease.ts`). */
        readonly sentAt?: number | undefined;
        /** Milliseconds for which the sender grants nobody a vote; absent: it promises nothing. */
        readonly promisedMilliseconds?: number | undefined;
      }
    | {
        readonly type: "vote" | "preVote";
        readonly lastIndex: number;
        readonly lastTerm: number;
        /** Asked by a leader that hands over: the lease of the current leader doesn't count. */
        readonly transfer: boolean;
      }
    | {
        readonly type: "voteReply" | "preVoteReply";
        readonly reject: boolean;
        /**
         * What the voter knows to be committed, and that entry's term (0: unknown). A candidate
         * that has this entry learns that its log is committed up to there.
         */
        readonly commit: number;
        readonly commitTerm: number;
      }
    | { readonly type: "snapshot"; readonly snapshot: SnapshotMark }
    | { readonly type: "timeoutNow" }
    | { readonly type: "propose"; readonly entries: readonly ProposedEntry[] }
    | { readonly type: "readIndex"; readonly context: number }
    | { readonly type: "readIndexReply"; readonly context: number; readonly index: number }
    | { readonly type: "transferLeader"; readonly transferee: NodeId }
  );

export type MessageType = Message["type"];

export interface ProposedEntry {
  readonly kind: EntryKind;
  readonly data: Bytes;
}

/**
 * A confirmed read: once the state machine has applied `index`, the read named `context` is
 * linearizable.
 */
export interface ReadState {
  /** The number that `readIndex` was called with. */
  readonly context: number;
  readonly index: number;
}

export interface SoftState {
  readonly role: Role;
  readonly leader: NodeId | undefined;
}

/**
 * One batch of work for the host: the seam. `raft.ready()` hands each piece of work out exactly
 * once; further batches may be taken before earlier ones are durable (their writes must then become
 * durable in order).
 */
export interface Ready {
  /**
   * Counts up by one a batch. `raft.persisted(sequence)` tells that this batch's writes and all
   * earlier ones are durable.
   */
  readonly sequence: number;
  /** Set when it changed. For the host's information: it needs no storing. */
  readonly softState: SoftState | undefined;
  /** Set when it changed. To be written, durable before `messagesAfterDurable` leave. */
  readonly hardState: HardState | undefined;
  /**
   * To be written after the hard state; they replace whatever the log holds from the first one's
   * index on.
   */
  readonly entries: readonly Entry[];
  /**
   * To be installed: state machine and log start anew behind it. Never together with `entries` at
   * or below its index.
   */
  readonly snapshot: SnapshotMark | undefined;
  /**
   * True when the write must be flushed before it counts; a changed `commit` alone needs no flush.
   */
  readonly mustSync: boolean;
  /** May leave at once, before anything of this batch is durable (thesis section 10.2.1). */
  readonly messages: readonly Message[];
  /**
   * May leave only once this batch's writes and all earlier ones are durable: votes and
   * acknowledgements.
   */
  readonly messagesAfterDurable: readonly Message[];
  /**
   * Committed entries to apply, in order, each handed out once. They are durable on a quorum,
   * perhaps not yet here.
   */
  readonly committed: readonly Entry[];
  /** Reads that are confirmed by now. */
  readonly readStates: readonly ReadState[];
}

/**
 * What the core reads of the log. Entries that were handed out in a `Ready` and not yet reported as
 * persisted are kept by the core itself; the log must answer for all others from `firstIndex` to
 * `lastIndex`, both included.
 */
export interface LogReader {
  readonly firstIndex: number;
  /** `firstIndex - 1` for an empty log. */
  readonly lastIndex: number;
  /**
   * The term of an entry; also for `firstIndex - 1`, where the last compaction or snapshot ended.
   * `undefined` outside.
   */
  termOf(index: number): number | undefined;
  /**
   * Entries of [low, high), cut after `bytesMax` bytes of data but never empty unless low = high.
   * Asserts the bounds.
   */
  slice(low: number, high: number, bytesMax: number): readonly Entry[];
  /**
   * A snapshot that the host can send now, at or after `firstIndex - 1`; `undefined`: not now, ask
   * again later.
   */
  snapshot(): SnapshotMark | undefined;
}

export interface RaftConfig {
  readonly id: NodeId;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /**
   * Seeds the generator that draws election timeouts: different on every node and at every start.
   */
  readonly seed: number;
  /** As stored: zero term for a new node. */
  readonly hardState: HardState;
  /** As of `applied`. */
  readonly membership: Membership;
  /**
   * The last index whose effects the state machine holds; entries above it will be handed out in
   * `committed`.
   */
  readonly applied: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  /** Reads under a leader's lease, and the promises they rest on; absent: neither. */
  readonly leaderLease?: LeaderLeaseConfig | undefined;
  readonly appendBytesMax: number;
  readonly appendsInFlightMax: number;
  readonly appendBytesInFlightMax: number;
  readonly uncommittedBytesMax: number;
  readonly committedBytesMax: number;
}

/** Why a proposal or another request was not taken; nothing was changed. */
export type Refusal =
  | "noLeader"
  | "transferring"
  | "tooMuchUncommitted"
  | "membershipChangePending"
  | "notMember";

export interface FollowerProgress {
  readonly match: number;
  readonly next: number;
  readonly state: "probe" | "replicate" | "snapshot";
  readonly recentlyActive: boolean;
  readonly learner: boolean;
}

export interface RaftStatus {
  readonly id: NodeId;
  readonly role: Role;
  readonly term: number;
  readonly leader: NodeId | undefined;
  readonly commit: number;
  readonly applied: number;
  readonly lastIndex: number;
  readonly membership: Membership;
  readonly transferee: NodeId | undefined;
  /** Reads that were answered under a lease, own and forwarded ones, since the start. */
  readonly leaseReads: number;
  /** The leader's view of each member; empty elsewhere. */
  readonly progress: ReadonlyMap<NodeId, FollowerProgress>;
}

/**
 * The core. Every method is synchronous; work for the host shows in `hasReady`. `now` is the host's
 * steady clock in milliseconds, read at this moment: with it, and `leaderLease` configured, a leader
 * answers reads under its lease; without it none is.
 */
export interface RaftNode {
  /** One tick of the host's clock (`LIMITS.tickMilliseconds`). */
  tick(now?: number): void;
  /**
   * Takes a message of a peer. Messages of unknown nodes or older terms are dropped or answered as
   * the protocol says.
   */
  step(message: Message, now?: number): void;
  /** Term and role as of now, which may be ahead of the last `Ready`. */
  readonly term: number;
  readonly role: Role;
  /**
   * Appends (leader) or forwards (follower). What is taken enters the log in this term or never:
   * once an entry of a later term is committed, no more of this one can follow.
   */
  propose(entries: readonly ProposedEntry[]): Refusal | undefined;
  /**
   * Appends what another node forwarded in `term`, as `step` would, and tells if it was taken; refused
   * unless this node leads that term.
   */
  takeForwarded(term: number, entries: readonly ProposedEntry[]): Refusal | undefined;
  /**
   * Asks for a linearizable read point. The answer is a `ReadState` with this context, and is
   * confirmed by a round that began after this call; it may never come (leader loss): ask again
   * with a new context. `context` is positive and unique per node and start. A leader without a
   * committed entry of its term postpones the round; one with a lease needs none.
   */
  readIndex(context: number, now?: number): Refusal | undefined;
  /** Starts an election at once, ignoring the timeout (a single-member cluster at start; tests). */
  campaign(): void;
  /**
   * Hands leadership to a voter (leader), or asks the leader to (follower). Given up after an
   * election timeout.
   */
  transferLeader(transferee: NodeId): Refusal | undefined;
  hasReady(): boolean;
  ready(): Ready;
  /** All writes of the batches up to `sequence` are durable. */
  persisted(sequence: number): void;
  /** The state machine holds all entries up to `index`. */
  applied(index: number): void;
  /**
   * The host applied a membership entry, or (undefined: none is valid) refused it; returns the
   * membership from now on.
   */
  applyMembership(change: ConfChange | undefined): Membership;
  /** In place of changes, when the state machine took them over whole with a snapshot. */
  replaceMembership(membership: Membership): void;
  /** The host could not deliver to `to` just now: the leader falls back to probing it. */
  reportUnreachable(to: NodeId): void;
  /** The snapshot stream to `to` ended; on `failed` the leader probes and may start another. */
  reportSnapshot(to: NodeId, outcome: "delivered" | "failed"): void;
  status(): RaftStatus;
}

/** A change of the membership; several steps at once make a joint change. */
export interface ConfChange {
  readonly steps: readonly {
    readonly action: "addVoter" | "addLearner" | "remove";
    readonly id: NodeId;
  }[];
  /**
   * "auto": joint only when several voters change, left by itself; "explicit": joint until an empty
   * change leaves it.
   */
  readonly transition: "auto" | "explicit";
  /** Opaque to raft: the host's description of the member. */
  readonly context: Bytes;
}
