/**
 * The version of the cluster: what all of its members speak, replicated through the log. While
 * members of two versions run side by side (an upgrade, one by one) the older one's holds; once
 * each member says that it speaks a newer one, the leader proposes that, and what it brought may
 * stand in the log from then on. It never falls again.
 */
import { PEER_VERSION } from "../wire/peer-codec.ts";
import type { Consensus } from "./consensus/consensus.ts";
import type { Host } from "./host.ts";
import type { PeerConfig } from "./peer.ts";
import type { StateMachine } from "./state/state-machine.ts";

/** A proposal may be lost with a leader; it is repeated. */
const RETRY_MILLISECONDS = 1000;

export interface VersionKeeperParts {
  readonly host: Host;
  readonly config: PeerConfig;
  readonly state: StateMachine;
  readonly consensus: Consensus;
}

/** Throws when the cluster has gone on to a version that this peer doesn't speak. */
export function assertVersion(state: StateMachine, config: PeerConfig): void {
  const own = config.version ?? PEER_VERSION;
  const { version } = state.members;
  if (version <= own) return;
  throw new Error(`the cluster's version is ${version}, this peer speaks ${own}: run a newer one`);
}

export class VersionKeeper {
  readonly #parts: VersionKeeperParts;
  #proposedAt = Number.NEGATIVE_INFINITY;

  constructor(parts: VersionKeeperParts) {
    this.#parts = parts;
  }

  ticked(now: number): void {
    const { host, state, consensus } = this.#parts;
    const { leads, term } = consensus.leadership;
    if (!leads || now - this.#proposedAt < RETRY_MILLISECONDS) return;
    const common = this.#common();
    if (common <= state.members.version) return;
    this.#proposedAt = now;
    host.report("info", "all members speak a newer version", { version: common });
    consensus.proposeAsLeader({ kind: "clusterVersion", version: String(common) }, term);
  }

  /** The newest version that all members speak; 0 while some of them are not connected. */
  #common(): number {
    const { config, host, state } = this.#parts;
    let common = config.version ?? PEER_VERSION;
    if (common <= state.members.version) return 0;
    for (const { id } of state.members.members) {
      if (id === config.memberId) continue;
      common = Math.min(common, host.transport.versionOf(String(id)) ?? 0);
    }
    return common;
  }
}
