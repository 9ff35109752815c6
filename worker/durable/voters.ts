/**
 * Who the members of a serverless cluster are: a fixed number of voters, each a Durable Object with a
 * name. Ids are made of names, so that all agree without talking.
 */
import { createHash } from "node:crypto";
import { utf8 } from "../../shared/base/bytes.ts";
import type { PeerMember } from "../../shared/peer/peer.ts";

export interface Voters {
  readonly clusterId: bigint;
  readonly members: readonly PeerMember[];
}

/** `cluster`: the cluster's name; the voters are `<cluster>/0`, `<cluster>/1`, ... */
export function votersOf(cluster: string, count: number): Voters {
  const members = Array.from({ length: count }, (_, place) => {
    const name = `${cluster}/${place}`;
    return { id: idOf(`member ${name}`), name, peerUrls: [`durable://${name}`] };
  });
  return { clusterId: idOf(`cluster ${cluster} of ${count}`), members };
}

/** The first 8 bytes of SHA-256. */
function idOf(text: string): bigint {
  const bytes = createHash("sha256").update(utf8(text)).digest();
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0);
}
