/**
 * The small requests that members send each other beside raft's messages: lease work for the
 * leader. Encoded by `peer-codec.ts`.
 */
export type PeerCall =
  /**
   * Followers forward keepalives in batches; answered only after a leadership confirmation that
   * began after arrival.
   */
  | { readonly kind: "leaseRenew"; readonly ids: readonly bigint[] }
  | { readonly kind: "leaseRemaining"; readonly id: bigint };

export type PeerReply =
  /** One ttl in seconds per id, in order; 0: unknown or expired. */
  | { readonly kind: "leaseRenew"; readonly ttlSeconds: readonly number[] }
  /** Undefined: unknown lease. */
  | { readonly kind: "leaseRemaining"; readonly remainingMilliseconds: number | undefined }
  /** The receiver doesn't lead, or can't tell: ask another, or later. */
  | { readonly kind: "refused"; readonly reason: "notLeader" | "noConfirmation" };
