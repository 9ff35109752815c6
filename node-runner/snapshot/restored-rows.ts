/** The rows that a restored store has of its own: its new cluster, and revisions that were bumped. */
import { writeUint64 } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import { TABLES } from "../../shared/backend/backend.ts";
import { MemoryBackend } from "../../shared/backend/memory-backend.ts";
import { writeOwedCompaction } from "../../shared/mvcc/backend-compaction.ts";
import { COMPACT_REVISION_ROW } from "../../shared/mvcc/key-layout.ts";
import { MemberTable } from "../../shared/peer/state/member-table.ts";
import { PEER_VERSION_MIN } from "../../shared/wire/peer-codec.ts";
import type { ClusterIdentity } from "../cluster-identity.ts";
import type { CopiedState, Fill } from "./snapshot-source.ts";

/**
 * The log of a restored cluster goes on behind this entry: it begins later than an empty member's would,
 * so that one is sent the state, not entries that need it.
 */
export const RESTORED_MARK = { index: 1, term: 1 } as const;

export function eightBytes(value: number): Bytes {
  const bytes = new Uint8Array(8);
  writeUint64(bytes, 0, value);
  return bytes;
}

/** The members of the new cluster, nameless until they have started, as at any bootstrap. */
export function clusterRows({ clusterId, members }: ClusterIdentity): Fill {
  const backend = new MemoryBackend();
  const table = new MemberTable(backend);
  const nameless = members.map((member) => ({
    ...member,
    name: "",
    clientUrls: [],
    isLearner: false,
  }));
  // The lowest version, whatever program restores: the cluster decides on a higher one in its log.
  table.bootstrap(clusterId, nameless, { backend, version: PEER_VERSION_MIN });
  backend.apply(RESTORED_MARK.index, (writer) => table.setTerm(RESTORED_MARK.term, writer));
  return (writer) => {
    for (const each of TABLES) {
      backend.scan(each, {}, (key, value) => {
        writer.put(each, key, value);
        return true;
      });
    }
  };
}

/**
 * Moves the store's revision on by so much and marks everything before as compacted: watchers and
 * caches that have seen later revisions of the old cluster learn that they must read anew.
 */
export function bumpedRows(state: CopiedState, bump: number): Fill {
  const target = state.revision + bump;
  return (writer) => {
    writer.put("meta", COMPACT_REVISION_ROW, eightBytes(target));
    // From the start: what the snapshot's own compaction still owed is part of it.
    writeOwedCompaction(writer, { target, main: 0, sub: 0 });
  };
}
