/**
 * A session: one lease that several locks, elections and registrations of a process share, as in
 * etcd's concurrency package. When it is lost, all that hangs on it is.
 */
import type { RpcError } from "../../api/errors.ts";
import type { Lease } from "../lease.ts";
import type { Store } from "../store.ts";
import { text } from "../values.ts";
import type { Codec } from "../values.ts";

/** A store of whatever values: recipes choose their own. */
export interface AnyStore {
  as<Value>(codec: Codec<Value>): Store<Value>;
}

export interface SessionOptions {
  /** Seconds; how long the cluster waits for a holder that fell silent. 10 by default. */
  readonly ttl?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What recipes take: a session of the caller's, or how to open one of their own. */
export interface HoldOptions {
  /** Shared with others. Without it, each holding has a session of its own, which ends with it. */
  readonly session?: Session | undefined;
  readonly ttl?: number | undefined;
}

const TTL_SECONDS = 10;

export class Session implements AsyncDisposable {
  readonly lease: Lease;

  constructor(lease: Lease) {
    this.lease = lease;
  }

  /** The lease's id as etcd's concurrency package writes it into keys. */
  get name(): string {
    return this.lease.id.toString(16);
  }

  /** Aborts before the cluster can have taken anything of the session away. */
  get signal(): AbortSignal {
    return this.lease.signal;
  }

  get lost(): Promise<RpcError> {
    return this.lease.lost;
  }

  /** Ends it, and everything that hangs on it. */
  close(): Promise<void> {
    return this.lease.revoke();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export async function openSession(store: AnyStore, options: SessionOptions = {}): Promise<Session> {
  const { ttl = TTL_SECONDS, signal } = options;
  return new Session(await store.as(text).lease({ ttl, signal }));
}
