/**
 * The interface of leases. Granting, revoking and attaching are replicated and live in the
 * backend's `lease` table; expiry is the leader's alone and lives in memory.
 * `createLessor(backend)` in `backend-lessor.ts` makes one. Times are milliseconds of the caller's
 * monotonic clock, passed in as `now`.
 */
import type { BatchWriter } from "../backend/backend.ts";
import type { Bytes } from "../base/bytes.ts";

export interface Lease {
  readonly id: bigint;
  /** The granted time to live. */
  readonly ttlSeconds: number;
}

export interface Lessor {
  readonly leaseCount: number;

  // Replicated: called by apply on every peer, inside Backend.apply.

  /** The caller has checked the bounds of id and ttl. `now` only starts the local countdown. */
  grant(
    lease: Lease,
    writer: BatchWriter,
    now: number,
  ): { readonly code: "leaseExist" } | undefined;
  /**
   * Removes the lease and its attachments; returns the keys that were attached, sorted: the caller
   * deletes them.
   */
  revoke(id: bigint, writer: BatchWriter): readonly Bytes[] | { readonly code: "leaseNotFound" };
  /** The key now belongs to `next` (0n: none) instead of `previous` (0n: none). */
  reattach(key: Bytes, previous: bigint, next: bigint, writer: BatchWriter): void;

  lookup(id: bigint): Lease | undefined;
  /** All leases, soonest expiry first where this peer leads, else by id. */
  list(): readonly Lease[];
  /** The keys attached now, in key order. */
  attachedKeys(id: bigint): readonly Bytes[];

  // The leader's clock.

  /**
   * This peer leads from now on: every lease starts anew at its full time plus
   * `extendMilliseconds`.
   */
  promote(options: { readonly now: number; readonly extendMilliseconds: number }): void;
  demote(): void;
  /**
   * Starts the lease's time anew; its ttl, or undefined when it is unknown, expired, or this peer
   * doesn't lead.
   */
  renew(id: bigint, now: number): number | undefined;
  /**
   * Milliseconds left (negative: expired, not yet revoked); undefined when unknown or this peer
   * doesn't lead.
   */
  remaining(id: bigint, now: number): number | undefined;
  /**
   * Up to `countMax` leases that have expired, each reported again only after `retryMilliseconds`.
   */
  expired(options: {
    readonly now: number;
    readonly countMax: number;
    readonly retryMilliseconds: number;
  }): readonly bigint[];
  /** Reads its state from the backend anew: after a snapshot was installed. */
  reload(now: number): void;
}
