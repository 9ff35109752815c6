/** What a route of the edge works with, for one request. */
import type { EdgeConfig, EdgeEnv } from "./config.ts";
import type { Upstream } from "./upstream.ts";

export interface Exchange {
  readonly request: Request;
  readonly config: EdgeConfig;
  readonly env: EdgeEnv;
  readonly upstream: Upstream;
}
