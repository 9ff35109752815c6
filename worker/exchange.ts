/** What a route of the edge works with, for one request. */
import type { EdgeConfig, EdgeEnv } from "./config.ts";
import type { Grant } from "./auth/grant.ts";
import type { ParameterName } from "./parameters.ts";
import type { Upstream } from "./upstream.ts";

export interface Exchange {
  readonly request: Request;
  readonly config: EdgeConfig;
  readonly env: EdgeEnv;
  readonly upstream: Upstream;
  /** The names that the route's query may hold, as its description says. */
  readonly parameters: readonly ParameterName[];
  /** What the caller may do; undefined on a link whose hello has yet to show its token. */
  readonly grant: Grant | undefined;
}
