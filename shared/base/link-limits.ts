/**
 * The bounds that the client and its end of the link need, each with its reason. `LIMITS` holds
 * them too; they stand apart, and each by itself, because browsers carry the client, and nothing of a peer's.
 */
const MIB = 1024 * 1024;

/**
 * Nesting of transactions: recursion is bounded before operations are counted. No legal one is
 * deeper than its budget of operations, since each level spends one.
 */
export const txnDepthMax = 128;
/** How deeply a CBOR frame may nest. */
export const frameDepthMax = 64;

/** How long the client waits for a link to open before it tries the next endpoint. */
export const clientConnectMilliseconds = 2000;
/** The client's first wait before it repeats a call, and its longest. */
export const clientBackoffMilliseconds = 25;
export const clientBackoffMillisecondsMax = 2000;
/**
 * A call's deadline when its caller names none: above etcd's own 7 s, so that the peer's answer
 * comes first.
 */
export const clientTimeoutMilliseconds = 10_000;
/** Bytes of a client's id in the identity of a write. */
export const dedupClientBytesMax = 32;
/** Lanes of writes that a client keeps for reuse: more than this under way at once is rare. */
export const clientLanesMax = 1024;
/** Keys of one page when the client lists a range. */
export const clientPageKeys = 1000;
/**
 * Undelivered bytes of a client's watch; past it the watch ends at the peer and resumes once its
 * reader has caught up.
 */
export const clientWatchBytesMax = 8 * MIB;
/** Renewals of one client that fall due so close together share a message. */
export const leaseRenewGatherMilliseconds = 100;
/** Lease ids of one keepalive message. */
export const leaseRenewIdsMax = 5000;
/**
 * A lease's owner believes in it this share of its ttl less: bounded clock drift between owner
 * and peers.
 */
export const leaseDriftShare = 0.01;
/** And never less than this: a busy event loop fires a timer late, however short the ttl. */
export const leaseMarginMillisecondsMin = 100;
/** Runs of one `atomically` that others may outrun before it gives up. */
export const stmAttemptsMax = 100;
/** How long an endpoint of a service that failed is passed over. */
export const serviceRestMilliseconds = 5000;
