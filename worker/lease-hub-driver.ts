/**
 * The lease hub's running part, for whatever hosts it: callers' promises, one timer, and the sending
 * of what `lease-hub-core.ts` decides. Clock and way upstream come in, so that tests run this very
 * code under clocks that jump and timers that are late. The clock only says when a batch leaves:
 * what a caller is told never depends on it.
 */
import { RpcError } from "../shared/api/errors.ts";
import type { HubAnswer } from "./config.ts";
import { LeaseHubCore } from "./lease-hub-core.ts";
import type { Batch, HubLimits } from "./lease-hub-core.ts";

/** The peers' answer to a batch: one ttl per id, in order. */
export interface Renewed {
  readonly ttlSeconds: readonly number[];
  readonly header: { readonly revision: number; readonly raftTerm: number };
}

export interface HubSurroundings {
  readonly limits: HubLimits;
  /** Milliseconds; may step back or jump. */
  now(): number;
  /** Runs it once after so many milliseconds, or later; the returned function calls it off. */
  after(milliseconds: number, run: () => void): () => void;
  renew(ids: readonly bigint[]): Promise<Renewed>;
}

export class LeaseHubDriver {
  readonly #surroundings: HubSurroundings;
  readonly #core: LeaseHubCore;
  readonly #callers = new Map<number, (answer: HubAnswer) => void>();
  #callOff: (() => void) | undefined;

  constructor(incarnation: string, surroundings: HubSurroundings) {
    this.#surroundings = surroundings;
    this.#core = new LeaseHubCore(incarnation, surroundings.limits);
  }

  keepAlive(ids: readonly bigint[]): Promise<HubAnswer> {
    if (ids.length === 0) {
      return Promise.resolve({ ok: true, ttlSeconds: [], revision: 0, raftTerm: 0 });
    }
    const ticket = this.#core.ask(ids, this.#surroundings.now());
    if (ticket === undefined) {
      const { waitingMax } = this.#surroundings.limits;
      const message = `the lease hub has ${waitingMax} renewals waiting: try again`;
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
    const wait = Math.max(0, closesAt - this.#surroundings.now());
    if (this.#callOff !== undefined) {
      if (wait > 0) return;
      this.#callOff();
    }
    this.#callOff = this.#surroundings.after(wait, () => {
      this.#callOff = undefined;
      const now = Math.max(closesAt, this.#surroundings.now());
      for (const batch of this.#core.close(now)) void this.#send(batch);
      this.#arm();
    });
  }

  async #send(batch: Batch): Promise<void> {
    let failure: RpcError | undefined;
    let header = { revision: 0, raftTerm: 0 };
    let ttlSeconds: readonly number[] | undefined;
    try {
      ({ header, ttlSeconds } = await this.#surroundings.renew(batch.ids));
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
