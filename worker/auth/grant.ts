/**
 * What a caller may do: read and write under prefixes of keys, and hold leases of its tenant.
 * Every door (routes, link, gateway, watches, the Worker binding) turns what it is asked into the
 * link's requests and asks here, so that there is one place that says no.
 *
 * A span counts as covered when it lies within one prefix. Compares and previous values are reads.
 * Whoever may write may hold leases. What belongs to the whole store (compaction, members, the
 * list of all leases) is an administrator's.
 */
import { rpcError } from "../../shared/api/errors.ts";
import { compareBytes, prefixEnd } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { Compare, Op, WriteIdentity } from "../../shared/wire/command.ts";
import type { LinkRequest, LinkWatchCreate } from "../../shared/wire/link.ts";
import { HttpError } from "../problem.ts";
import { isOwnLease, newLeaseId } from "./tenant.ts";
import type { Tenant } from "./tenant.ts";

export interface Grant {
  /** Who it is, for limits: a token's subject, or what else tells callers apart. */
  readonly caller: string;
  /** Everything is allowed. */
  readonly admin: boolean;
  /** Prefixes of keys; the empty one covers all. */
  readonly read: readonly Bytes[];
  readonly write: readonly Bytes[];
  /** Whose leases it may use; undefined: none. */
  readonly tenant: Tenant | undefined;
  /** Milliseconds since 1970 after which it is void. */
  readonly expiresAt: number;
}

/** Of who shows the edge's secret, or calls on loopback where there is none. */
export const EVERYTHING: Grant = {
  caller: "",
  admin: true,
  read: [],
  write: [],
  tenant: undefined,
  expiresAt: Number.POSITIVE_INFINITY,
};

/** Throws 401 once the grant is void; asked again by whatever outlives its request's beginning. */
export function checkExpiry(grant: Grant, now: number): void {
  if (now >= grant.expiresAt) throw invalidToken("the token has expired");
}

export function invalidToken(text: string): HttpError {
  const challenge = `Bearer error="invalid_token", error_description="${text}"`;
  return new HttpError(401, text, { "www-authenticate": challenge });
}

interface Span {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
}

/** `rangeEnd` as etcd has it: empty for one key, one zero byte for all from `key` on. */
export function covers(prefixes: readonly Bytes[], { key, rangeEnd }: Span): boolean {
  return prefixes.some((prefix) => {
    if (prefix.length === 0) return true;
    if (!startsWith(key, prefix)) return false;
    if (rangeEnd.length === 0) return true;
    const end = prefixEnd(prefix);
    // Without an end the prefix is the last one of all: what follows a key of it is within it.
    if (end === undefined) return true;
    const open = rangeEnd.length === 1 && rangeEnd[0] === 0;
    return !open && compareBytes(rangeEnd, end) <= 0;
  });
}

function startsWith(key: Bytes, prefix: Bytes): boolean {
  return key.length >= prefix.length && prefix.every((byte, position) => key[position] === byte);
}

/**
 * The request as it may be made (`identity`: its own, if it may come again); throws `permissionDenied`, or
 * `leaseNotFound` for others' leases.
 */
export function admit(grant: Grant, request: LinkRequest, identity?: WriteIdentity): LinkRequest {
  if (grant.admin) return request;
  switch (request.method) {
    case "range":
    case "put":
    case "deleteRange":
    case "txn":
      checkOp(grant, request.op);
      return request;
    case "leaseGrant":
      return { ...request, id: grantableLease(grant, request.id, identity) };
    case "leaseRevoke":
    case "leaseTimeToLive":
      checkLease(grant, request.id);
      return request;
    case "leaseKeepAlive":
      for (const id of request.ids) checkLease(grant, id);
      return request;
    case "status":
      return request;
    case "compact":
    case "leases":
    case "memberList":
      throw rpcError("permissionDenied");
  }
}

export function admitWatch(grant: Grant, create: Pick<LinkWatchCreate, "key" | "rangeEnd">): void {
  demand(grant.admin || covers(grant.read, create));
}

/** Others' leases are as if they were not there. */
export function checkLease(grant: Grant, id: bigint): void {
  if (!grant.admin && !isOwnLease(grant.tenant, id)) throw rpcError("leaseNotFound");
}

function grantableLease(grant: Grant, id: bigint, identity: WriteIdentity | undefined): bigint {
  demand(grant.write.length > 0 && grant.tenant !== undefined);
  if (id === 0n) return newLeaseId(grant.tenant as Tenant, identity);
  demand(isOwnLease(grant.tenant, id));
  return id;
}

function checkOp(grant: Grant, op: Op): void {
  switch (op.kind) {
    case "range":
      demand(covers(grant.read, op));
      return;
    case "put":
      demand(covers(grant.write, { key: op.key, rangeEnd: NO_END }));
      if (op.previousKv) demand(covers(grant.read, { key: op.key, rangeEnd: NO_END }));
      if (op.lease !== 0n) checkLease(grant, op.lease);
      return;
    case "deleteRange":
      demand(covers(grant.write, op));
      if (op.previousKv) demand(covers(grant.read, op));
      return;
    case "txn":
      for (const compare of op.compares) checkCompare(grant, compare);
      for (const each of [...op.success, ...op.failure]) checkOp(grant, each);
  }
}

const NO_END: Bytes = new Uint8Array(0);

function checkCompare(grant: Grant, compare: Compare): void {
  demand(covers(grant.read, compare));
}

function demand(allowed: boolean): void {
  if (!allowed) throw rpcError("permissionDenied");
}
