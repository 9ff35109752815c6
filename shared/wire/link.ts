/**
 * The link protocol's vocabulary: what a TypeScript client or the edge says to a peer, and what it
 * answers. The same frames travel over WebSocket (binary messages, each one batch of frames; calls
 * are pipelined, watch responses are pushed) and over HTTP POST (one batch in, one out, no push).
 * `link-codec.ts` owns the byte layout and the version.
 *
 * A session begins with one `hello`; the peer answers `welcome`, or `bye` and closes. Calls carry
 * an id of the caller's choice that is not in use; each is answered once, by `result` or `error`,
 * in any order. A frame that breaks the protocol is answered with `bye` and the close of the link.
 */
import type { Bytes } from "../base/bytes.ts";
import type { DeleteRangeOp, PutOp, RangeOp, TxnOp, WriteIdentity } from "./command.ts";

/**
 * Raised when frames change in a way that old ends can't read; decoders ignore items that they
 * don't know at a frame's end.
 */
export const LINK_VERSION = 1;

/** Who speaks: an app, or the edge on behalf of many. */
export type LinkRole = "client" | "edge";

/** Cluster and member stand in the welcome; answers carry what changes. */
export interface LinkHeader {
  readonly revision: number;
  readonly raftTerm: number;
}

/** Field for field mvcc's `KeyValue`: wire must not import mvcc, so the types agree by structure. */
export interface LinkKeyValue {
  readonly key: Bytes;
  readonly value: Bytes;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly lease: bigint;
}

export interface LinkRangeResult {
  readonly kvs: readonly LinkKeyValue[];
  readonly count: number;
  readonly more: boolean;
}

/** One operation's result inside a transaction. `revision`: the store's revision at that point. */
export type LinkOpResult =
  | {
      readonly kind: "put";
      readonly revision: number;
      readonly previous: LinkKeyValue | undefined;
    }
  | {
      readonly kind: "deleteRange";
      readonly revision: number;
      readonly deleted: number;
      readonly previous: readonly LinkKeyValue[];
    }
  | { readonly kind: "range"; readonly revision: number; readonly result: LinkRangeResult }
  | {
      readonly kind: "txn";
      readonly succeeded: boolean;
      readonly results: readonly LinkOpResult[];
    };

/** What a serializable read demands of the state that answers it; a linearizable one is asked else. */
export interface Freshness {
  /** The store's revision, at least: what the caller has seen before. */
  readonly atLeastRevision?: number | undefined;
  /** How far the state may lie behind the cluster, by the peer's clock. */
  readonly maxAgeMilliseconds?: number | undefined;
}

/** Each method's request and answer. */
export interface LinkMethods {
  range: {
    request: {
      readonly op: RangeOp;
      readonly serializable: boolean;
      readonly fresh?: Freshness | undefined;
    };
    /** `ageMilliseconds`: of the state that answered, at most; undefined: not known. */
    answer: LinkRangeResult & { readonly ageMilliseconds?: number | undefined };
  };
  put: { request: { readonly op: PutOp }; answer: { readonly previous: LinkKeyValue | undefined } };
  deleteRange: {
    request: { readonly op: DeleteRangeOp };
    answer: { readonly deleted: number; readonly previous: readonly LinkKeyValue[] };
  };
  txn: {
    request: { readonly op: TxnOp; readonly serializable: boolean };
    answer: { readonly succeeded: boolean; readonly results: readonly LinkOpResult[] };
  };
  compact: {
    request: { readonly revision: number; readonly physical: boolean };
    answer: unknown;
  };
  leaseGrant: {
    /** `id` 0n: the peer chooses. */
    request: { readonly id: bigint; readonly ttlSeconds: bigint };
    answer: { readonly id: bigint; readonly ttlSeconds: number };
  };
  leaseRevoke: { request: { readonly id: bigint }; answer: unknown };
  leaseKeepAlive: {
    request: { readonly ids: readonly bigint[] };
    /** One per id, in order; 0: unknown or expired. */
    answer: { readonly ttlSeconds: readonly number[] };
  };
  leaseTimeToLive: {
    request: { readonly id: bigint; readonly keys: boolean };
    answer: {
      readonly ttlSeconds: number;
      readonly grantedTtlSeconds: number;
      readonly keys: readonly Bytes[];
    };
  };
  leases: { request: unknown; answer: { readonly ids: readonly bigint[] } };
  memberList: {
    request: { readonly linearizable: boolean };
    answer: { readonly members: readonly LinkMember[] };
  };
  status: { request: unknown; answer: LinkStatus };
}

export type LinkMethod = keyof LinkMethods;

export interface LinkMember {
  readonly id: bigint;
  /** Empty until the member has started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

export interface LinkStatus {
  readonly leader: bigint;
  readonly raftIndex: number;
  readonly raftAppliedIndex: number;
  readonly dbSize: number;
  readonly dbSizeInUse: number;
  readonly dbSizeQuota: number;
  readonly isLearner: boolean;
  /** Texts as etcd's Status gives them: no leader, alarms. */
  readonly errors: readonly string[];
}

export type LinkRequestOf<Method extends LinkMethod> = {
  readonly method: Method;
} & LinkMethods[Method]["request"];

export type LinkAnswerOf<Method extends LinkMethod> = {
  readonly method: Method;
  readonly header: LinkHeader;
} & LinkMethods[Method]["answer"];

/** A method with its request. */
export type LinkRequest = { [Method in LinkMethod]: LinkRequestOf<Method> }[LinkMethod];

/** A method with its answer. */
export type LinkAnswer = { [Method in LinkMethod]: LinkAnswerOf<Method> }[LinkMethod];

export interface LinkFailure {
  /** gRPC's status by its name in `api/errors.ts`. */
  readonly status: string;
  readonly message: string;
  /** The error table's name, when it is one of the table's. */
  readonly code: string | undefined;
  readonly outcome: "none" | "unknown";
  /** Repeating may succeed and does no harm. */
  readonly retryable: boolean;
}

export interface LinkWatchCreate {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  /** 0: after the current one; negative: refused as compacted. */
  readonly startRevision: number;
  readonly progressNotify: boolean;
  readonly noPut: boolean;
  readonly noDelete: boolean;
  readonly previousKv: boolean;
  /** 0n: the stream chooses. */
  readonly watchId: bigint;
  readonly fragment: boolean;
}

export interface LinkEvent {
  readonly type: "put" | "delete";
  readonly kv: LinkKeyValue;
  readonly previous: LinkKeyValue | undefined;
}

export interface LinkWatchResponse {
  readonly header: LinkHeader;
  /** -1n: of the whole stream (an answer to a progress request), or of a create that failed. */
  readonly watchId: bigint;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: number;
  readonly cancelReason: string;
  readonly fragment: boolean;
  readonly events: readonly LinkEvent[];
}

/**
 * What the caller's side sends. `stream`: the caller's number for a watch stream; it may hold many
 * watches.
 */
export type LinkCallFrame =
  | {
      readonly kind: "hello";
      readonly version: number;
      readonly role: LinkRole;
      readonly token: string;
    }
  | {
      readonly kind: "call";
      readonly id: number;
      /** 0: the peer's own limit alone. */
      readonly timeoutMilliseconds: number;
      readonly requireLeader: boolean;
      readonly request: LinkRequest;
      /** Of a write that may be sent again: it applies once, however often it arrives. */
      readonly identity?: WriteIdentity | undefined;
    }
  | { readonly kind: "cancel"; readonly id: number }
  | { readonly kind: "watchOpen"; readonly stream: number; readonly requireLeader: boolean }
  | { readonly kind: "watchCreate"; readonly stream: number; readonly create: LinkWatchCreate }
  | { readonly kind: "watchCancel"; readonly stream: number; readonly watchId: bigint }
  | { readonly kind: "watchProgress"; readonly stream: number }
  | { readonly kind: "watchClose"; readonly stream: number };

/** The answer to hello. */
export interface LinkWelcome {
  readonly kind: "welcome";
  readonly version: number;
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** The last log index that the peer has applied: a floor for writes that begin now. */
  readonly appliedIndex: number;
}

/** What the peer's side sends. */
export type LinkReplyFrame =
  | LinkWelcome
  | { readonly kind: "result"; readonly id: number; readonly answer: LinkAnswer }
  | { readonly kind: "error"; readonly id: number; readonly failure: LinkFailure }
  | {
      readonly kind: "watchResponse";
      readonly stream: number;
      readonly response: LinkWatchResponse;
    }
  | { readonly kind: "watchEnd"; readonly stream: number; readonly failure: LinkFailure }
  /** The last frame of a link that the peer closes. */
  | { readonly kind: "bye"; readonly failure: LinkFailure };
