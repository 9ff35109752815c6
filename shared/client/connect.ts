/** `connect`: from options to a `Store` over the caller that fits. Opens nothing by itself. */
import { RpcError } from "../api/errors.ts";
import * as LIMITS from "../base/link-limits.ts";
import { SessionMark } from "./consistency.ts";
import { Endpoints } from "./endpoints.ts";
import { FETCHER_URL, fetcherPlatform } from "./fetcher.ts";
import type { Fetcher } from "./fetcher.ts";
import { KeySpace, keyBytes } from "./keys.ts";
import type { Key } from "./keys.ts";
import { LeaseKeeper } from "./lease.ts";
import { LinkCaller } from "./link-caller.ts";
import { defaultPlatform, isWorkerd } from "./platform.ts";
import type { ClientPlatform } from "./platform.ts";
import { PostCaller } from "./post-caller.ts";
import { Store } from "./store.ts";
import { text } from "./values.ts";
import { WriteLanes } from "./write-lanes.ts";

export interface ConnectOptions {
  /** Base URLs of peers; calls fail over between them. */
  readonly endpoints?: readonly string[] | undefined;
  /** The base URL of an edge worker, instead of peers. */
  readonly edge?: string | undefined;
  /** A service binding to the edge, instead of either: `connect({ fetcher: env.STORE })`. */
  readonly fetcher?: Fetcher | undefined;
  /** The secret or token that peers or edge ask for, if they do. */
  readonly token?: string | undefined;
  /** A prefix of all keys, added and hidden. */
  readonly namespace?: Key | undefined;
  /** The deadline of calls that name none. */
  readonly timeoutMilliseconds?: number | undefined;
  /**
   * "socket": one WebSocket for everything. "post": one HTTP request a call, and a WebSocket for
   * each watch, where none may stay open between requests; that is the default in Workers.
   */
  readonly transport?: "socket" | "post" | undefined;
  /** From another client's `sessionToken`: session reads see at least what it has seen. */
  readonly sessionToken?: string | undefined;
  /** Replaces parts of the runtime: WebSocket, fetch, clock. */
  readonly platform?: Partial<ClientPlatform> | undefined;
}

export function connect(options: ConnectOptions): Store<string> {
  const { endpoints, edge, fetcher, token, namespace } = options;
  const given = [endpoints, edge, fetcher].filter((each) => each !== undefined);
  if (given.length !== 1) {
    throw new RpcError("invalidArgument", "name one of endpoints, edge and fetcher");
  }
  const binding = fetcher === undefined ? {} : fetcherPlatform(fetcher);
  const platform: ClientPlatform = { ...defaultPlatform(), ...binding, ...options.platform };
  const callerOptions = {
    lanes: new WriteLanes((count) => platform.randomBytes(count)),
    endpoints: new Endpoints(endpoints ?? [edge ?? FETCHER_URL]),
    platform,
    role: "client",
    token: token ?? "",
    timeoutMilliseconds: options.timeoutMilliseconds ?? LIMITS.clientTimeoutMilliseconds,
  } as const;
  const transport = options.transport ?? (isWorkerd() ? "post" : "socket");
  const caller =
    transport === "post" ? new PostCaller(callerOptions) : new LinkCaller(callerOptions);
  const leases = new LeaseKeeper(caller, platform);
  const session = new SessionMark();
  if (options.sessionToken !== undefined) session.join(options.sessionToken);
  const space = new KeySpace(namespace === undefined ? undefined : keyBytes(namespace));
  return new Store({ caller, platform, leases, session }, { space, codec: text });
}
