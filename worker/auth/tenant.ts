/**
 * Whose lease an id is, without asking anybody: the upper half of a tenant's lease ids is a tag
 * made of the tenant's name, the lower half is random. The edge gives out and accepts only ids
 * that carry the caller's tag, so a tenant can neither renew nor end nor use another's lease.
 *
 *   bit 63  0: ids are positive
 *   bits 62 to 32  the first 31 bits of SHA-256 of "quorate tenant:" and the name, as UTF-8
 *   bits 31 to 0   random, not all zero
 *
 * Two of n tenants share a tag with a chance of about n * n / 2^32; who hands out tenant names
 * decides whether that is little enough.
 */
import { readUint64, utf8 } from "../../shared/base/bytes.ts";
import type { WriteIdentity } from "../../shared/wire/command.ts";

export interface Tenant {
  readonly name: string;
  /** 31 bits. */
  readonly tag: bigint;
}

const RANDOM_BITS = 32n;

export async function tenantOf(name: string): Promise<Tenant> {
  const text = Uint8Array.from(utf8(`quorate tenant:${name}`));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
  const first = readUint64(Uint8Array.of(0, 0, 0, 0, ...digest.subarray(0, 4)), 0);
  return { name, tag: BigInt(first) >> 1n };
}

export function isOwnLease(tenant: Tenant | undefined, id: bigint): boolean {
  return tenant !== undefined && id > 0n && id >> RANDOM_BITS === tenant.tag;
}

/** For a grant that may come again: the same id each time, made of its identity. */
export function newLeaseId(tenant: Tenant, identity?: WriteIdentity): bigint {
  const low = identity === undefined ? randomLow() : lowOf(identity);
  return (tenant.tag << RANDOM_BITS) | BigInt(low === 0 ? 1 : low);
}

function randomLow(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}

/** FNV-1a over the identity, whose client is random already. */
function lowOf({ client, sequence }: WriteIdentity): number {
  let hash = 0x811c9dc5;
  for (const byte of [...client, ...utf8(` ${sequence}`)]) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return hash;
}
