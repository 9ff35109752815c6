/** Whether a listener takes a hello: for this cluster and member, with the secret, of a version it speaks. */
import { PEER_VERSION, PEER_VERSION_MIN } from "../../wire/peer-codec.ts";
import type { PeerHello } from "../../wire/peer-codec.ts";
import { CLOSE } from "./frame-link.ts";

/** Who this member is, to the others. */
export interface PeerIdentity {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** Random per start. */
  readonly incarnation: number;
  /** Known to all members, or empty. It is sent as it is: use TLS where others can listen. */
  readonly secret: string;
  /** The newest version that it speaks; `PEER_VERSION` unless told. */
  readonly version?: number | undefined;
}

export const REMOVED = "the member has been permanently removed from the cluster";

/** Refuses a hello: the close code and the reason. */
export interface HelloRefusal {
  readonly code: number;
  readonly reason: string;
}

/** `removed`: the sender was; `sameSecret` compares in a time that tells nothing. */
export function checkHello(
  hello: PeerHello,
  identity: PeerIdentity,
  {
    removed,
    sameSecret,
  }: { removed: boolean; sameSecret: (shown: string, own: string) => boolean },
): HelloRefusal | undefined {
  if (!sameSecret(hello.secret, identity.secret)) {
    return { code: CLOSE.wrongSecret, reason: "wrong secret" };
  }
  if (hello.cluster !== identity.clusterId) {
    return { code: CLOSE.wrongCluster, reason: "cluster ID mismatch" };
  }
  if (hello.to !== identity.memberId) {
    return { code: CLOSE.wrongMember, reason: "addressed to another member" };
  }
  if (hello.from === identity.memberId || hello.from === 0n) {
    return { code: CLOSE.wrongMember, reason: "claims to be this member, or none" };
  }
  if (removed) return { code: CLOSE.removed, reason: REMOVED };
  if (hello.version < PEER_VERSION_MIN || hello.versionMin > (identity.version ?? PEER_VERSION)) {
    return { code: CLOSE.wrongVersion, reason: `no common version: ${hello.version}` };
  }
  return undefined;
}
