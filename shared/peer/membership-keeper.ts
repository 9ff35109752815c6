/**
 * What follows from a change of the members beside raft: whom the transport links to, and the end of
 * a member that was removed.
 *
 * A removed member is linked to a little longer, since a removed leader still has to finish its
 * work (`raft/retirement.ts`) and a removed follower may yet hear of its removal. After that the
 * transport refuses it, and by the refusal it learns what it missed.
 */
import type { NodeId } from "../raft/types.ts";
import type { Consensus } from "./consensus/consensus.ts";
import type { Host, PeerAddress } from "./host.ts";
import type { PeerConfig } from "./peer.ts";
import type { StateMachine } from "./state/state-machine.ts";

/** The peer was removed from its cluster: an orderly end, and for good. */
export class MemberRemovedError extends Error {
  override readonly name = "MemberRemovedError";

  constructor() {
    super("the member has been permanently removed from the cluster");
  }
}

export interface MembershipKeeperParts {
  readonly host: Host;
  readonly config: PeerConfig;
  readonly state: StateMachine;
  readonly consensus: Consensus;
}

interface Leaving {
  readonly address: PeerAddress;
  readonly until: number;
}

/** Ticks between applying its own removal and the end: its last answers leave meanwhile. */
const FAREWELL_TICKS = 2;

export class MembershipKeeper {
  readonly #parts: MembershipKeeperParts;
  readonly #self: NodeId;
  #peers: readonly PeerAddress[] = [];
  #leaving = new Map<NodeId, Leaving>();
  #removedAt: number | undefined;
  #ended = false;

  constructor(parts: MembershipKeeperParts) {
    this.#parts = parts;
    this.#self = String(parts.config.memberId);
  }

  /** Links to the members; one that joins and knows none yet, to those that it was told of. */
  start(): void {
    this.#peers = this.#addresses();
    this.#tellTransport();
    this.#leadIfAlone();
  }

  /** The members are others now: by an entry, or as a snapshot has it. */
  changed(): void {
    const { host, state, config } = this.#parts;
    const now = host.now();
    const peers = this.#addresses();
    for (const address of this.#peers) {
      if (peers.some(({ id }) => id === address.id)) continue;
      this.#leaving.set(address.id, { address, until: now + this.#electionMilliseconds });
    }
    for (const { id } of peers) this.#leaving.delete(id);
    this.#peers = peers;
    this.#tellTransport();
    if (this.#removedAt === undefined && state.members.isRemoved(config.memberId)) {
      this.#removedAt = now;
    }
  }

  ticked(now: number): void {
    const gone = [...this.#leaving].filter(([, { until }]) => until <= now);
    for (const [id] of gone) this.#leaving.delete(id);
    if (gone.length > 0) this.#tellTransport();
    this.#leadIfAlone();
    if (this.#removedAt !== undefined) this.#endWhenDone(now - this.#removedAt);
  }

  /** For the transport: whether this member is to be refused, for it was removed. */
  isRemoved(id: NodeId): boolean {
    return this.#parts.state.members.isRemoved(BigInt(id)) && !this.#leaving.has(id);
  }

  /** Another member has refused this one's link for that reason. */
  removedBy(by: NodeId): void {
    this.#parts.host.report("warn", "another member says that this one was removed", {
      peer: BigInt(by).toString(16),
    });
    this.#end();
  }

  get #electionMilliseconds(): number {
    const { electionTicks, tickMilliseconds } = this.#parts.config;
    return electionTicks * tickMilliseconds;
  }

  #addresses(): readonly PeerAddress[] {
    const { state, config } = this.#parts;
    const { members } = state.members;
    const known = members.length > 0 ? members : config.joinThrough;
    return known
      .map(({ id, peerUrls }) => ({ id: String(id), peerUrls }))
      .filter(({ id }) => id !== this.#self);
  }

  #tellTransport(): void {
    const leaving = [...this.#leaving.values()].map(({ address }) => address);
    this.#parts.host.transport.setPeers([...this.#peers, ...leaving]);
  }

  /** Nobody else could be elected: there is nothing to wait for. */
  #leadIfAlone(): void {
    const { consensus, state } = this.#parts;
    if (consensus.leadership.leader !== undefined) return;
    const { voters, votersOutgoing } = state.members.membership;
    if (voters.length === 1 && voters[0] === this.#self && votersOutgoing.length === 0) {
      consensus.with((raft) => raft.campaign());
    }
  }

  /** A removed leader leads until the others can do without it. */
  #endWhenDone(sinceMilliseconds: number): void {
    const { consensus, config } = this.#parts;
    const leads = consensus.raft.status().role === "leader";
    const patience = 2 * this.#electionMilliseconds;
    const least = leads ? patience : FAREWELL_TICKS * config.tickMilliseconds;
    if (sinceMilliseconds >= least) this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#parts.consensus.stop();
    this.#parts.host.fatal(new MemberRemovedError());
  }
}
