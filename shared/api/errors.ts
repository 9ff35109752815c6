/**
 * The error table: every refusal with its gRPC status and exact text. Clients compare texts, so
 * texts are API; no other file holds one. Source: etcd's api/v3rpc/rpctypes (names without their
 * `ErrGRPC`), then texts that etcd sends outside it.
 */

/** gRPC status codes (grpc/grpc, doc/statuscodes.md), by name. */
export const STATUS = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;

export type StatusName = keyof typeof STATUS;

const TABLE = {
  emptyKey: ["invalidArgument", "etcdserver: key is not provided"],
  keyNotFound: ["invalidArgument", "etcdserver: key not found"],
  valueProvided: ["invalidArgument", "etcdserver: value is provided"],
  leaseProvided: ["invalidArgument", "etcdserver: lease is provided"],
  tooManyOps: ["invalidArgument", "etcdserver: too many operations in txn request"],
  duplicateKey: ["invalidArgument", "etcdserver: duplicate key given in txn request"],
  invalidClientApiVersion: ["invalidArgument", "etcdserver: invalid client api version"],
  invalidSortOption: ["invalidArgument", "etcdserver: invalid sort option"],
  compacted: ["outOfRange", "etcdserver: mvcc: required revision has been compacted"],
  futureRev: ["outOfRange", "etcdserver: mvcc: required revision is a future revision"],
  noSpace: ["resourceExhausted", "etcdserver: mvcc: database space exceeded"],
  leaseNotFound: ["notFound", "etcdserver: requested lease not found"],
  leaseExist: ["failedPrecondition", "etcdserver: lease already exists"],
  leaseTtlTooLarge: ["outOfRange", "etcdserver: too large lease TTL"],
  watchCanceled: ["canceled", "etcdserver: watch canceled"],
  memberExist: ["failedPrecondition", "etcdserver: member ID already exist"],
  peerUrlExist: ["failedPrecondition", "etcdserver: Peer URLs already exists"],
  memberNotEnoughStarted: [
    "unknown",
    "etcdserver: re-configuration failed due to not enough started members",
  ], // the table says FailedPrecondition; etcd sends Unknown
  memberBadUrls: ["invalidArgument", "etcdserver: given member URLs are invalid"],
  memberNotFound: ["notFound", "etcdserver: member not found"],
  memberNotLearner: ["failedPrecondition", "etcdserver: can only promote a learner member"],
  learnerNotReady: [
    "failedPrecondition",
    "etcdserver: can only promote a learner member which is in sync with leader",
  ],
  tooManyLearners: ["failedPrecondition", "etcdserver: too many learner members in cluster"],
  clusterIdMismatch: ["failedPrecondition", "etcdserver: cluster ID mismatch"],
  requestTooLarge: ["invalidArgument", "etcdserver: request is too large"],
  requestTooManyRequests: ["unknown", "etcdserver: too many requests"], // the table says ResourceExhausted; etcd sends Unknown
  rootUserNotExist: ["failedPrecondition", "etcdserver: root user does not exist"],
  rootRoleNotExist: ["failedPrecondition", "etcdserver: root user does not have root role"],
  userAlreadyExist: ["failedPrecondition", "etcdserver: user name already exists"],
  userEmpty: ["invalidArgument", "etcdserver: user name is empty"],
  userNotFound: ["failedPrecondition", "etcdserver: user name not found"],
  roleAlreadyExist: ["failedPrecondition", "etcdserver: role name already exists"],
  roleNotFound: ["failedPrecondition", "etcdserver: role name not found"],
  roleEmpty: ["invalidArgument", "etcdserver: role name is empty"],
  authFailed: ["invalidArgument", "etcdserver: authentication failed, invalid user ID or password"],
  permissionNotGiven: ["invalidArgument", "etcdserver: permission not given"],
  permissionDenied: ["permissionDenied", "etcdserver: permission denied"],
  roleNotGranted: ["failedPrecondition", "etcdserver: role is not granted to the user"],
  permissionNotGranted: ["failedPrecondition", "etcdserver: permission is not granted to the role"],
  authNotEnabled: ["failedPrecondition", "etcdserver: authentication is not enabled"],
  invalidAuthToken: ["unauthenticated", "etcdserver: invalid auth token"],
  invalidAuthMgmt: ["invalidArgument", "etcdserver: invalid auth management"],
  authOldRevision: ["invalidArgument", "etcdserver: revision of auth store is old"],
  noLeader: ["unavailable", "etcdserver: no leader"],
  notLeader: ["failedPrecondition", "etcdserver: not leader"],
  leaderChanged: ["unavailable", "etcdserver: leader changed"],
  notCapable: ["failedPrecondition", "etcdserver: not capable"],
  stopped: ["unavailable", "etcdserver: server stopped"],
  timeout: ["unavailable", "etcdserver: request timed out"],
  timeoutDueToLeaderFail: [
    "unavailable",
    "etcdserver: request timed out, possibly due to previous leader failure",
  ],
  timeoutDueToConnectionLost: [
    "unavailable",
    "etcdserver: request timed out, possibly due to connection lost",
  ],
  timeoutWaitAppliedIndex: [
    "unavailable",
    "etcdserver: request timed out, waiting for the applied index took too long",
  ],
  unhealthy: ["unavailable", "etcdserver: unhealthy cluster"],
  corrupt: ["dataLoss", "etcdserver: corrupt cluster"],
  notSupportedForLearner: ["failedPrecondition", "etcdserver: rpc not supported for learner"],
  badLeaderTransferee: ["failedPrecondition", "etcdserver: bad leader transferee"],
  wrongDowngradeVersionFormat: [
    "invalidArgument",
    "etcdserver: wrong downgrade target version format",
  ],
  invalidDowngradeTargetVersion: [
    "invalidArgument",
    "etcdserver: invalid downgrade target version",
  ],
  clusterVersionUnavailable: [
    "failedPrecondition",
    "etcdserver: cluster version not found during downgrade",
  ],
  downgradeInProcess: ["failedPrecondition", "etcdserver: cluster has a downgrade job in progress"],
  noInflightDowngrade: ["failedPrecondition", "etcdserver: no inflight downgrade job"],
  canceled: ["canceled", "etcdserver: request canceled"],
  deadlineExceeded: ["deadlineExceeded", "etcdserver: context deadline exceeded"],
  unknownMethod: ["unknown", "etcdserver: unknown method"],
  notPrimaryLessor: ["unknown", "not a primary lessor"],
  leaderTransferTimeout: [
    "unknown",
    "etcdserver: request timed out, leader transfer took too long",
  ],
  watchRangeEmpty: ["unknown", "mvcc: watcher range is empty"],
  watchIdTaken: ["unknown", "mvcc: duplicate watch ID provided on the WatchStream"],
  electionNotLeader: ["unknown", "election: not leader"],
  electionNoLeader: ["unknown", "election: no leader"],
  electionLeaderMissing: ["unknown", '"leader" field must be provided'],
  rangeStreamSort: ["unimplemented", "RangeStream does not support custom sort orders"],
  rangeStreamFilter: ["unimplemented", "RangeStream does not support revision filters"],
  // Quorate's own: a retried write that can't be told from one that was applied long ago.
  writeForgotten: [
    "aborted",
    "the write was sent before, and its outcome is no longer known: it was not applied again",
  ],
} as const satisfies Record<string, readonly [StatusName, string]>;

/** What was refused; the discriminant of refusals in the replicated logic. */
export type ErrorCode = keyof typeof TABLE;

/**
 * What is known of the effect of a failed call: `none` happened, or it is `unknown` whether it did.
 */
export type Outcome = "none" | "unknown";

/**
 * The one error that services throw and clients see: status, text, and what a caller may do next.
 */
export class RpcError extends Error {
  override readonly name = "RpcError";
  readonly status: StatusName;
  /** Set when the error is one of the table's. */
  readonly code: ErrorCode | undefined;
  readonly outcome: Outcome;

  constructor(
    status: StatusName,
    message: string,
    options: { code?: ErrorCode; outcome?: Outcome; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = status;
    this.code = options.code;
    this.outcome = options.outcome ?? "none";
  }

  /** True when the same call may succeed later and repeating it does no harm. */
  get retryable(): boolean {
    return (
      this.outcome === "none" &&
      (this.status === "unavailable" || this.status === "resourceExhausted")
    );
  }
}

export function isErrorCode(name: string): name is ErrorCode {
  return Object.hasOwn(TABLE, name);
}

/** The table's error for this code. */
export function rpcError(
  code: ErrorCode,
  options: { outcome?: Outcome; cause?: unknown } = {},
): RpcError {
  const [status, text] = TABLE[code];
  return new RpcError(status, text, { ...options, code });
}

/** The exact text of a code, for answers that carry it inside a message (watch cancel reasons). */
export function errorText(code: ErrorCode): string {
  return TABLE[code][1];
}

let codesByText: ReadonlyMap<string, ErrorCode> | undefined;

/** The code whose text this is: how a client turns a received status back into a typed error. */
export function errorCodeOf(text: string): ErrorCode | undefined {
  // Made when first asked for, so that bundles without this function carry no table.
  codesByText ??= new Map(
    (Object.keys(TABLE) as ErrorCode[]).map((code) => [TABLE[code][1], code]),
  );
  return codesByText.get(text);
}
