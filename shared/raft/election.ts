/**
 * Elections (thesis sections 3.4 and 3.6.1, 4.2.3, 9.6): campaigning, voting, counting.
 *
 * A candidate's own vote counts, and its requests leave, only once its new term and vote and its
 * whole log are durable: a candidate that lost them in a crash could stand for the same term
 * again with a shorter log, and would find the first campaign's votes waiting for it.
 */
import { assert } from "../base/assert.ts";
import type { Core } from "./core.ts";
import { appendOpening } from "./proposals.ts";
import type { VoteOutcome } from "./quorum.ts";
import type { Message, NodeId } from "./types.ts";

export type VoteRequest = Extract<Message, { type: "vote" | "preVote" }>;
export type VoteReply = Extract<Message, { type: "voteReply" | "preVoteReply" }>;

/** Why a node campaigns: a pre-vote comes first, unless the leader itself hands over. */
export type CampaignReason = "timeout" | "transfer";

/** Starts an election, unless this node can't lead now. */
export function startElection(core: Core, reason: CampaignReason): void {
  if (core.role === "leader" || !core.promotable) return;
  if (reason === "timeout" && core.lease.refusesVotes) return;
  // Its membership may be about to change: first apply what is committed (thesis section 4.1).
  if (hasUnappliedMembership(core)) return;
  if (core.config.preVote && reason === "timeout") {
    core.becomePreCandidate();
    requestVotes(core, { type: "preVote", term: core.term + 1, transfer: false });
    count(core, core.id, true);
  } else {
    campaign(core, reason);
  }
}

/** Stands for election in a new term. */
function campaign(core: Core, reason: CampaignReason): void {
  core.becomeCandidate();
  requestVotes(core, { type: "vote", term: core.term, transfer: reason === "transfer" });
}

/** The candidate's own vote is durable: it counts from now on. */
export function ownVoteDurable(core: Core, durable: { term: number; vote: NodeId | undefined }) {
  if (core.role !== "candidate") return;
  if (durable.term === core.term && durable.vote === core.id) count(core, core.id, true);
}

function requestVotes(
  core: Core,
  request: {
    readonly type: "vote" | "preVote";
    readonly term: number;
    readonly transfer: boolean;
  },
): void {
  const { lastIndex, lastTerm } = core.log;
  for (const { id, learner } of core.tracker.peers) {
    if (learner) continue;
    const message: Message = { ...request, from: core.id, to: id, lastIndex, lastTerm };
    if (request.type === "vote") core.outbox.sendAfterDurable(message);
    else core.outbox.send(message);
  }
}

/**
 * Answers a request of this term, or a pre-vote for a later one. Learners vote as well: a request
 * shows that another member already counts this one among the voters.
 */
export function answerVoteRequest(core: Core, request: VoteRequest): void {
  const asksAhead = request.type === "preVote" && request.term > core.term;
  const free = core.vote === undefined && core.leader === undefined;
  const promised = core.lease.refusesVotes && !request.transfer;
  const mayVote = !promised && (core.vote === request.from || free || asksAhead);
  const granted = mayVote && core.log.isUpToDate(request.lastIndex, request.lastTerm);
  if (granted && request.type === "vote") {
    assert(request.term === core.term, "votes are given in the own term");
    core.electionElapsed = 0;
    core.vote = request.from;
  }
  // A granted pre-vote names the term it is for; a refusal tells the asker of ours.
  replyToVote(core, request, { term: granted ? request.term : core.term, reject: !granted });
}

export function replyToVote(
  core: Core,
  request: VoteRequest,
  reply: { readonly term: number; readonly reject: boolean },
): void {
  const { commit } = core.log;
  core.outbox.sendAfterDurable({
    ...reply,
    type: request.type === "vote" ? "voteReply" : "preVoteReply",
    from: core.id,
    to: request.from,
    commit,
    commitTerm: core.log.termOf(commit) ?? 0,
  });
}

/** Counts an answer, if it is to the election that is under way. */
export function takeVoteReply(core: Core, reply: VoteReply): void {
  const awaited = reply.type === "voteReply" ? "candidate" : "preCandidate";
  if (core.role !== "leader") learnCommit(core, reply);
  if (core.role === awaited) count(core, reply.from, !reply.reject);
}

/**
 * Members learn of a membership change only with its commit. One that has the entry but not this
 * knowledge may need the vote of a member that the change removed, and whose log is longer: neither
 * could ever win. So a voter tells what is committed, and the candidate's log, if it holds the
 * same entry, is committed as far; it applies the change and then wins by the new quorum.
 */
function learnCommit(core: Core, reply: VoteReply): void {
  if (reply.commitTerm > 0 && core.log.matches(reply.commit, reply.commitTerm)) {
    core.log.commitTo(reply.commit);
  }
}

function count(core: Core, voter: NodeId, granted: boolean): void {
  const outcome: VoteOutcome = core.tracker.recordVote(voter, granted);
  if (outcome === "lost") {
    core.becomeFollower(core.term, undefined);
  } else if (outcome === "won" && core.role === "preCandidate") {
    campaign(core, "timeout");
  } else if (outcome === "won") {
    core.becomeLeader();
    appendOpening(core);
  }
}

function hasUnappliedMembership(core: Core): boolean {
  const { log, config } = core;
  let next = log.applied + 1;
  while (next <= log.commit) {
    const entries = log.slice(next, log.commit + 1, config.committedBytesMax);
    if (entries.some((entry) => entry.kind === "membership")) return true;
    next += entries.length;
  }
  return false;
}
