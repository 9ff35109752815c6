/**
 * The members of the cluster, what the leader knows of each, and the questions whose answer needs
 * a quorum: how far the log is committed, which read round is confirmed, who is elected, whether
 * a leader still reaches enough voters.
 */
import { assert } from "../base/assert.ts";
import { Inflights } from "./inflights.ts";
import { membersOf } from "./membership.ts";
import { Progress } from "./progress.ts";
import { jointOutcome, majorityReached, voteOutcome, type VoteOutcome } from "./quorum.ts";
import type { Membership, NodeId, RaftConfig } from "./types.ts";

type WindowConfig = Pick<RaftConfig, "id" | "appendsInFlightMax" | "appendBytesInFlightMax">;

export class Tracker {
  readonly #id: NodeId;
  readonly #window: { readonly countMax: number; readonly bytesMax: number };
  #membership: Membership;
  #progress = new Map<NodeId, Progress>();
  /** All but this node. */
  #peers: readonly Progress[] = [];
  #incoming: readonly Progress[] = [];
  #outgoing: readonly Progress[] = [];
  readonly #votes = new Map<NodeId, boolean>();
  readonly #scratch: number[] = [];

  constructor(config: WindowConfig, membership: Membership, lastIndex: number) {
    this.#id = config.id;
    this.#window = {
      countMax: config.appendsInFlightMax,
      bytesMax: config.appendBytesInFlightMax,
    };
    this.#membership = membership;
    this.setMembership(membership, lastIndex);
  }

  get membership(): Membership {
    return this.#membership;
  }

  get progress(): ReadonlyMap<NodeId, Progress> {
    return this.#progress;
  }

  /** The other members, learners included. */
  get peers(): readonly Progress[] {
    return this.#peers;
  }

  /** This node's own progress, if it is a member. */
  get self(): Progress | undefined {
    return this.#progress.get(this.#id);
  }

  isVoter(id: NodeId): boolean {
    const { voters, votersOutgoing } = this.#membership;
    return voters.includes(id) || votersOutgoing.includes(id);
  }

  /** Keeps what is known of the members that stay; new ones start as active, to be probed. */
  setMembership(membership: Membership, lastIndex: number): void {
    const progress = new Map<NodeId, Progress>();
    for (const id of membersOf(membership)) {
      const each = this.#progress.get(id) ?? this.#newcomer(id, lastIndex);
      each.learner = membership.learners.includes(id);
      progress.set(id, each);
    }
    const of = (id: NodeId): Progress => {
      const each = progress.get(id);
      assert(each !== undefined, `${id} votes without progress`);
      return each;
    };
    this.#membership = membership;
    this.#progress = progress;
    this.#peers = [...progress.values()].filter((each) => each.id !== this.#id);
    this.#incoming = membership.voters.map(of);
    this.#outgoing = membership.votersOutgoing.map(of);
  }

  /** Forgets what was known of the members' logs. */
  resetProgress(lastIndex: number, own: { readonly durableIndex: number }): void {
    for (const each of this.#progress.values()) {
      each.reset(lastIndex + 1, each.id === this.#id ? own.durableIndex : 0);
    }
  }

  /** The greatest index that a quorum holds durably. */
  committed(): number {
    return this.#reached((progress) => progress.match);
  }

  /** The newest read round that a quorum has answered. */
  confirmedRound(): number {
    return this.#reached((progress) => progress.round);
  }

  /** Until when a quorum has promised to elect nobody else than this node, the leader. */
  leasedUntil(): number {
    return this.#reached(({ id, leasedUntil }) => (id === this.#id ? Infinity : leasedUntil));
  }

  forgetPromises(): void {
    for (const each of this.#progress.values()) each.leasedUntil = 0;
  }

  /** Has the leader heard from a quorum since the last check? It hears itself. */
  quorumActive(): boolean {
    const active = new Map<NodeId, boolean>();
    for (const each of this.#progress.values()) {
      active.set(each.id, each.recentlyActive || each.id === this.#id);
    }
    return this.#outcome(active) === "won";
  }

  /** Starts a new quorum check. */
  clearActivity(): void {
    for (const each of this.#progress.values()) each.recentlyActive = false;
  }

  resetVotes(): void {
    this.#votes.clear();
  }

  /** Books a vote, the first one of each voter; returns how the election stands. */
  recordVote(id: NodeId, granted: boolean): VoteOutcome {
    if (!this.#votes.has(id)) this.#votes.set(id, granted);
    return this.#outcome(this.#votes);
  }

  #outcome(votes: ReadonlyMap<NodeId, boolean>): VoteOutcome {
    const { voters, votersOutgoing } = this.#membership;
    return jointOutcome(voteOutcome(voters, votes), voteOutcome(votersOutgoing, votes));
  }

  #reached(valueOf: (progress: Progress) => number): number {
    const incoming = this.#majority(this.#incoming, valueOf);
    if (this.#outgoing.length === 0) return incoming;
    return Math.min(incoming, this.#majority(this.#outgoing, valueOf));
  }

  #majority(voters: readonly Progress[], valueOf: (progress: Progress) => number): number {
    const values = this.#scratch;
    values.length = 0;
    for (const each of voters) values.push(valueOf(each));
    return majorityReached(values);
  }

  #newcomer(id: NodeId, lastIndex: number): Progress {
    const progress = new Progress(id, lastIndex + 1, new Inflights(this.#window));
    // Else a leader that just added it could fail its quorum check before it can answer.
    progress.recentlyActive = true;
    return progress;
  }
}
