/**
 * The node that hosts hold: it sorts what comes in by term and role, and puts together what goes
 * out. The host's duties stand in README.md; the rules of each role in the files around this one.
 */
import { assert } from "../base/assert.ts";
import { Core } from "./core.ts";
import {
  answerVoteRequest,
  ownVoteDurable,
  replyToVote,
  startElection,
  takeVoteReply,
  type VoteRequest,
} from "./election.ts";
import { takeAppend, takeHeartbeat, takeSnapshot } from "./follower.ts";
import { changeMembership } from "./membership.ts";
import { leaveJointWhenApplied, propose, proposeAsLeader } from "./proposals.ts";
import {
  askRead,
  askReadFor,
  beginReadRound,
  broadcastHeartbeat,
  confirmReads,
  readRoundDue,
  takePromise,
  takeReadAnswer,
} from "./reading.ts";
import {
  advanceCommit,
  ownEntriesDurable,
  replicate,
  snapshotReported,
  takeAppendReply,
  unreachable,
} from "./replication.ts";
import { startRetirement } from "./retirement.ts";
import { abortTransferToNonVoter, transferLeader } from "./transfer.ts";
import type {
  ConfChange,
  Entry,
  FollowerProgress,
  HardState,
  LogReader,
  Membership,
  Message,
  NodeId,
  ProposedEntry,
  RaftConfig,
  RaftNode,
  RaftStatus,
  ReadState,
  Ready,
  Refusal,
  Role,
  SnapshotMark,
  SoftState,
} from "./types.ts";

/** Restores a node from what its host stored; it starts as a follower. */
export function createRaft(config: RaftConfig, log: LogReader): RaftNode {
  return new Raft(config, log);
}

type HeartbeatReply = Extract<Message, { type: "heartbeatReply" }>;
type LeaderMessage = Extract<Message, { type: "append" | "heartbeat" | "snapshot" }>;
/** Requests among members that don't take part in the order of terms. */
type Request = Extract<
  Message,
  { type: "propose" | "readIndex" | "readIndexReply" | "transferLeader" }
>;

const NO_READ_STATES: readonly ReadState[] = [];

class Raft implements RaftNode {
  readonly #core: Core;
  #sequence = 0;
  /** As last handed out. */
  #hardState: HardState;
  #softState: SoftState;

  constructor(config: RaftConfig, log: LogReader) {
    this.#core = new Core(config, log);
    // What the core corrected at the start (a commit index ahead of the log) is handed out anew.
    this.#hardState = config.hardState;
    this.#softState = { role: "follower", leader: undefined };
  }

  tick(now?: number): void {
    if (this.#core.lease.ticked(now)) this.#core.tracker.forgetPromises();
    if (this.#core.role === "leader") this.#tickLeader();
    else this.#tickFollower();
  }

  step(message: Message, now?: number): void {
    const core = this.#core;
    if (message.to !== core.id || message.from === core.id) return;
    switch (message.type) {
      case "propose":
      case "readIndex":
      case "readIndexReply":
      case "transferLeader":
        this.#takeRequest(message, now);
        return;
      default:
    }
    if (message.term < core.term) this.#answerStale(message);
    else if (message.term === core.term || this.#enterTermOf(message)) this.#dispatch(message);
  }

  get term(): number {
    return this.#core.term;
  }

  get role(): Role {
    return this.#core.role;
  }

  propose(entries: readonly ProposedEntry[]): Refusal | undefined {
    return propose(this.#core, entries);
  }

  /**
   * A forwarded proposal goes to the log in the term that it was forwarded in, or never: not by
   * the leader of a later one, however long it was under way. So its proposer can tell when it is
   * lost (host duty 9), which is worth more than the few that could be passed on.
   */
  takeForwarded(term: number, entries: readonly ProposedEntry[]): Refusal | undefined {
    const core = this.#core;
    if (core.role !== "leader" || term !== core.term) return "noLeader";
    return proposeAsLeader(core, entries);
  }

  readIndex(context: number, now?: number): Refusal | undefined {
    return askRead(this.#core, context, now);
  }

  campaign(): void {
    startElection(this.#core, "timeout");
  }

  transferLeader(transferee: NodeId): Refusal | undefined {
    return transferLeader(this.#core, transferee);
  }

  hasReady(): boolean {
    const core = this.#core;
    if (core.log.hasWrites || core.log.hasCommitted) return true;
    if (core.outbox.hasMessages || core.readStates.length > 0) return true;
    if (readRoundDue(core)) return true;
    if (core.replicationDue) {
      const { lastIndex, commit } = core.log;
      if (core.tracker.peers.some((each) => each.wantsAppend(lastIndex, commit))) return true;
    }
    return this.#softStateChanged || this.#hardStateChanged;
  }

  ready(): Ready {
    const core = this.#core;
    if (readRoundDue(core)) beginReadRound(core);
    if (core.replicationDue) replicate(core);
    this.#sequence += 1;
    const votedAnew = this.#termOrVoteChanged;
    const hardState = this.#takeHardState();
    const entries = core.log.takeEntries();
    const snapshot = core.log.takeSnapshot();
    if (votedAnew || entries.length > 0 || snapshot !== undefined) {
      core.log.handedOut(this.#sequence, {
        lastIndex: entries.at(-1)?.index ?? 0,
        snapshotIndex: snapshot?.index ?? 0,
        term: votedAnew ? core.term : 0,
        vote: votedAnew ? core.vote : undefined,
      });
    }
    assertAfterSnapshot(entries, snapshot);
    return {
      sequence: this.#sequence,
      softState: this.#takeSoftState(),
      hardState,
      entries,
      snapshot,
      mustSync: votedAnew || entries.length > 0 || snapshot !== undefined,
      messages: core.outbox.take(),
      messagesAfterDurable: core.outbox.takeAfterDurable(),
      committed: this.#takeCommitted(),
      readStates: this.#takeReadStates(),
    };
  }

  persisted(sequence: number): void {
    assert(sequence <= this.#sequence, `persisted ${sequence}, handed out ${this.#sequence}`);
    const claim = this.#core.log.persisted(sequence);
    if (claim === undefined) return;
    ownVoteDurable(this.#core, claim);
    ownEntriesDurable(this.#core);
  }

  applied(index: number): void {
    this.#core.log.appliedTo(index);
    leaveJointWhenApplied(this.#core);
  }

  applyMembership(change: ConfChange | undefined): Membership {
    const core = this.#core;
    if (change === undefined) return core.tracker.membership;
    const membership = changeMembership(core.tracker.membership, change);
    assert(membership !== undefined, "the host applies only changes that are valid");
    this.replaceMembership(membership);
    return membership;
  }

  replaceMembership(membership: Membership): void {
    const core = this.#core;
    core.tracker.setMembership(membership, core.log.lastIndex);
    if (core.role !== "leader") return;
    abortTransferToNonVoter(core);
    core.replicationDue = true;
    if (!core.tracker.isVoter(core.id)) startRetirement(core);
    // The quorum may have shrunk: what waited for it may be reached now.
    advanceCommit(core);
    confirmReads(core);
  }

  reportUnreachable(to: NodeId): void {
    unreachable(this.#core, to);
  }

  reportSnapshot(to: NodeId, outcome: "delivered" | "failed"): void {
    snapshotReported(this.#core, to, outcome);
  }

  status(): RaftStatus {
    const { id, role, term, leader, transferee, leaseReads, log, tracker } = this.#core;
    const progress = new Map<NodeId, FollowerProgress>();
    for (const each of role === "leader" ? tracker.progress.values() : []) {
      const { match, next, state, recentlyActive, learner } = each;
      progress.set(each.id, { match, next, state, recentlyActive, learner });
    }
    const { commit, applied, lastIndex } = log;
    const { membership } = tracker;
    return {
      id,
      role,
      term,
      leader,
      commit,
      applied,
      lastIndex,
      membership,
      transferee,
      leaseReads,
      progress,
    };
  }

  #tickFollower(): void {
    const core = this.#core;
    core.electionElapsed += 1;
    if (core.electionElapsed < core.electionTimeout || !core.promotable) return;
    core.electionElapsed = 0;
    startElection(core, "timeout");
  }

  #tickLeader(): void {
    const core = this.#core;
    core.heartbeatElapsed += 1;
    core.electionElapsed += 1;
    if (core.electionElapsed >= core.config.electionTicks) {
      core.electionElapsed = 0;
      core.transferee = undefined;
      if (core.config.checkQuorum && !core.tracker.quorumActive()) {
        core.becomeFollower(core.term, undefined);
        return;
      }
      core.tracker.clearActivity();
      // A transfer that was given up held this back.
      leaveJointWhenApplied(core);
    }
    if (core.heartbeatElapsed < core.config.heartbeatTicks) return;
    core.heartbeatElapsed = 0;
    for (const progress of core.tracker.peers) progress.heartbeatTicked();
    broadcastHeartbeat(core);
  }

  /**
   * Takes a higher term over, as section 3.3 says; false when the message is to be ignored. Votes
   * are not asked of those that hear a leader (4.2.3), and pre-votes change no term (9.6).
   */
  #enterTermOf(message: Message): boolean {
    const core = this.#core;
    const { type } = message;
    if (type === "vote" || type === "preVote") {
      if (core.refusesVotes && !message.transfer) return false;
    }
    if (type === "preVote") return true;
    // A granted pre-vote names the term that this node asked about, not one that exists.
    if (type === "preVoteReply" && !message.reject) return message.term === core.term + 1;
    core.becomeFollower(message.term, isFromLeader(message) ? message.from : undefined);
    return true;
  }

  /**
   * A message of an older term is dropped. But a leader or a pre-candidate that fell behind, say
   * in a partition, has to learn of the newer term, or it would go on for ever: with check-quorum
   * nobody else asks for votes, so nothing else would tell it.
   */
  #answerStale(message: Message): void {
    const core = this.#core;
    const envelope = { from: core.id, to: message.from, term: core.term };
    if (message.type === "preVote") {
      replyToVote(core, message, { term: core.term, reject: true });
    } else if (message.type === "heartbeat") {
      core.outbox.send({ ...envelope, type: "heartbeatReply", round: 0 });
    } else if (message.type === "append") {
      core.outbox.sendAfterDurable({
        ...envelope,
        type: "appendReply",
        index: message.previousIndex,
        reject: true,
        hintIndex: core.log.lastIndex,
        hintTerm: core.log.lastTerm,
      });
    }
  }

  #takeRequest(request: Request, now: number | undefined): void {
    const core = this.#core;
    switch (request.type) {
      case "propose":
        this.takeForwarded(request.term, request.entries);
        return;
      case "readIndex":
        askReadFor(core, { from: request.from, context: request.context }, now);
        return;
      case "readIndexReply":
        takeReadAnswer(core, request.context, request.index);
        return;
      case "transferLeader":
        // One hop only: a member that isn't the leader doesn't pass it on.
        if (core.role === "leader") transferLeader(core, request.transferee);
        return;
      default:
    }
  }

  #dispatch(message: Message): void {
    const core = this.#core;
    switch (message.type) {
      case "append":
      case "heartbeat":
      case "snapshot":
        this.#takeFromLeader(message);
        return;
      case "vote":
      case "preVote":
        answerVoteRequest(core, message satisfies VoteRequest);
        return;
      case "voteReply":
      case "preVoteReply":
        takeVoteReply(core, message);
        return;
      case "appendReply":
        if (core.role === "leader") takeAppendReply(core, message);
        return;
      case "heartbeatReply":
        if (core.role === "leader") this.#takeHeartbeatReply(message);
        return;
      case "timeoutNow":
        if (message.from === core.leader) startElection(core, "transfer");
        return;
      default:
    }
  }

  #takeFromLeader(message: LeaderMessage): void {
    const core = this.#core;
    assert(core.role !== "leader", `${message.from} and ${core.id} both lead term ${core.term}`);
    if (core.role !== "follower") core.becomeFollower(core.term, message.from);
    assert(core.leader === undefined || core.leader === message.from, "one leader a term");
    core.leader = message.from;
    core.electionElapsed = 0;
    core.lease.leaderHeard();
    if (message.type === "append") takeAppend(core, message);
    else if (message.type === "heartbeat") takeHeartbeat(core, message);
    else takeSnapshot(core, message);
  }

  #takeHeartbeatReply(reply: HeartbeatReply): void {
    const core = this.#core;
    const progress = core.tracker.progress.get(reply.from);
    if (progress === undefined) return;
    progress.heartbeatAnswered();
    core.replicationDue = true;
    const { sentAt, promisedMilliseconds: milliseconds } = reply;
    if (sentAt !== undefined && milliseconds !== undefined) {
      takePromise(core, progress, { sentAt, milliseconds });
    }
    if (reply.round <= progress.round || reply.round > core.reads.newest) return;
    progress.round = reply.round;
    confirmReads(core);
  }

  #takeCommitted(): readonly Entry[] {
    const core = this.#core;
    const committed = core.log.takeCommitted();
    if (core.uncommittedBytes === 0) return committed;
    for (const { index, data } of committed) {
      if (index >= core.termStart) core.uncommittedBytes -= data.length;
    }
    assert(core.uncommittedBytes >= 0, "no more committed than proposed");
    return committed;
  }

  #takeReadStates(): readonly ReadState[] {
    const { readStates } = this.#core;
    if (readStates.length === 0) return NO_READ_STATES;
    this.#core.readStates = [];
    return readStates;
  }

  get #termOrVoteChanged(): boolean {
    return this.#core.term !== this.#hardState.term || this.#core.vote !== this.#hardState.vote;
  }

  get #hardStateChanged(): boolean {
    return this.#termOrVoteChanged || this.#core.log.commit !== this.#hardState.commit;
  }

  get #softStateChanged(): boolean {
    const { role, leader } = this.#softState;
    return this.#core.role !== role || this.#core.leader !== leader;
  }

  #takeHardState(): HardState | undefined {
    if (!this.#hardStateChanged) return undefined;
    const { term, vote, log } = this.#core;
    this.#hardState = { term, vote, commit: log.commit };
    return this.#hardState;
  }

  #takeSoftState(): SoftState | undefined {
    if (!this.#softStateChanged) return undefined;
    const { role, leader } = this.#core;
    this.#softState = { role, leader };
    return this.#softState;
  }
}

function isFromLeader(message: Message): message is LeaderMessage {
  const { type } = message;
  return type === "append" || type === "heartbeat" || type === "snapshot";
}

function assertAfterSnapshot(entries: readonly Entry[], snapshot: SnapshotMark | undefined): void {
  const first = entries[0];
  if (snapshot === undefined || first === undefined) return;
  assert(first.index === snapshot.index + 1, "entries go on behind the snapshot");
}
