/** The Worker's entry: the app, and the classes of its Durable Objects. */
import { createApp } from "./app.ts";

export { LeaseHub } from "./lease-hub.ts";

export default createApp();
