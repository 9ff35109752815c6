/**
 * The ids of a new cluster and its members, computed as etcd does, so that members that bootstrap
 * together agree without talking: a member's is the first 8 bytes of SHA-1 over its sorted peer
 * URLs and the cluster's token; the cluster's is the same over its sorted member ids.
 */
import { createHash } from "node:crypto";
import type { PeerMember } from "../shared/peer/peer.ts";

export interface ClusterIdentity {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly members: readonly PeerMember[];
}

/**
 * The identity of member `name` in the cluster that bootstraps from `initialCluster` (name to peer
 * URLs).
 */
export function bootstrapIdentity(options: {
  readonly name: string;
  readonly token: string;
  readonly initialCluster: ReadonlyMap<string, readonly string[]>;
}): ClusterIdentity {
  const members = [...options.initialCluster].map(([name, peerUrls]) => ({
    id: digestId([peerUrls.toSorted().join(""), options.token]),
    name,
    peerUrls,
  }));
  members.sort((a, b) => (a.id < b.id ? -1 : 1));
  const own = members.find((member) => member.name === options.name);
  if (own === undefined) throw new TypeError(`no member ${options.name}`);
  const ids = members.map(({ id }) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(id);
    return bytes;
  });
  return { clusterId: digestId(ids), memberId: own.id, members };
}

function digestId(parts: readonly (string | Uint8Array)[]): bigint {
  const hash = createHash("sha1");
  for (const part of parts) hash.update(part);
  return hash.digest().readBigUInt64BE(0);
}
