/** The edge's app on Node, without Durable Objects: renewals go to the peers one by one. */
import { startOnNode } from "./edge.ts";
import { proxySuite } from "./proxy-suite.ts";

proxySuite("on Node", startOnNode);
