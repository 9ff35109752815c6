/**
 * The lease hub as a Durable Object: callers' keepalives in, few messages to the peers out. The
 * rules are `lease-hub-core.ts`'s; here are one timer, the sending, and the callers' promises,
 * which die with this incarnation.
 */
import { DurableObject } from "cloudflare:workers";
import { LIMITS } from "../shared/base/limits.ts";
import { RpcError } from "../shared/api/errors.ts";
import { EVERYTHING } from "./auth/grant.ts";
import { configOf } from "./config.ts";
import type { EdgeEnv, HubAnswer, LeaseHubStub } from "./config.ts";
import { LeaseHubCore } from "./lease-hub-core.ts";
import type { Batch } from "./lease-hub-core.ts";
import { Upstream } from "./upstream.ts";

export class LeaseHub extends DurableObject<EdgeEnv> implements LeaseHubStub {
  readonly #incarnation = crypto.randomUUID();
  readonly #core = new LeaseHubCore(this.#incarnation, {
    gatherMilliseconds: LIMITS.hubGatherMilliseconds,
    batchIdsMax: LIMITS.leaseRenewIdsMax,
    waitingMax: LIMITS.hubWaitingMax,
  });
  readonly #callers = new Map<number, (answer: HubAnswer) => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  keepAlive(idTexts: readonly string[]): Promise<HubAnswer> {
    const ids = idTexts.map(BigInt);
    if (ids.length === 0) {
      return Promise.resolve({ ok: true, ttlSeconds: [], revision: 0, raftTerm: 0 });
    }
    const ticket = this.#core.ask(ids, Date.now());
    if (ticket === undefined) {
      const message = `the lease hub has ${LIMITS.hubWaitingMax} renewals waiting: try again`;
      return Promise.resolve({ ok: false, status: "resourceExhausted", message });
    }
    return new Promise((resolve) => {
      this.#callers.set(ticket.number, resolve);
      this.#arm();
    });
  }

  /**
   * One timer, for the batch that gathers. The clock stands still within a turn, so it is set by
   * duration.
   */
  #arm(): void {
    const { closesAt } = this.#core;
    if (closesAt === undefined) return;
    const wait = Math.max(0, closesAt - Date.now());
    if (this.#timer !== undefined) {
      if (wait > 0) return;
      clearTimeout(this.#timer);
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      for (const batch of this.#core.close(Math.max(closesAt, Date.now()))) void this.#send(batch);
      this.#arm();
    }, wait);
  }

  async #send(batch: Batch): Promise<void> {
    let failure: RpcError | undefined;
    let header = { revision: 0, raftTerm: 0 };
    let ttlSeconds: readonly number[] | undefined;
    try {
      const upstream = new Upstream(configOf(this.env), EVERYTHING);
      const answer = await upstream.call({ method: "leaseKeepAlive", ids: batch.ids });
      ({ header, ttlSeconds } = answer);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      failure = error instanceof RpcError ? error : new RpcError("internal", text);
    }
    const status = failure?.status ?? "unavailable";
    const message = failure?.message ?? "the peers' answer was not understood";
    for (const settlement of this.#core.settle(batch.number, ttlSeconds)) {
      const resolve = this.#callers.get(settlement.ticket.number);
      this.#callers.delete(settlement.ticket.number);
      resolve?.(
        settlement.outcome === "confirmed"
          ? { ok: true, ttlSeconds: settlement.ttlSeconds, ...header }
          : { ok: false, status, message },
      );
    }
  }
}
