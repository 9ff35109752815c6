/**
 * `quorate/edge`: the edge for Workers of one's own. The standard one is the whole of
 *
 *   export { default, LeaseHub, PeerObject, Replica, StoreEntrypoint } from "quorate/edge";
 *
 * with a wrangler configuration like this project's `wrangler.toml`. An app may instead mount
 * `createApp()` (Hono) among routes of its own.
 */
export { createApp } from "./app.ts";
export { PeerObject } from "./durable/peer-object.ts";
export { default } from "./index.ts";
export { LeaseHub } from "./lease-hub.ts";
export { Replica } from "./replica/replica-object.ts";
export { StoreEntrypoint } from "./store-entrypoint.ts";
