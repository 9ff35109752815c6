/**
 * Confirmed batching, as a pure core: input and time in, what to do out. Keepalives that come
 * within the gathering time travel as one message; one that comes later waits for the next,
 * because a confirmation counts only for what had arrived before it was asked for. Nothing is ever
 * answered but with what the peers said to that message.
 *
 * It keeps nothing that matters: when its host is evicted, the callers' requests fail and they ask
 * again, each counting its deadline from its own sending. Tickets carry the incarnation, so that
 * an answer can't reach another one's caller.
 */
import { assert } from "../shared/base/assert.ts";

export interface HubLimits {
  readonly gatherMilliseconds: number;
  /** Lease ids of one message upstream. */
  readonly batchIdsMax: number;
  /** Ids that may wait, over all callers. */
  readonly waitingMax: number;
}

/** One caller's keepalive. */
export interface Ticket {
  readonly incarnation: string;
  readonly number: number;
}

export interface Batch {
  readonly number: number;
  /** Each id once, however many callers asked for it. */
  readonly ids: readonly bigint[];
}

export type Settlement =
  | {
      readonly ticket: Ticket;
      readonly outcome: "confirmed";
      readonly ttlSeconds: readonly number[];
    }
  | { readonly ticket: Ticket; readonly outcome: "failed" };

interface Waiting {
  readonly ticket: Ticket;
  readonly ids: readonly bigint[];
}

export class LeaseHubCore {
  readonly #incarnation: string;
  readonly #limits: HubLimits;
  #gathering: Waiting[] = [];
  #gatheringIds = 0;
  #closesAt: number | undefined;
  readonly #underWay = new Map<number, { batch: Batch; waiting: readonly Waiting[] }>();
  #waitingIds = 0;
  #nextTicket = 1;
  #nextBatch = 1;

  constructor(incarnation: string, limits: HubLimits) {
    this.#incarnation = incarnation;
    this.#limits = limits;
  }

  /** When `close` wants to be called; undefined: nothing waits. */
  get closesAt(): number | undefined {
    return this.#closesAt;
  }

  /** Takes a keepalive, or answers undefined: too many wait. */
  ask(ids: readonly bigint[], now: number): Ticket | undefined {
    assert(ids.length > 0, "a keepalive names a lease");
    if (this.#waitingIds + ids.length > this.#limits.waitingMax) return undefined;
    const ticket = { incarnation: this.#incarnation, number: this.#nextTicket++ };
    this.#gathering.push({ ticket, ids });
    this.#gatheringIds += ids.length;
    this.#waitingIds += ids.length;
    const full = this.#gatheringIds >= this.#limits.batchIdsMax;
    if (full) this.#closesAt = now;
    else this.#closesAt ??= now + this.#limits.gatherMilliseconds;
    return ticket;
  }

  /** The batches to send now; each must come back by `settle`. */
  close(now: number): Batch[] {
    if (this.#closesAt === undefined || now < this.#closesAt) return [];
    const batches: Batch[] = [];
    let waiting: Waiting[] = [];
    let ids = new Set<bigint>();
    const send = (): void => {
      const batch = { number: this.#nextBatch++, ids: [...ids] };
      this.#underWay.set(batch.number, { batch, waiting });
      batches.push(batch);
      waiting = [];
      ids = new Set();
    };
    for (const each of this.#gathering) {
      if (ids.size > 0 && ids.size + each.ids.length > this.#limits.batchIdsMax) send();
      for (const id of each.ids) ids.add(id);
      waiting.push(each);
    }
    if (waiting.length > 0) send();
    this.#gathering = [];
    this.#gatheringIds = 0;
    this.#closesAt = undefined;
    return batches;
  }

  /** The peers' answer to a batch, one ttl per id in its order, or undefined: none came. */
  settle(batchNumber: number, ttlSeconds: readonly number[] | undefined): Settlement[] {
    const settled = this.#underWay.get(batchNumber);
    assert(settled !== undefined, `batch ${batchNumber} is under way`);
    this.#underWay.delete(batchNumber);
    const { batch, waiting } = settled;
    for (const { ids } of waiting) this.#waitingIds -= ids.length;
    assert(this.#waitingIds >= 0, "what waits was counted in");
    // An answer of another length is none: it can't be told which lease is meant.
    if (ttlSeconds === undefined || ttlSeconds.length !== batch.ids.length) {
      return waiting.map(({ ticket }) => ({ ticket, outcome: "failed" }));
    }
    const ttls = new Map(batch.ids.map((id, position) => [id, ttlSeconds[position] as number]));
    return waiting.map(({ ticket, ids }) => ({
      ticket,
      outcome: "confirmed",
      ttlSeconds: ids.map((id) => ttls.get(id) as number),
    }));
  }
}
