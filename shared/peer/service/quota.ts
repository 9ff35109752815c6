/**
 * The space quota. A write that would exceed it raises the replicated NOSPACE alarm; that alarm alone blocks writes
 * in apply.
 */
import { rpcError } from "../../api/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import type { ServiceContext } from "./context.ts";

export class Quota {
  readonly #context: ServiceContext;
  #usedBytes = 0;
  #measuredAt = Number.NEGATIVE_INFINITY;

  constructor(context: ServiceContext) {
    this.#context = context;
  }

  /** In bytes; 0: none. */
  get limitBytes(): number {
    const { quotaBytes } = this.#context.config;
    if (quotaBytes === 0) return LIMITS.quotaBytes;
    return quotaBytes < 0 ? 0 : quotaBytes;
  }

  /**
   * Refuses what doesn't fit, after asking for the alarm. The store is measured once a tick, and estimated in
   * between.
   */
  check(costBytes: number): void {
    const limit = this.limitBytes;
    if (limit === 0) return;
    const { host, state, config } = this.#context;
    const now = host.now();
    if (now - this.#measuredAt >= config.tickMilliseconds) {
      this.#measuredAt = now;
      // Not the file's size: its free pages are the next to be written, and a new store has some.
      this.#usedBytes = state.backend.sizes().inUseBytes;
    }
    if (this.#usedBytes + costBytes < limit) {
      this.#usedBytes += costBytes;
      return;
    }
    this.#raiseAlarm();
    throw rpcError("noSpace");
  }

  #raiseAlarm(): void {
    const { consensus, state, config, host } = this.#context;
    const member = config.memberId;
    const { alarms } = state.members;
    if (alarms.some((each) => each.alarm === "nospace" && each.member === member)) return;
    host.report("warn", "database space exceeded: raising the NOSPACE alarm");
    consensus.propose(
      { kind: "alarm", action: "activate", member, alarm: "nospace" },
      { applied: () => {}, failed: () => {} }, // The next write that doesn't fit asks again.
    );
  }
}
