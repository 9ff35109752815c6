/**
 * The state of one node and its changes of role (thesis figure 3.1 and section 3.3). The other
 * files of this folder hold what a node does in each role; they all work on this one object. Only
 * this folder sees it: hosts hold a `RaftNode`.
 */
import { assert, assertCount } from "../base/assert.ts";
import { LIMITS } from "../base/limits.ts";
import { Prng } from "../base/prng.ts";
import { ForwardedReads } from "./forwarded-reads.ts";
import { LeaderLease } from "./leader-lease.ts";
import { Outbox } from "./outbox.ts";
import { RaftLog } from "./raft-log.ts";
import { ReadRounds } from "./read-rounds.ts";
import { Tracker } from "./tracker.ts";
import type { LogReader, NodeId, RaftConfig, ReadState, Role } from "./types.ts";

export class Core {
  readonly config: RaftConfig;
  readonly id: NodeId;
  readonly log: RaftLog;
  readonly tracker: Tracker;
  readonly outbox = new Outbox();

  /** Never falls; `vote` belongs to it. */
  term: number;
  vote: NodeId | undefined;
  role: Role = "follower";
  leader: NodeId | undefined = undefined;

  /**
   * Ticks since the leader was heard or the election began; on a leader, since the last quorum
   * check.
   */
  electionElapsed = 0;
  heartbeatElapsed = 0;
  /** Drawn anew for each term from [electionTicks, 2 * electionTicks). */
  electionTimeout = 0;

  /** Leader: reads that wait for a confirmation. */
  readonly reads = new ReadRounds(LIMITS.readsPendingMax);
  /** Follower: reads that its leader was asked about. */
  readonly forwardedReads: ForwardedReads;
  /** Follower: its promise; leader: what it may conclude from those of others. */
  readonly lease: LeaderLease;
  /** Reads answered under a lease. */
  leaseReads = 0;
  /** Answers that wait for the next `Ready`. */
  readStates: ReadState[] = [];

  /** Leader: the index of the empty entry that opened its term; all from there on are its own. */
  termStart = 0;
  /** Leader: no membership change may be proposed before this index is applied. */
  pendingMembershipIndex = 0;
  /** Leader: bytes of its entries that were not yet handed out as committed. */
  uncommittedBytes = 0;
  /** Leader: whom it hands leadership to. */
  transferee: NodeId | undefined = undefined;
  /** Leader: it votes no more, and leads only until the new voters can go on without it. */
  retirement: "none" | "committing" | "confirming" | "done" = "none";
  /** Leader: appends may be due; they are put together when the next `Ready` is taken. */
  replicationDue = false;

  readonly #prng: Prng;

  constructor(config: RaftConfig, reader: LogReader) {
    assert(config.electionTicks > config.heartbeatTicks, "an election outlasts a heartbeat");
    assert(config.heartbeatTicks >= 1, "a heartbeat takes a tick");
    assert(config.appendBytesMax >= 1 && config.committedBytesMax >= 1, "room for an entry");
    const { hardState } = config;
    this.config = config;
    this.id = config.id;
    this.log = new RaftLog(reader, {
      commit: hardState.commit,
      applied: config.applied,
      committedBytesMax: config.committedBytesMax,
    });
    this.tracker = new Tracker(config, config.membership, this.log.lastIndex);
    this.term = assertCount(hardState.term, "term");
    this.vote = hardState.vote;
    assert(
      config.leaderLease === undefined || (config.preVote && config.checkQuorum),
      "a lease rests on pre-votes and quorum checks",
    );
    this.lease = new LeaderLease(config.leaderLease, config.electionTicks);
    this.#prng = new Prng(config.seed);
    this.forwardedReads = new ForwardedReads({
      salt: this.#prng.uint32(),
      pendingMax: LIMITS.readsPendingMax,
    });
    assert(this.log.lastTerm <= this.term, "the log is not ahead of the term");
    this.#drawTimeout();
  }

  /** May stand for election: votes, and its state is whole. */
  get promotable(): boolean {
    return this.tracker.isVoter(this.id) && !this.log.snapshotPending;
  }

  /** Leader: it has committed an entry of its own term, so its commit index is up to date. */
  get committedInTerm(): boolean {
    return this.log.commit >= this.termStart;
  }

  /** A leader was heard of less than an election timeout ago (thesis section 4.2.3). */
  get hearsLeader(): boolean {
    return this.leader !== undefined && this.electionElapsed < this.config.electionTicks;
  }

  /** Asking is in vain: a leader is heard, or a promise to one in force. */
  get refusesVotes(): boolean {
    return (this.config.checkQuorum && this.hearsLeader) || this.lease.refusesVotes;
  }

  becomeFollower(term: number, leader: NodeId | undefined): void {
    this.#enter(term, "follower");
    this.leader = leader;
  }

  /** Asks around before it disturbs anybody: neither term nor vote changes (section 9.6). */
  becomePreCandidate(): void {
    assert(this.role !== "leader", "a leader doesn't campaign");
    this.role = "preCandidate";
    this.leader = undefined;
    this.tracker.resetVotes();
    this.#forgetReads();
  }

  becomeCandidate(): void {
    assert(this.role !== "leader", "a leader doesn't campaign");
    this.#enter(this.term + 1, "candidate");
    this.vote = this.id;
  }

  /** The caller then appends the entry that opens the term, at `termStart`. */
  becomeLeader(): void {
    assert(this.role === "candidate" && this.vote === this.id, "only a candidate is elected");
    this.#enter(this.term, "leader");
    this.leader = this.id;
    this.termStart = this.log.lastIndex + 1;
    // Entries that earlier leaders left may change the membership: wait until all are applied.
    this.pendingMembershipIndex = this.log.lastIndex;
    this.tracker.self?.becomeReplicate();
    if (this.tracker.self !== undefined) this.tracker.self.recentlyActive = true;
  }

  #enter(term: number, role: Role): void {
    assert(term >= this.term, `term ${term} after ${this.term}`);
    if (term > this.term) {
      this.term = term;
      this.vote = undefined;
      this.outbox.withdrawAcknowledgements();
    }
    this.role = role;
    this.leader = undefined;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.#drawTimeout();
    this.transferee = undefined;
    this.lease.reset();
    this.termStart = 0;
    this.pendingMembershipIndex = 0;
    this.uncommittedBytes = 0;
    this.retirement = "none";
    this.replicationDue = false;
    this.tracker.resetVotes();
    this.tracker.resetProgress(this.log.lastIndex, { durableIndex: this.log.durableIndex });
    this.#forgetReads();
  }

  #forgetReads(): void {
    this.reads.reset();
    this.forwardedReads.reset();
  }

  #drawTimeout(): void {
    const { electionTicks } = this.config;
    this.electionTimeout = this.#prng.between(electionTicks, 2 * electionTicks - 1);
  }
}
