/**
 * The small requests that members send each other beside raft's messages: work for the
 * leader, on leases and learners, and hashes for comparison. Encoded by `peer-codec.ts`.
 */
export type PeerCall =
  /**
   * Followers forward keepalives in batches; answered only after a leadership confirmation that
   * began after arrival.
   */
  | { readonly kind: "leaseRenew"; readonly ids: readonly bigint[] }
  | { readonly kind: "leaseRemaining"; readonly id: bigint }
  /** Only the leader knows how far a learner is. Answered once the change is applied or refused. */
  | { readonly kind: "memberPromote"; readonly member: bigint }
  /** Whether these may get a vote, as far as only the leader knows. */
  | { readonly kind: "learnersReady"; readonly members: readonly bigint[] }
  /** The receiver's HashKV at this revision; it waits a moment if it is behind. */
  | { readonly kind: "hashKv"; readonly revision: number }
  /**
   * How many chunks of this snapshot the receiver has from the asker, whose stream broke: the state
   * at `index`, sent by the leader of `term`. No answer: it can't tell yet.
   */
  | { readonly kind: "snapshotStaged"; readonly term: number; readonly index: number }
  /** Who is who, as the receiver knows it: asked by a member that joins. */
  | { readonly kind: "members" };

/** A member, as a joining one is told. */
export interface ToldMember {
  readonly id: bigint;
  /** Empty until it has started for the first time. */
  readonly name: string;
  readonly peerUrls: readonly string[];
}

/** What the leader's lease keeper answers. */
export type LeaseCall = Extract<PeerCall, { readonly kind: "leaseRenew" | "leaseRemaining" }>;

export type PeerReply =
  /** One ttl in seconds per id, in order; 0: unknown or expired. */
  | { readonly kind: "leaseRenew"; readonly ttlSeconds: readonly number[] }
  /** Undefined: unknown lease. */
  | { readonly kind: "leaseRemaining"; readonly remainingMilliseconds: number | undefined }
  /** Empty: done; else the text of the refusal, as the API has it. */
  | { readonly kind: "memberPromote"; readonly refusal: string }
  /** Empty: they may. */
  | { readonly kind: "learnersReady"; readonly refusal: string }
  /** Undefined: the revision is compacted there, or lies ahead. `compactRevision`: -1 for none. */
  | {
      readonly kind: "hashKv";
      readonly result:
        | {
            readonly hash: number;
            readonly hashRevision: number;
            readonly compactRevision: number;
          }
        | undefined;
    }
  | { readonly kind: "members"; readonly members: readonly ToldMember[] }
  | { readonly kind: "snapshotStaged"; readonly chunks: number }
  /** The receiver doesn't lead, or can't tell: ask another, or later. */
  | { readonly kind: "refused"; readonly reason: "notLeader" | "noConfirmation" };
