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
 * is plain data. A failed call throws an Error whose message is etcd's text. Leases that keep
 * themselves, locks and the rest are the client's: `connect({ fetcher: env.EDGE })` over a binding
 * of the default entrypoint.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import { utf8 } from "../shared/base/bytes.ts";
import type { Bytes } from "../shared/base/bytes.ts";
import type { Consistency } from "../shared/client/consistency.ts";
import type { Selector } from "../shared/client/keys.ts";
import { compare, put } from "../shared/client/operations.ts";
import type { Store } from "../shared/client/store.ts";
import { EVERYTHING } from "./auth/grant.ts";
import type { Grant } from "./auth/grant.ts";
import { tenantOf } from "./auth/tenant.ts";
import { configOf } from "./config.ts";
import type { EdgeEnv } from "./config.ts";
import { StoreWatch } from "./store-watch.ts";
import { storedEntry } from "./stored.ts";
import type { StoredEntry } from "./stored.ts";
import { Upstream, storeOver } from "./upstream.ts";
import { carry } from "./watch-carrier.ts";
import type { Carried } from "./watch-carrier.ts";
import { positionOf } from "./watch-feed.ts";

/** What a binding may do; prefixes of keys. */
export interface StoreProps {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly tenant?: string;
}

export interface StoreReadOptions {
  readonly consistency?: Consistency;
  readonly revision?: number;
  readonly limit?: number;
}

export interface StoreWatchOptions {
  /** The first revision wanted; by default what comes after now. */
  readonly fromRevision?: number;
  /** The id of an event: what comes after it. */
  readonly after?: string;
  /** Events name what was there before. */
  readonly previous?: boolean;
  readonly only?: "put" | "delete";
}

export class StoreEntrypoint extends WorkerEntrypoint<EdgeEnv, StoreProps | undefined> {
  /** Undefined: there is no such key. */
  async get(key: string | Bytes, options: StoreReadOptions = {}): Promise<StoredEntry | undefined> {
    const entry = await (await this.#store()).get(key, options);
    return entry === undefined ? undefined : storedEntry(entry);
  }

  async list(
    selector: Selector,
    options: StoreReadOptions = {},
  ): Promise<{ entries: StoredEntry[]; count: number; more: boolean; revision: number }> {
    const { entries, ...rest } = await (await this.#store()).list(selector, options);
    return { entries: entries.map(storedEntry), ...rest };
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

  /**
   * What happens from now on, or from a revision on, each change once and in order:
   * `for await (const event of watched(env.STORE.watch({ prefix: "config/" })))`, with `watched` of
   * quorate/client. A watch that broke goes on `after` the last event's id.
   */
  async watch(selector: Selector, options: StoreWatchOptions = {}): Promise<StoreWatch> {
    const { after, fromRevision, previous, only } = options;
    const since = fromRevision === undefined ? undefined : { revision: fromRevision, delivered: 0 };
    const carried: Carried = {
      config: configOf(this.env),
      upstream: await this.#upstream(),
      selector,
      watch: { previous, only },
      timeoutMilliseconds: undefined,
      encoding: "utf8",
      start: after === undefined ? since : positionOf(after),
      grant: undefined,
    };
    return carry(carried, { make: (parts) => new StoreWatch(parts), end: StoreWatch.end });
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
