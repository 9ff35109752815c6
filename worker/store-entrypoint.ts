/**
 * The store as a service binding, for other Workers of the account:
 *
 *   # wrangler.toml of the other Worker
 *   [[services]]
 *   binding = "STORE"
 *   service = "quorate-edge"
 *   entrypoint = "StoreEntrypoint"
 *   props = { read = ["config/"], write = ["config/app/"], tenant = "app" }   # left out: everything
 *
 *   const entry = await env.STORE.get("config/greeting"); // entry?.value === "hello"
 *
 * One call is one RPC and one message to a peer. Keys and values are text or bytes; what comes back
 * is plain data. A failed call throws an Error whose message is etcd's text. What lasts (watches,
 * leases that keep themselves) is the client's: `connect({ edge: env.EDGE })` over a binding of the
 * default entrypoint.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import { utf8 } from "../shared/base/bytes.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { Consistency } from "../shared/client/consistency.ts";
import type { Selector } from "../shared/client/keys.ts";
import { compare, put } from "../shared/client/operations.ts";
import { text } from "../shared/client/values.ts";
import type { Entry } from "../shared/client/values.ts";
import type { Store } from "../shared/client/store.ts";
import { EVERYTHING } from "./auth/grant.ts";
import type { Grant } from "./auth/grant.ts";
import { tenantOf } from "./auth/tenant.ts";
import { configOf } from "./config.ts";
import type { EdgeEnv } from "./config.ts";
import { Upstream, storeOver } from "./upstream.ts";

/** What a binding may do; prefixes of keys. */
export interface StoreProps {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly tenant?: string;
}

export interface StoredEntry {
  readonly key: string;
  /** As text; bytes that are no UTF-8 are told by `bytes` alone. */
  readonly value: string;
  readonly bytes: Bytes;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  readonly lease: bigint;
}

export interface StoreReadOptions {
  readonly consistency?: Consistency;
  readonly revision?: number;
  readonly limit?: number;
}

export class StoreEntrypoint extends WorkerEntrypoint<EdgeEnv, StoreProps | undefined> {
  /** Undefined: there is no such key. */
  async get(key: string | Bytes, options: StoreReadOptions = {}): Promise<StoredEntry | undefined> {
    const entry = await (await this.#store()).get(key, options);
    return entry === undefined ? undefined : plain(entry);
  }

  async list(
    selector: Selector,
    options: StoreReadOptions = {},
  ): Promise<{ entries: StoredEntry[]; count: number; more: boolean; revision: number }> {
    const { entries, ...rest } = await (await this.#store()).list(selector, options);
    return { entries: entries.map(plain), ...rest };
  }

  async put(
    key: string | Bytes,
    value: string | Bytes,
    options: { readonly lease?: bigint } = {},
  ): Promise<{ revision: number }> {
    const { revision } = await (await this.#store()).put(key, bytesOf(value), options);
    return { revision };
  }

  /**
   * Puts the value if the key was last changed at `modRevision` (0: if there is no such key);
   * `succeeded` tells whether it was.
   */
  async compareAndSet(
    key: string | Bytes,
    modRevision: number,
    value: string | Bytes,
  ): Promise<{ succeeded: boolean; revision: number }> {
    const store = await this.#store();
    const { succeeded, revision } = await store.txn({
      if: [compare(key, "mod", "=", modRevision)],
      do: [put(key, bytesOf(value))],
      else: [],
    });
    return { succeeded, revision };
  }

  async delete(selector: Selector): Promise<{ deleted: number; revision: number }> {
    const { deleted, revision } = await (await this.#store()).delete(selector);
    return { deleted, revision };
  }

  /** A lease of so many seconds; who holds it renews it by `keepAlive`. */
  async grantLease(ttlSeconds: number): Promise<{ id: bigint; ttlSeconds: number }> {
    const ttl = BigInt(ttlSeconds);
    const request = { method: "leaseGrant", id: 0n, ttlSeconds: ttl } as const;
    const answer = await (await this.#upstream()).call(request);
    return { id: answer.id, ttlSeconds: answer.ttlSeconds };
  }

  /** The seconds that the lease has from when this was called; 0: it is gone. */
  async keepAlive(id: bigint): Promise<number> {
    const upstream = await this.#upstream();
    const { ttlSeconds } = await upstream.call({ method: "leaseKeepAlive", ids: [id] });
    return ttlSeconds[0] ?? 0;
  }

  async revokeLease(id: bigint): Promise<void> {
    await (await this.#upstream()).call({ method: "leaseRevoke", id });
  }

  async #upstream(): Promise<Upstream> {
    return new Upstream(configOf(this.env), await grantOf(this.ctx.props));
  }

  async #store(): Promise<Store<Bytes>> {
    return storeOver(await this.#upstream());
  }
}

/** A binding is configured by who deploys: without props it may do everything. */
async function grantOf(props: StoreProps | undefined): Promise<Grant> {
  const { read, write, tenant } = props ?? {};
  if (read === undefined && write === undefined && tenant === undefined) return EVERYTHING;
  return {
    caller: `binding ${tenant ?? ""}`,
    admin: false,
    read: (read ?? []).map(utf8),
    write: (write ?? []).map(utf8),
    tenant: tenant === undefined ? undefined : await tenantOf(tenant),
    expiresAt: Number.POSITIVE_INFINITY,
  };
}

function bytesOf(value: string | Bytes): Bytes {
  return typeof value === "string" ? utf8(value) : value;
}

function plain(entry: Entry<Bytes>): StoredEntry {
  const { key, bytes, createRevision, modRevision, version, lease } = entry;
  return { key, value: text.decode(bytes), bytes, createRevision, modRevision, version, lease };
}
