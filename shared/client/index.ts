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
export { RpcError } from "../api/errors.ts";
export type { ErrorCode, Outcome, StatusName } from "../api/errors.ts";
export type { CallOptions } from "./caller.ts";
export { connect } from "./connect.ts";
export type { ConnectOptions } from "./connect.ts";
export type { Consistency } from "./consistency.ts";
export type { Fetcher } from "./fetcher.ts";
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
export { watched } from "./watched.ts";
export type { BoundWatch } from "./watched.ts";
export * from "./recipes/index.ts";
