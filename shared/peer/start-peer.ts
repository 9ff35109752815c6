/**
 * Starts a peer over a host: the state machine from the backend, raft from the log, the services
 * over both. The one place that knows all parts; each part knows only what it is given here.
 */
import { createLessor } from "../lease/backend-lessor.ts";
import { createStore } from "../mvcc/mvcc-store.ts";
import type { NodeId } from "../raft/types.ts";
import type { PeerCall, PeerReply } from "../wire/peer-call.ts";
import { Consensus } from "./consensus/consensus.ts";
import { openMembership, openRaft } from "./consensus/open-raft.ts";
import { markOf, Snapshots } from "./consensus/snapshots.ts";
import type { Host, PeerInbox } from "./host.ts";
import { MemberPublisher } from "./member-publisher.ts";
import type { Peer, PeerConfig, PeerCounts, StartPeer } from "./peer.ts";
import { MembershipKeeper } from "./membership-keeper.ts";
import { ClusterMembers } from "./service/cluster-service.ts";
import { DEFAULT_UPKEEP } from "./peer.ts";
import { AutoCompactor } from "./service/auto-compactor.ts";
import { Compactor } from "./service/compactor.ts";
import { ServiceContext } from "./service/context.ts";
import { Corruption } from "./service/corruption.ts";
import { createKvService } from "./service/kv-service.ts";
import { LeaseKeeper } from "./service/lease-keeper.ts";
import { ReplicatedLeases } from "./service/lease-service.ts";
import { createMaintenanceService } from "./service/maintenance-service.ts";
import { MemberHealth } from "./service/member-health.ts";
import { Quota } from "./service/quota.ts";
import { VersionKeeper, assertVersion } from "./version-keeper.ts";
import { WatchStreams } from "./service/watch-service.ts";
import type { Services } from "./services.ts";
import { StateMachine } from "./state/state-machine.ts";

/** How long a leader that stops waits for a successor at least, and in election timeouts. */
const HANDOVER_MILLISECONDS = 500;
const HANDOVER_SHARE = 1 / 2;
const HANDOVER_POLL_MILLISECONDS = 10;

export const startPeer: StartPeer = (host, config) => new RunningPeer(host, config);

class RunningPeer implements Peer {
  readonly services: Services;
  readonly #host: Host;
  readonly #consensus: Consensus;
  readonly #state: StateMachine;
  readonly #keeper: LeaseKeeper;
  readonly #snapshots: Snapshots;
  readonly #leases: ReplicatedLeases;
  readonly #watches: WatchStreams;
  readonly #compactor: Compactor;
  readonly #autoCompactor: AutoCompactor;
  readonly #corruption: Corruption;
  readonly #publisher: MemberPublisher;
  readonly #membership: MembershipKeeper;
  readonly #versions: VersionKeeper;
  readonly #config: PeerConfig;
  readonly #health: MemberHealth;
  readonly #cluster: ClusterMembers;
  #stopping: Promise<void> | undefined;

  constructor(host: Host, config: PeerConfig) {
    this.#host = host;
    this.#config = config;
    const { backend } = host;
    const store = createStore(backend);
    const lessor = createLessor(backend);
    const state = new StateMachine({ backend, store, lessor });
    this.#state = state;
    openMembership(host, config, state);
    const self = String(config.memberId);
    const { raft, hardState, sequenceOffset } = openRaft(host, config, {
      state,
      seed: numberOf(host.randomBytes(4)),
      snapshot: () => (this.#snapshots.canSend ? markOf(state) : undefined),
    });
    const consensus = new Consensus({
      host,
      state,
      raft,
      own: { member: config.memberId, incarnation: numberOf(host.randomBytes(6)) },
      term: hardState.term,
      sequenceOffset,
      config,
      listener: {
        leadershipChanged: () => this.#reviewLeadership(),
        applied: () => this.#applied(),
        membersChanged: () => this.#membership.changed(),
        ticked: (now) => this.#ticked(now),
        snapshotWanted: (message) => this.#snapshots.send(message),
      },
    });
    this.#consensus = consensus;
    const context = new ServiceContext({ host, config, state, consensus });
    const quota = new Quota(context);
    const upkeep = config.upkeep ?? DEFAULT_UPKEEP;
    this.#compactor = new Compactor(host, state, upkeep);
    this.#autoCompactor = new AutoCompactor(context, upkeep.autoCompaction);
    this.#corruption = new Corruption(context, upkeep);
    this.#keeper = new LeaseKeeper(context);
    this.#leases = new ReplicatedLeases(context, { keeper: this.#keeper, quota });
    this.#watches = new WatchStreams(context, numberOf(host.randomBytes(4)));
    this.#publisher = new MemberPublisher(context);
    this.#membership = new MembershipKeeper(context);
    this.#versions = new VersionKeeper(context);
    this.#health = new MemberHealth(host, state, config.memberId);
    this.#cluster = new ClusterMembers(context, this.#health);
    this.#snapshots = new Snapshots({
      host,
      state,
      consensus,
      memberId: self,
      clusterId: config.clusterId,
      replacing: () => this.#compactor.pause(),
      replaced: () => this.#stateReplaced(),
    });
    this.services = {
      get appliedIndex() {
        return state.appliedIndex;
      },
      kv: createKvService(context, { quota, compactor: this.#compactor }),
      lease: this.#leases,
      watch: this.#watches,
      cluster: this.#cluster,
      maintenance: createMaintenanceService(context, quota),
    };
    this.#open();
  }

  raftStatus(): ReturnType<Peer["raftStatus"]> {
    return this.#consensus.raft.status();
  }

  counts(): PeerCounts {
    const { puts, deletes, ranges, transactions } = this.#state.counts;
    const { keysAlive: keys, compactRevision, watches } = this.#state.store;
    const { watcherCount: watchers, laggingCount: laggingWatchers } = watches;
    const operations = { puts, deletes, ranges, transactions };
    const { counts } = this.#consensus;
    return { ...operations, keys, compactRevision, watchers, laggingWatchers, ...counts };
  }

  ready(): Promise<void> {
    return this.#publisher.done;
  }

  checkInitially(): Promise<void> {
    return this.#corruption.checkInitially();
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  #open(): void {
    this.#host.transport.inbox = this.#inbox();
    this.#membership.start();
    this.#compactor.start();
    this.#autoCompactor.start();
    this.#corruption.start();
    this.#publisher.start();
  }

  #answer(from: NodeId, call: PeerCall): Promise<PeerReply> {
    if (call.kind === "snapshotStaged") return this.#snapshots.staged(from, call);
    if (call.kind === "memberPromote" || call.kind === "learnersReady") {
      return this.#cluster.answer(call);
    }
    if (call.kind === "members") {
      return Promise.resolve({ kind: "members", members: this.#state.members.members });
    }
    return call.kind === "hashKv" ? this.#corruption.answer(call) : this.#leases.answer(call);
  }

  #inbox(): PeerInbox {
    return {
      messages: (_from, messages) => this.#consensus.receive(messages),
      call: (from, call) => this.#answer(from, call),
      snapshot: (from, _mark, chunks) => this.#snapshots.receive(from, chunks),
      unreachable: (to, unsent) => this.#consensus.unreachable(to, unsent),
      isRemoved: (from) => this.#membership.isRemoved(from),
      removed: (by) => this.#membership.removedBy(by),
    };
  }

  #reviewLeadership(): void {
    this.#keeper.review();
    this.#publisher.review();
  }

  #applied(): void {
    this.#keeper.review();
    this.#watches.applied();
    this.#compactor.applied();
  }

  #ticked(now: number): void {
    this.#keeper.ticked(now);
    this.#health.ticked(now);
    this.#membership.ticked(now);
    this.#versions.ticked(now);
    this.#watches.ticked(now);
    this.#publisher.ticked();
  }

  #stateReplaced(): void {
    this.#state.reload(this.#host.now());
    this.#checkVersion();
    this.#consensus.stateReplaced();
    this.#membership.changed();
    this.#compactor.resume();
    this.#watches.catchUpSoon();
  }

  /** A snapshot may bring a version that this peer doesn't speak. */
  #checkVersion(): void {
    try {
      assertVersion(this.#state, this.#config);
    } catch (error) {
      this.#host.fatal(error as Error);
    }
  }

  async #stop(): Promise<void> {
    await this.#handOver();
    this.#leases.stop();
    this.#cluster.stop();
    this.#watches.stop();
    this.#compactor.stop();
    this.#autoCompactor.stop();
    this.#corruption.stop();
    this.#publisher.stop();
    this.#consensus.stop();
    await this.#snapshots.stop();
  }

  /**
   * Gives the lead to the most complete member that is there, and waits a moment for it to take
   * over.
   */
  async #handOver(): Promise<void> {
    const { role, id, progress } = this.raftStatus();
    if (role !== "leader") return;
    let successor: { id: NodeId; match: number } | undefined;
    for (const [member, { match, recentlyActive, learner }] of progress) {
      if (member === id || learner || !recentlyActive) continue;
      if (successor === undefined || match > successor.match) successor = { id: member, match };
    }
    if (successor === undefined) return;
    const { id: transferee } = successor;
    this.#consensus.with((raft) => raft.transferLeader(transferee));
    const { electionTicks, tickMilliseconds } = this.#config;
    const wait = HANDOVER_SHARE * electionTicks * tickMilliseconds;
    const until = this.#host.now() + Math.max(HANDOVER_MILLISECONDS, wait);
    // It stays until the successor is known, not only until it leads no more: its vote may be the one
    // that counts, when a link to the third member has yet to be dialled anew.
    while (!this.#knowsSuccessor() && this.#host.now() < until) {
      await new Promise<void>((resolve) => {
        this.#host.schedule(HANDOVER_POLL_MILLISECONDS, resolve);
      });
    }
    if (this.#knowsSuccessor()) this.#host.report("info", "handed the lead over");
    else this.#host.report("warn", "nobody took the lead over in time");
  }

  #knowsSuccessor(): boolean {
    const { id, leader } = this.raftStatus();
    return leader !== undefined && leader !== id;
  }
}

/** At most 6 bytes as a number. */
function numberOf(bytes: Uint8Array): number {
  let value = 0;
  for (const byte of bytes) value = value * 256 + byte;
  return value;
}
