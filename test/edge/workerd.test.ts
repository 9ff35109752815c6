/** The Worker as it is published, in local workerd. */
import { startWorkerd } from "./edge.ts";
import { proxySuite } from "./proxy-suite.ts";

proxySuite("in workerd", startWorkerd);
