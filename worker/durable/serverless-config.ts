/** The settings of a cluster whose voters are Durable Objects. */
import { RpcError } from "../../shared/api/errors.ts";
import type { HostedEnv } from "./hosted-members.ts";
import type { PeerStub } from "./stub-transport.ts";

/** What the Worker of a serverless cluster is told. */
export interface ServerlessEnv extends HostedEnv {
  /** Peers in Durable Objects: with this binding QUORATE_PEERS is not needed. */
  readonly PEER?: { getByName(name: string): PeerStub & { fetch: typeof fetch } };
  readonly QUORATE_CLUSTER?: string;
  readonly QUORATE_VOTERS?: string;
  /** Milliseconds between heartbeats; elections take ten times as long. */
  readonly QUORATE_TICK_MS?: string;
  /** Refused: leases rest on a clock that never stands still, which Durable Objects don't have. */
  readonly QUORATE_LEASE_READS?: string;
}

export interface ServerlessConfig {
  /** The cluster's name: another name is another, empty cluster. */
  readonly cluster: string;
  readonly voters: number;
  readonly tickMilliseconds: number;
}

/** Each tick is a call to every other voter, and paid for: fewer than on Node. */
const TICK_MILLISECONDS = 250;
const VOTERS_MAX = 7;

export function serverlessOf(env: ServerlessEnv): ServerlessConfig {
  const voters = Number(env.QUORATE_VOTERS || "3");
  if (!Number.isInteger(voters) || voters < 1 || voters > VOTERS_MAX) {
    throw new RpcError("failedPrecondition", `QUORATE_VOTERS is a number from 1 to ${VOTERS_MAX}`);
  }
  const tickMilliseconds = tickOf(env, TICK_MILLISECONDS);
  if (env.QUORATE_LEASE_READS) {
    throw new RpcError(
      "failedPrecondition",
      "QUORATE_LEASE_READS can't be had: Durable Objects have no clock that a lease may trust; their reads ask the other voters",
    );
  }
  const cluster = env.QUORATE_CLUSTER || "quorate";
  if (!/^[\w.-]{1,100}$/.test(cluster)) {
    throw new RpcError(
      "failedPrecondition",
      `QUORATE_CLUSTER is "${cluster}": letters, digits, ".", "_" and "-" make a name`,
    );
  }
  return { cluster, voters, tickMilliseconds };
}

/** Milliseconds of a tick; `usual` where nothing is said. */
export function tickOf({ QUORATE_TICK_MS }: ServerlessEnv, usual: number): number {
  const tickMilliseconds = Number(QUORATE_TICK_MS || String(usual));
  if (!Number.isInteger(tickMilliseconds) || tickMilliseconds < 10 || tickMilliseconds > 10_000) {
    throw new RpcError("failedPrecondition", "QUORATE_TICK_MS is a number from 10 to 10000");
  }
  return tickMilliseconds;
}

/** The base URLs under which the edge finds the voters; their host is no address. */
export function voterUrls({ cluster, voters }: ServerlessConfig): string[] {
  return Array.from({ length: voters }, (_, place) => `http://voter/${cluster}/${place}`);
}

/** The voter's name in such a URL; undefined: it is another URL. */
export function voterNameOf(url: string): string | undefined {
  const match = /^(?:http|ws):\/\/voter\/([^/]+)\/(\d+)\//.exec(url);
  return match === null ? undefined : `${match[1]}/${match[2]}`;
}
