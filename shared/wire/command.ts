/**
 * What a log entry tells the state machine to do. Everything that depends on size, clock, chance or
 * configuration was resolved before the proposal (lease ids, effective ttls, checks of sizes):
 * apply sees only the entry and the replicated state. The codec (`command-codec.ts`) owns the byte
 * layout and its version.
 */
import type { Bytes } from "../base/bytes.ts";

export type CompareTarget = "version" | "create" | "mod" | "value" | "lease";
export type CompareResult = "equal" | "greater" | "less" | "notEqual";

/**
 * `operand`: bytes for "value", else a signed 64-bit number (compares are exact, so it stays a
 * bigint).
 */
export interface Compare {
  readonly target: CompareTarget;
  readonly result: CompareResult;
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  readonly operand: Bytes | bigint;
}

export interface PutOp {
  readonly kind: "put";
  readonly key: Bytes;
  readonly value: Bytes;
  readonly lease: bigint;
  readonly previousKv: boolean;
  readonly ignoreValue: boolean;
  readonly ignoreLease: boolean;
}

export interface DeleteRangeOp {
  readonly kind: "deleteRange";
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  readonly previousKv: boolean;
}

/**
 * Field for field mvcc's `RangeQuery`: wire must not import mvcc, so the types agree by structure.
 */
export interface RangeOp {
  readonly kind: "range";
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  readonly revision: number;
  readonly limit: number;
  readonly sortOrder: "none" | "ascend" | "descend";
  readonly sortTarget: "key" | "version" | "create" | "mod" | "value";
  readonly keysOnly: boolean;
  readonly countOnly: boolean;
  readonly minModRevision: number;
  readonly maxModRevision: number;
  readonly minCreateRevision: number;
  readonly maxCreateRevision: number;
}

export interface TxnOp {
  readonly kind: "txn";
  readonly compares: readonly Compare[];
  readonly success: readonly Op[];
  readonly failure: readonly Op[];
}

export type Op = PutOp | DeleteRangeOp | RangeOp | TxnOp;

export type Command =
  | PutOp
  | DeleteRangeOp
  | TxnOp
  | { readonly kind: "compact"; readonly revision: number }
  | { readonly kind: "leaseGrant"; readonly id: bigint; readonly ttlSeconds: number }
  | {
      /**
       * `term`: set for expiry; apply drops the entry in another term. A client's revoke: one id,
       * no term.
       */
      readonly kind: "leaseRevoke";
      readonly ids: readonly bigint[];
      readonly term: number | undefined;
    }
  | {
      readonly kind: "alarm";
      readonly action: "activate" | "deactivate";
      readonly member: bigint;
      readonly alarm: "nospace" | "corrupt";
    }
  | {
      /** A started member publishes its name and client URLs. */
      readonly kind: "memberAttributes";
      readonly member: bigint;
      readonly name: string;
      readonly clientUrls: readonly string[];
    }
  /** The least version that all members speak; new command kinds wait for it. */
  | { readonly kind: "clusterVersion"; readonly version: string }
  | MemberCommand;

/**
 * A change of the members. These alone are carried by raft's `membership` entries, one an entry, so
 * that only one is under way at a time.
 */
export type MemberCommand =
  | MemberStep
  | {
      readonly kind: "memberUpdate";
      readonly member: bigint;
      readonly peerUrls: readonly string[];
    }
  /** All steps at once, or none of them; each is of another member. */
  | { readonly kind: "memberChange"; readonly steps: readonly MemberStep[] };

export type MemberStep =
  | {
      readonly kind: "memberAdd";
      readonly member: bigint;
      readonly peerUrls: readonly string[];
      readonly isLearner: boolean;
      /** Learners that the proposer's configuration allows: apply must not look at its own. */
      readonly learnersMax: number;
    }
  | { readonly kind: "memberRemove"; readonly member: bigint }
  /** A learner gets a vote. */
  | { readonly kind: "memberPromote"; readonly member: bigint };

/**
 * Who proposed, so that the proposer, and only it, finds the waiting call at apply. Unique per
 * member and start.
 */
export interface RequestId {
  readonly member: bigint;
  /** Random per start of the member. */
  readonly incarnation: number;
  readonly sequence: number;
}

/**
 * Identity of a write that its client may send again; `write-table.ts` in peer/state acts on it.
 */
export interface WriteIdentity {
  /** 1 to `dedupClientBytesMax` bytes, unique: random. One write of it is under way at a time. */
  readonly client: Bytes;
  /** Grows from each write of the client to the next. */
  readonly sequence: number;
  /** A log index that was applied somewhere before the write was first sent. */
  readonly floor: number;
}

/** The data of a log entry. */
export interface LogCommand {
  readonly request: RequestId | undefined;
  readonly identity: WriteIdentity | undefined;
  readonly command: Command;
}
