/** The Worker's entry: the app, and the classes of its Durable Objects. */
import { createApp } from "./app.ts";

export { PeerObject } from "./durable/peer-object.ts";
export { LeaseHub } from "./lease-hub.ts";
export { Replica } from "./replica/replica-object.ts";
export { StoreEntrypoint } from "./store-entrypoint.ts";

export default createApp();
