/**
 * Quorate's TypeScript client, for Node, browsers and Workers.
 *
 *   const store = connect({ endpoints: ["http://127.0.0.1:2379"] });
 *   await store.put("greeting", "hello");
 *   const entry = await store.get("greeting"); // entry?.value === "hello"
 *   for await (const event of store.watch({ prefix: "config/" })) console.log(event.key);
 *   await store.txn().if(key("k").isMissing()).do(put("k", "v")).commit();
 *   await using lease = await store.lease({ ttl: 10 });
 *   await store.put("workers/me", "up", { lease });
 *
 * `connect` opens nothing by itself: the first call does.
 */
import { RpcError } from "../api/errors.ts";
import { LINK_LIMITS as LIMITS } from "../base/link-limits.ts";
import { Endpoints } from "./endpoints.ts";
import { KeySpace, keyBytes } from "./keys.ts";
import type { Key } from "./keys.ts";
import { LeaseKeeper } from "./lease.ts";
import { LinkCaller } from "./link-caller.ts";
import { defaultPlatform } from "./platform.ts";
import type { ClientPlatform } from "./platform.ts";
import { PostCaller } from "./post-caller.ts";
import { Store } from "./store.ts";
import { text } from "./values.ts";
import { WriteLanes } from "./write-lanes.ts";

export { RpcError } from "../api/errors.ts";
export type { ErrorCode, Outcome, StatusName } from "../api/errors.ts";
export type { CallOptions } from "./caller.ts";
export type { Consistency } from "./consistency.ts";
export type { Key, Selector } from "./keys.ts";
export type { Lease, LeaseOptions } from "./lease.ts";
export { compare, get, key, nested, put, remove } from "./operations.ts";
export type {
  CompareSign,
  Condition,
  GetResult,
  KeyConditions,
  Operation,
  OperationResult,
  PutOptions,
  PutResult,
  RangeOptions,
  RemoveResult,
  Transaction,
} from "./operations.ts";
export type { ClientPlatform, FetchLike, SocketLike } from "./platform.ts";
export { Store } from "./store.ts";
export type { Listing, ReadOptions } from "./store.ts";
export { TxnBuilder } from "./txn.ts";
export type { TxnResult } from "./txn.ts";
export { Entry, ValueError, bytes, json, schema, text } from "./values.ts";
export type { Codec, SchemaIssue, StandardSchema } from "./values.ts";
export { CompactedError, Watch } from "./watch.ts";
export type { WatchEvent, WatchOptions } from "./watch.ts";

export interface ConnectOptions {
  /** Base URLs of peers; calls fail over between them. */
  readonly endpoints?: readonly string[] | undefined;
  /** The base URL of an edge worker, instead of peers. */
  readonly edge?: string | undefined;
  /** The secret that peers or edge ask for, if they do. */
  readonly token?: string | undefined;
  /** A prefix of all keys, added and hidden. */
  readonly namespace?: Key | undefined;
  /** The deadline of calls that name none. */
  readonly timeoutMilliseconds?: number | undefined;
  /** "post": one HTTP request a call, no watches, for places where no socket may stay open. */
  readonly transport?: "socket" | "post" | undefined;
  /** Replaces parts of the runtime: WebSocket, fetch, clock. */
  readonly platform?: Partial<ClientPlatform> | undefined;
}

export function connect(options: ConnectOptions): Store<string> {
  const { endpoints, edge, token, namespace, transport } = options;
  if ((endpoints === undefined) === (edge === undefined)) {
    throw new RpcError("invalidArgument", "connect takes either `endpoints` or `edge`");
  }
  const platform: ClientPlatform = { ...defaultPlatform(), ...options.platform };
  const lanes = new WriteLanes((count) => platform.randomBytes(count));
  const callerOptions = {
    lanes,
    endpoints: new Endpoints(edge === undefined ? (endpoints ?? []) : [edge]),
    platform,
    role: "client",
    token: token ?? "",
    timeoutMilliseconds: options.timeoutMilliseconds ?? LIMITS.clientTimeoutMilliseconds,
  } as const;
  const caller =
    transport === "post" ? new PostCaller(callerOptions) : new LinkCaller(callerOptions);
  const leases = new LeaseKeeper(caller, platform);
  const space = new KeySpace(namespace === undefined ? undefined : keyBytes(namespace));
  return new Store({ caller, platform, leases }, { space, codec: text });
}
