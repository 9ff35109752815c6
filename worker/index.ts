/** The Worker's entry: the app, and the classes of its Durable Objects. */
import { createApp } from "./app.ts";

export { PeerObject } from "./durable/peer-object.ts";
export { LeaseHub } from "./lease-hub.ts";

export default createApp();
