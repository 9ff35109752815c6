/**
 * Who leads, as this peer knows it, since when, and what that means for proposals that were not
 * answered in time.
 */
import type { ErrorCode } from "../../api/errors.ts";
import type { NodeId, Ready } from "../../raft/types.ts";
import type { PeerTransport } from "../host.ts";

export interface Leadership {
  readonly leader: NodeId | undefined;
  /** This peer leads. */
  readonly leads: boolean;
  readonly term: number;
}

export type LeadershipChange = "none" | "changed" | "newLeader";

export class LeaderView {
  #current: Leadership;
  #electedAt = Number.NEGATIVE_INFINITY;
  #lostAt: number;
  /** How often another leader than before was found. */
  changeCount = 0;

  constructor(term: number, now: number) {
    this.#current = { leader: undefined, leads: false, term };
    this.#lostAt = now;
  }

  get current(): Leadership {
    return this.#current;
  }

  /** Milliseconds without a known leader; 0 with one. */
  leaderlessMilliseconds(now: number): number {
    return this.#current.leader === undefined ? now - this.#lostAt : 0;
  }

  observe({ softState, hardState }: Ready, now: number): LeadershipChange {
    if (softState === undefined && hardState === undefined) return "none";
    const before = this.#current;
    const leader = softState === undefined ? before.leader : softState.leader;
    const leads = softState === undefined ? before.leads : softState.role === "leader";
    const term = hardState?.term ?? before.term;
    if (leader === before.leader && leads === before.leads && term === before.term) return "none";
    this.#current = { leader, leads, term };
    if (leader === undefined && before.leader !== undefined) this.#lostAt = now;
    if (leader === undefined || leader === before.leader) return "changed";
    this.#electedAt = now;
    this.changeCount += 1;
    return "newLeader";
  }

  /** Which of etcd's time-out texts fits a proposal that was made then. */
  timeoutReason(
    startedAt: number,
    surroundings: {
      readonly now: number;
      readonly electionMilliseconds: number;
      readonly voters: readonly NodeId[];
      readonly transport: PeerTransport;
    },
  ): ErrorCode {
    const { now, electionMilliseconds, voters, transport } = surroundings;
    const lostAt = this.#electedAt - 2 * electionMilliseconds;
    if (startedAt > lostAt && startedAt < this.#electedAt) return "timeoutDueToLeaderFail";
    const { leader, leads } = this.#current;
    if (leader === undefined) return "timeout";
    const connected = (id: NodeId): boolean => {
      const idle = transport.idleMilliseconds(id);
      return idle !== undefined && idle < now - startedAt;
    };
    const reachable = leads
      ? voters.filter((id) => id === leader || connected(id)).length > voters.length / 2
      : connected(leader);
    return reachable ? "timeout" : "timeoutDueToConnectionLost";
  }
}
