/**
 * The loop of a peer: inputs (messages, proposals, reads, ticks, news of the log) go into raft,
 * and what raft asks for is done in the order that `shared/raft/README.md` numbers. Everything
 * that arrives in one turn of the host shares a pass; a pass is bounded, and what is left over
 * waits for the next turn.
 *
 * Entries may be applied here before this peer's own log holds them durably (a quorum does). After
 * a crash the backend may then be ahead of the log: `openRaft` starts the log anew behind what is
 * applied, as after a snapshot.
 */
import { rpcError } from "../../api/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import type { Message, NodeId, RaftNode, Ready } from "../../raft/types.ts";
import { encodeCommand, versionNeeded } from "../../wire/command-codec.ts";
import { PEER_VERSION } from "../../wire/peer-codec.ts";
import { LEADER_LEASE_SINCE } from "../../wire/raft-codec.ts";
import type { Command, MemberCommand, WriteIdentity } from "../../wire/command.ts";
import type { Host } from "../host.ts";
import type { PeerConfig, PeerCounts } from "../peer.ts";
import type { StateMachine } from "../state/state-machine.ts";
import { Applier } from "./applier.ts";
import { Confirmations } from "./confirmations.ts";
import type { ConfirmationOwner } from "./confirmations.ts";
import { DurableQueue } from "./durable-queue.ts";
import { ForwardedProposals } from "./forwarded-proposals.ts";
import { LeaderView } from "./leader-view.ts";
import type { Leadership } from "./leader-view.ts";
import { MemberChanges } from "./member-changes.ts";
import { FORWARD_AGAIN_SINCE, Proposals } from "./proposals.ts";
import type { ProposalOwner } from "./proposals.ts";

export interface ConsensusListener {
  leadershipChanged(leadership: Leadership): void;
  /** The state machine holds all entries up to its applied index. */
  applied(): void;
  /** An applied entry has changed them, or their addresses. */
  membersChanged(): void;
  ticked(now: number): void;
  /** Raft wants the state sent to a member that lags behind the log. */
  snapshotWanted(message: Message & { readonly type: "snapshot" }): void;
}

export interface ConsensusOptions {
  readonly host: Host;
  readonly state: StateMachine;
  readonly raft: RaftNode;
  readonly own: { readonly member: bigint; readonly incarnation: number };
  readonly term: number;
  /** The log's sequence numbers lie this much above raft's. */
  readonly sequenceOffset: number;
  readonly config: Pick<
    PeerConfig,
    | "version"
    | "tickMilliseconds"
    | "electionTicks"
    | "leaseReads"
    | "compactLogEvery"
    | "catchUpEntries"
  >;
  readonly listener: ConsensusListener;
}

/** How soon a congested backend is asked again. */
const CONGESTION_MILLISECONDS = 5;

export class Consensus {
  readonly #options: ConsensusOptions;
  readonly #host: Host;
  readonly #raft: RaftNode;
  readonly #state: StateMachine;
  readonly #proposals: Proposals;
  readonly #forwarded = new ForwardedProposals();
  readonly #changes: MemberChanges;
  readonly #confirmations = new Confirmations();
  readonly #applier: Applier;
  readonly #view: LeaderView;
  readonly #durable = new DurableQueue();
  readonly #readIndex = (context: number) => this.#raft.readIndex(context, this.#leaseNow());
  #turnPending = false;
  #inTurn = false;
  #stopped = false;
  #awaitsBackend = false;
  #cancelTick: () => void;

  constructor(options: ConsensusOptions) {
    this.#options = options;
    this.#host = options.host;
    this.#raft = options.raft;
    this.#state = options.state;
    const { tickMilliseconds } = options.config;
    this.#proposals = new Proposals(options.own, {
      forwardAgainMilliseconds: LIMITS.forwardAgainTicks * tickMilliseconds,
    });
    this.#changes = new MemberChanges(options.own);
    this.#applier = new Applier({
      version: options.config.version ?? PEER_VERSION,
      state: options.state,
      raft: options.raft,
      proposals: this.#proposals,
      changes: this.#changes,
      confirmations: this.#confirmations,
      now: () => options.host.now(),
      applied: () => options.listener.applied(),
      membersChanged: () => options.listener.membersChanged(),
    });
    this.#view = new LeaderView(options.term, options.host.now());
    options.host.log.onDurable = (sequence) => {
      this.#durable.durable(sequence - options.sequenceOffset);
      if (!this.#inTurn) this.#turn();
    };
    this.#cancelTick = options.host.schedule(options.config.tickMilliseconds, this.#tick);
  }

  get leadership(): Leadership {
    return this.#view.current;
  }

  get counts(): Pick<PeerCounts, "leaderChanges" | "proposalsPending" | "proposalsFailed"> {
    return {
      leaderChanges: this.#view.changeCount,
      proposalsPending: this.#proposals.pendingCount,
      proposalsFailed: this.#proposals.failedCount,
    };
  }

  /** Milliseconds without a known leader; 0 with one. */
  leaderlessMilliseconds(now: number): number {
    return this.#view.leaderlessMilliseconds(now);
  }

  /**
   * How far at most this peer's state lies behind the cluster, by its own clock; undefined while
   * that is not known.
   */
  ageMilliseconds(): number | undefined {
    const { freshAt } = this.#confirmations;
    return freshAt === undefined ? undefined : this.#host.now() - freshAt;
  }

  get raft(): RaftNode {
    return this.#raft;
  }

  get appliedIndex(): number {
    return this.#state.appliedIndex;
  }

  /** Etcd's request time-out: 5 s and two elections. */
  get requestMilliseconds(): number {
    return 5000 + 2 * this.#electionMilliseconds;
  }

  /**
   * Puts a command into the log. The owner is told once; if its time is over first, whether it
   * happened is unknown.
   */
  propose(
    command: Command,
    owner: ProposalOwner,
    options: {
      timeoutMilliseconds?: number | undefined;
      identity?: WriteIdentity | undefined;
    } = {},
  ): void {
    if (this.#stopped) return owner.failed(rpcError("stopped"));
    if (this.#applier.waitingCount > LIMITS.applyGapMax) {
      return owner.failed(rpcError("requestTooManyRequests"));
    }
    // Not all members can read it yet.
    if (versionNeeded(command.kind, options.identity !== undefined) > this.#state.members.version) {
      return owner.failed(rpcError("notCapable"));
    }
    const now = this.#host.now();
    this.#proposals.submit(command, owner, {
      now,
      deadline: this.#deadline(now, options.timeoutMilliseconds),
      identity: options.identity,
    });
    this.#wake();
  }

  /** Like `propose`, for a change of the members. They go one after the other. */
  changeMembers(command: MemberCommand, owner: ProposalOwner, timeoutMilliseconds?: number): void {
    if (this.#stopped) return owner.failed(rpcError("stopped"));
    // Not all members can read it yet.
    if (versionNeeded(command.kind, false) > this.#state.members.version) {
      return owner.failed(rpcError("notCapable"));
    }
    const now = this.#host.now();
    const deadline = this.#deadline(now, timeoutMilliseconds);
    this.#changes.submit(command, owner, { now, deadline });
    this.#wake();
  }

  /**
   * Puts a command into the log only if this peer leads in this term at that moment: it is never
   * forwarded.
   */
  proposeAsLeader(command: Command, term: number): void {
    const { leads, term: current } = this.leadership;
    if (this.#stopped || !leads || current !== term || this.#raft.role !== "leader") return;
    const data = encodeCommand({ request: undefined, identity: undefined, command });
    this.#raft.propose([{ kind: "normal", data }]);
    this.#wake();
  }

  /**
   * Tells the owner once everything is applied that was committed anywhere when this was called.
   */
  confirm(owner: ConfirmationOwner, timeoutMilliseconds?: number): void {
    if (this.#stopped) return owner.failed(rpcError("stopped"));
    this.#confirmations.join(owner, this.#deadline(this.#host.now(), timeoutMilliseconds));
    this.#wake();
  }

  /**
   * Takes messages of other members. That a snapshot came is told by `with`, once its data are
   * installed.
   */
  receive(messages: readonly Message[]): void {
    this.with((raft) => {
      const now = this.#leaseNow();
      for (const message of messages) {
        if (message.type === "propose") this.#forwarded.take(raft, message);
        else if (message.type !== "snapshot") raft.step(message, now);
      }
    });
  }

  /** Messages to a member are lost; proposals among those that never left are offered again. */
  unreachable(to: NodeId, unsent: readonly Message[]): void {
    this.with((raft) => {
      raft.reportUnreachable(to);
      for (const message of unsent) {
        if (message.type === "propose") this.#proposals.unsent(message.entries, message.term);
      }
    });
  }

  /** Does something with raft, and then what raft asks for. */
  with(action: (raft: RaftNode) => void): void {
    if (this.#stopped) return;
    this.#guard(() => action(this.#raft));
    this.#wake();
  }

  /**
   * Holds back applying while the state is replaced; `resume` goes on behind the new applied
   * index.
   */
  pauseApplying(): void {
    this.#applier.pause();
  }

  /** While applying is held back: the state is another one now. */
  stateReplaced(): void {
    this.#proposals.stateReplaced();
    this.#proposals.appliedIn(this.#state.appliedTerm);
  }

  resumeApplying(): void {
    this.#applier.resume();
    this.#wake();
  }

  /** Fails everything that waits and takes no more input. */
  stop(): void {
    this.#stopped = true;
    this.#cancelTick();
    this.#proposals.failAll("stopped");
    this.#changes.failAll("stopped");
    this.#confirmations.failAll("stopped");
  }

  get #electionMilliseconds(): number {
    const { electionTicks, tickMilliseconds } = this.#options.config;
    return electionTicks * tickMilliseconds;
  }

  /** The clock of a leader's lease; undefined: no reads by it, at least not yet. */
  #leaseNow(): number | undefined {
    if (this.#options.config.leaseReads !== true) return undefined;
    return this.#state.members.version < LEADER_LEASE_SINCE ? undefined : this.#host.now();
  }

  #deadline(now: number, timeoutMilliseconds: number | undefined): number {
    const own = this.requestMilliseconds;
    return now + (timeoutMilliseconds === undefined ? own : Math.min(own, timeoutMilliseconds));
  }

  #wake(): void {
    if (this.#turnPending || this.#inTurn) return;
    this.#turnPending = true;
    this.#host.defer(() => {
      this.#turnPending = false;
      this.#turn();
    });
  }

  readonly #tick = (): void => {
    if (this.#stopped) return;
    this.#cancelTick = this.#host.schedule(this.#options.config.tickMilliseconds, this.#tick);
    this.#guard(() => {
      const now = this.#host.now();
      this.#raft.tick(this.#leaseNow());
      this.#proposals.offerUnsent();
      if (this.#state.members.version >= FORWARD_AGAIN_SINCE) {
        this.#proposals.forwardAgain(this.#raft, now);
      }
      this.#proposals.sweep(now, (startedAt) => this.#timeoutReason(startedAt));
      this.#changes.sweep(now, (startedAt) => this.#timeoutReason(startedAt));
      this.#confirmations.sweep(this.#readIndex, now);
      this.#compactLog();
      this.#options.listener.ticked(now);
    });
    this.#wake();
  };

  /** One pass: input to raft, then its batches until there are none, or too many for one turn. */
  #turn(): void {
    if (this.#stopped || this.#inTurn) return;
    this.#inTurn = true;
    this.#guard(() => {
      this.#takeDurable();
      this.#proposals.flush(this.#raft, this.#host.now());
      if (this.#changes.hasWaiting) this.#changes.flush(this.#raft, this.#host.now());
      this.#confirmations.flush(this.#readIndex, this.#host.now());
      let batches = 0;
      while (this.#raft.hasReady() && batches < LIMITS.readiesPerTurnMax) {
        batches += 1;
        this.#process(this.#raft.ready());
        this.#takeDurable();
        this.#applier.run();
      }
      this.#applier.run();
    });
    this.#inTurn = false;
    if (this.#stopped) return;
    if (this.#applier.congested) this.#retryApplying();
    if (this.#hasWork()) this.#wake();
  }

  /** What a refusing raft left queued waits for a leader, or for the next tick. */
  #hasWork(): boolean {
    if (this.#proposals.due || this.#confirmations.hasJoining) return true;
    return this.#raft.hasReady() || this.#applier.canRun;
  }

  #process(ready: Ready): void {
    this.#observe(ready);
    this.#send(ready.messages);
    const { snapshot, hardState, entries, sequence, mustSync } = ready;
    const writes = snapshot !== undefined || hardState !== undefined || entries.length > 0;
    this.#durable.push(ready, writes);
    if (writes) {
      const logSequence = sequence + this.#options.sequenceOffset;
      this.#host.log.append({ sequence: logSequence, snapshot, hardState, entries, mustSync });
    }
    if (snapshot !== undefined) this.#applier.snapshotTaken(snapshot.index);
    this.#applier.push(ready.committed);
    for (const state of ready.readStates) {
      this.#confirmations.answered(state, this.#state.appliedIndex);
    }
  }

  #observe(ready: Ready): void {
    const now = this.#host.now();
    const change = this.#view.observe(ready, now);
    if (change === "none") return;
    if (change === "newLeader") {
      this.#proposals.leaderFound();
      this.#confirmations.leaderChanged(this.#readIndex, now);
    }
    this.#options.listener.leadershipChanged(this.leadership);
  }

  #takeDurable(): void {
    const batch = this.#durable.take();
    if (batch === undefined) return;
    this.#send(batch.messages);
    this.#raft.persisted(batch.sequence);
  }

  #send(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    const byMember = new Map<NodeId, Message[]>();
    for (const message of messages) {
      if (message.type === "snapshot") {
        this.#options.listener.snapshotWanted(message);
        continue;
      }
      const list = byMember.get(message.to);
      if (list === undefined) byMember.set(message.to, [message]);
      else list.push(message);
    }
    for (const [to, list] of byMember) this.#host.transport.send(to, list);
  }

  #retryApplying(): void {
    if (this.#awaitsBackend) return;
    this.#awaitsBackend = true;
    this.#host.schedule(CONGESTION_MILLISECONDS, () => {
      this.#awaitsBackend = false;
      this.#wake();
    });
  }

  /** Cuts the log behind what is durable in the backend, leaving some for slow followers. */
  #compactLog(): void {
    const { log } = this.#host;
    const { backend } = this.#state;
    const { compactLogEvery, catchUpEntries } = this.#options.config;
    const wanted = this.#applier.raftApplied - catchUpEntries;
    if (wanted - log.firstIndex < compactLogEvery) return;
    if (backend.durableIndex < wanted) backend.flush();
    const target = Math.min(backend.durableIndex, wanted);
    if (target >= log.firstIndex) log.compact(target);
  }

  #timeoutReason(startedAt: number): ReturnType<LeaderView["timeoutReason"]> {
    return this.#view.timeoutReason(startedAt, {
      now: this.#host.now(),
      electionMilliseconds: this.#electionMilliseconds,
      voters: this.#state.members.membership.voters,
      transport: this.#host.transport,
    });
  }

  /** A defect or a storage fault stops the peer: it never answers again. */
  #guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.stop();
      this.#host.fatal(error instanceof Error ? error : new Error(String(error)));
    }
  }
}
