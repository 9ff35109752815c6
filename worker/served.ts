/**
 * What an answer says of itself: who served it, at which revision and term, how old it may be, and
 * the token with which a session goes on. A token is "<cluster id in hex>-<revision>": any edge and
 * any peer of the cluster takes it, and a token of another cluster is told apart.
 */
import type { LinkHeader, LinkWelcome } from "../shared/wire/link.ts";
import { HttpError } from "./problem.ts";

/** What is known of the last answer of a request's peers. */
export interface Served extends LinkHeader {
  readonly clusterId: bigint;
  /** A peer, or later a replica or a lease: "peer <member id in hex>". */
  readonly by: string;
  /** Undefined: the peer doesn't know. */
  readonly ageMilliseconds: number | undefined;
}

export function servedBy(
  welcome: LinkWelcome,
  header: LinkHeader,
  ageMilliseconds: number | undefined,
): Served {
  const { clusterId, memberId } = welcome;
  return { ...header, clusterId, by: `peer ${memberId.toString(16)}`, ageMilliseconds };
}

export const SERVED_HEADERS = [
  "x-quorate-revision",
  "x-quorate-term",
  "x-quorate-served-by",
  "x-quorate-age",
  "x-quorate-session",
] as const;

export function servedHeaders(served: Served): Record<string, string> {
  const { revision, raftTerm, by, ageMilliseconds, clusterId } = served;
  return {
    "x-quorate-revision": `${revision}`,
    "x-quorate-term": `${raftTerm}`,
    "x-quorate-served-by": by,
    ...(ageMilliseconds === undefined ? {} : { "x-quorate-age": `${ageMilliseconds}` }),
    "x-quorate-session": `${clusterId.toString(16)}-${revision}`,
  };
}

export interface SessionToken {
  readonly clusterId: bigint;
  readonly revision: number;
}

export function sessionOf(text: string): SessionToken {
  const match = /^([0-9a-f]{1,16})-(\d{1,16})$/.exec(text);
  const revision = Number(match?.[2]);
  if (match === null || !Number.isSafeInteger(revision)) {
    throw new HttpError(400, "the session token is none that an answer's x-quorate-session gave");
  }
  return { clusterId: BigInt(`0x${match[1]}`), revision };
}
