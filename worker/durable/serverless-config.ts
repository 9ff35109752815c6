/** The settings of a cluster whose voters are Durable Objects. */
import { RpcError } from "../../shared/api/errors.ts";
import type { EdgeEnv } from "../config.ts";

export interface ServerlessConfig {
  /** The cluster's name: another name is another, empty cluster. */
  readonly cluster: string;
  readonly voters: number;
  readonly tickMilliseconds: number;
}

/** Each tick is a call to every other voter, and paid for: fewer than on Node. */
const TICK_MILLISECONDS = 250;
const VOTERS_MAX = 7;

export function serverlessOf(env: EdgeEnv): ServerlessConfig {
  const voters = Number(env.QUORATE_VOTERS || "3");
  if (!Number.isInteger(voters) || voters < 1 || voters > VOTERS_MAX) {
    throw new RpcError("failedPrecondition", `QUORATE_VOTERS is a number from 1 to ${VOTERS_MAX}`);
  }
  const tickMilliseconds = Number(env.QUORATE_TICK_MS || String(TICK_MILLISECONDS));
  if (!Number.isInteger(tickMilliseconds) || tickMilliseconds < 10 || tickMilliseconds > 10_000) {
    throw new RpcError("failedPrecondition", "QUORATE_TICK_MS is a number from 10 to 10000");
  }
  return { cluster: env.QUORATE_CLUSTER || "quorate", voters, tickMilliseconds };
}

/** The base URLs under which the edge finds the voters; their host is no address. */
export function voterUrls({ cluster, voters }: ServerlessConfig): string[] {
  return Array.from({ length: voters }, (_, place) => `http://voter/${cluster}/${place}`);
}

/** The voter's name in such a URL; undefined: it is another URL. */
export function voterNameOf(url: string): string | undefined {
  const match = /^(?:http|ws):\/\/voter\/(.+)\/(\d+)\/[^/]*$/.exec(url);
  return match === null ? undefined : `${match[1]}/${match[2]}`;
}
