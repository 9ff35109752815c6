/**
 * The leader's side of leases: it runs their clock from the moment at which it has applied an entry of its own
 * term, proposes the expiry of those whose time is over, and stops both when it loses the lead.
 *
 * An expiry carries the term in which it was decided, is proposed only while this peer leads in that term, and is
 * dropped by apply in any other: a deposed leader can't revoke a lease that its successor has extended.
 */
import { LIMITS } from "../../base/limits.ts";
import type { ServiceContext } from "./context.ts";

/** How often expired leases are looked for (etcd: 500 ms). */
const SCAN_MILLISECONDS = 500;

export class LeaseKeeper {
  readonly #context: ServiceContext;
  /** The term in which this peer runs the leases' clock; undefined: it doesn't. */
  #term: number | undefined;
  #scannedAt = Number.NEGATIVE_INFINITY;

  constructor(context: ServiceContext) {
    this.#context = context;
  }

  /** True while this peer's clock is the one that counts, as far as it knows. */
  get active(): boolean {
    return this.#term !== undefined;
  }

  /** The leadership or the applied state changed. */
  review(): void {
    const { consensus, state, host, config } = this.#context;
    const { leads, term } = consensus.leadership;
    const wanted = leads && state.appliedTerm === term ? term : undefined;
    if (wanted === this.#term) return;
    if (this.#term !== undefined) state.lessor.demote();
    this.#term = wanted;
    if (wanted === undefined) return;
    const extendMilliseconds = config.electionTicks * config.tickMilliseconds;
    state.lessor.promote({ now: host.now(), extendMilliseconds });
    this.#scannedAt = host.now();
  }

  ticked(now: number): void {
    if (this.#term === undefined || now - this.#scannedAt < SCAN_MILLISECONDS) return;
    this.#scannedAt = now;
    const { consensus, state } = this.#context;
    const ids = state.lessor.expired({
      now,
      countMax: LIMITS.leaseRevokesPerEntryMax,
      retryMilliseconds: consensus.requestMilliseconds,
    });
    if (ids.length === 0) return;
    consensus.proposeAsLeader({ kind: "leaseRevoke", ids, term: this.#term }, this.#term);
  }
}
