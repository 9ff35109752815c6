/**
 * Leases that stay alive by themselves. All leases of a client share one timer and their renewals
 * travel in batches.
 *
 * What an owner may believe: a lease is held until its ttl after the moment at which the last
 * successful renewal was *sent*, less a margin for clock drift and late timers. When that moment
 * passes unrenewed, or the peer says that the lease is gone, `signal` aborts. Under long pauses of
 * the process this can come late: what a lease protects should also carry a fencing token (a
 * revision that the protected resource compares).
 */
import { RpcError } from "../api/errors.ts";
import * as LIMITS from "../base/link-limits.ts";
import type { CallOptions, Caller } from "./caller.ts";
import type { ClientPlatform } from "./platform.ts";

export interface LeaseOptions extends CallOptions {
  /** Whole seconds, 1 or more. The cluster may grant more than was asked for. */
  readonly ttl: number;
  /** An id of one's own; the cluster chooses one otherwise. */
  readonly id?: bigint | undefined;
}

export interface Lease extends AsyncDisposable {
  readonly id: bigint;
  readonly ttlSeconds: number;
  /** Aborts once the lease must be taken for lost; its reason is the `RpcError` that says why. */
  readonly signal: AbortSignal;
  /** Resolves with the same reason, at the same moment; never rejects. */
  readonly lost: Promise<RpcError>;
  /** How long it may still be taken for held; 0: it is lost. */
  remainingMilliseconds(): number;
  /** Ends it at the peers, and the keys under it. */
  revoke(): Promise<void>;
  /** Renews it no more; it expires by itself, and `signal` and `lost` don't tell when. */
  close(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export class LeaseKeeper {
  readonly #caller: Caller;
  readonly #platform: ClientPlatform;
  readonly #leases = new Set<HeldLease>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;

  constructor(caller: Caller, platform: ClientPlatform) {
    this.#caller = caller;
    this.#platform = platform;
  }

  async grant(options: LeaseOptions): Promise<Lease> {
    const { ttl: ttlSeconds, id } = options;
    if (!Number.isSafeInteger(ttlSeconds) || ttlSeconds < 1) {
      throw new RpcError("invalidArgument", `a lease's ttl is whole seconds, 1 or more`);
    }
    const sentAt = this.#platform.now();
    const request = { method: "leaseGrant", id: id ?? 0n, ttlSeconds: BigInt(ttlSeconds) } as const;
    const answer = await this.#caller.call(request, options);
    const lease = new HeldLease(answer.id, answer.ttlSeconds, this, this.#platform);
    lease.renewed(sentAt, answer.ttlSeconds);
    this.#leases.add(lease);
    this.#schedule();
    return lease;
  }

  async revoke(lease: HeldLease): Promise<void> {
    this.drop(lease);
    try {
      await this.#caller.call({ method: "leaseRevoke", id: lease.id });
    } catch (error) {
      // It is gone already: by expiry, or by a try of ours whose answer was lost.
      if (!(error instanceof RpcError) || error.code !== "leaseNotFound") throw error;
    }
    lease.lose(new RpcError("canceled", "the lease was revoked by its owner"));
  }

  drop(lease: HeldLease): void {
    this.#leases.delete(lease);
    if (this.#leases.size === 0) {
      this.#stopTimer();
    }
  }

  close(): void {
    this.#stopTimer();
    this.#leases.clear();
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#timerAt = Infinity;
  }

  /** One timer, for what is due first. */
  #schedule(): void {
    let earliest = Infinity;
    for (const lease of this.#leases) earliest = Math.min(earliest, lease.dueAt);
    if (earliest >= this.#timerAt || earliest === Infinity) return;
    this.#stopTimer();
    this.#timerAt = earliest;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Infinity;
        this.#renewDue();
      },
      Math.max(0, earliest - this.#platform.now()),
    );
  }

  #renewDue(): void {
    const now = this.#platform.now();
    const due: HeldLease[] = [];
    for (const lease of this.#leases) {
      if (lease.remainingMilliseconds() === 0) {
        this.drop(lease);
        lease.lose(expired());
      } else if (!lease.renewing && lease.dueAt <= now + LIMITS.leaseRenewGatherMilliseconds) {
        due.push(lease);
      }
    }
    for (let start = 0; start < due.length; start += LIMITS.leaseRenewIdsMax) {
      void this.#renew(due.slice(start, start + LIMITS.leaseRenewIdsMax));
    }
    this.#schedule();
  }

  async #renew(leases: readonly HeldLease[]): Promise<void> {
    const sentAt = this.#platform.now();
    for (const lease of leases) lease.renewing = true;
    try {
      const ids = leases.map((lease) => lease.id);
      const shortest = Math.min(...leases.map((lease) => lease.remainingMilliseconds()));
      const timeoutMilliseconds = Math.max(1, shortest / 2);
      const request = { method: "leaseKeepAlive", ids } as const;
      const { ttlSeconds } = await this.#caller.call(request, { timeoutMilliseconds });
      for (const [position, lease] of leases.entries()) {
        const ttl = ttlSeconds[position] ?? 0;
        if (ttl > 0) {
          lease.renewed(sentAt, ttl);
        } else {
          this.drop(lease);
          lease.lose(expired());
        }
      }
    } catch {
      // Asked again soon; if the deadline passes first, the lease is lost.
      for (const lease of leases) lease.postpone();
    } finally {
      for (const lease of leases) lease.renewing = false;
      this.#schedule();
    }
  }
}

function expired(): RpcError {
  return new RpcError("notFound", "the lease was lost", { code: "leaseNotFound" });
}

class HeldLease implements Lease {
  readonly id: bigint;
  readonly ttlSeconds: number;
  readonly lost: Promise<RpcError>;
  readonly #keeper: LeaseKeeper;
  readonly #platform: ClientPlatform;
  readonly #aborter = new AbortController();
  #settleLost: (reason: RpcError) => void = () => undefined;
  /** While a renewal is under way nothing but the deadline is due. */
  renewing = false;
  #renewAt = 0;
  #heldUntil = 0;

  constructor(id: bigint, ttlSeconds: number, keeper: LeaseKeeper, platform: ClientPlatform) {
    this.id = id;
    this.ttlSeconds = ttlSeconds;
    this.#keeper = keeper;
    this.#platform = platform;
    this.lost = new Promise((resolve) => {
      this.#settleLost = resolve;
    });
  }

  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  /** When it next needs the keeper: for its renewal, or because it has run out. */
  get dueAt(): number {
    return this.renewing ? this.#heldUntil : Math.min(this.#renewAt, this.#heldUntil);
  }

  remainingMilliseconds(): number {
    if (this.#aborter.signal.aborted) return 0;
    return Math.max(0, this.#heldUntil - this.#platform.now());
  }

  revoke(): Promise<void> {
    return this.#keeper.revoke(this);
  }

  close(): void {
    this.#keeper.drop(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.revoke();
  }

  /** A renewal that was sent at `sentAt` granted so many seconds. */
  renewed(sentAt: number, ttlSeconds: number): void {
    const ttl = ttlSeconds * 1000;
    const margin = Math.max(LIMITS.leaseMarginMillisecondsMin, ttl * LIMITS.leaseDriftShare);
    this.#heldUntil = Math.max(this.#heldUntil, sentAt + ttl - margin);
    this.#renewAt = sentAt + ttl / 3;
  }

  /** The last renewal failed: try again in a tenth of what is left. */
  postpone(): void {
    const now = this.#platform.now();
    this.#renewAt = now + Math.max(50, (this.#heldUntil - now) / 10);
  }

  lose(reason: RpcError): void {
    this.#aborter.abort(reason);
    this.#settleLost(reason);
  }
}
