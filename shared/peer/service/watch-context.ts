/** What watch streams need of whoever has them: a peer (`ServiceContext`), or a replica. */
import type { MvccStore } from "../../mvcc/store.ts";
import type { Host } from "../host.ts";
import type { PeerConfig } from "../peer.ts";
import type { CallContext, Header } from "../services.ts";

export interface WatchContext {
  readonly host: Pick<Host, "now" | "schedule" | "defer">;
  readonly state: {
    readonly store: Pick<MvccStore, "revision" | "compactRevision" | "watches">;
  };
  readonly config: Pick<
    PeerConfig,
    "requestBytesMax" | "progressNotifyMilliseconds" | "electionTicks" | "tickMilliseconds"
  >;
  readonly consensus: { leaderlessMilliseconds(now: number): number };
  /** `revision`: of the answer; absent: the store's current one. */
  header(revision?: number): Header;
  /** Throws when the caller wants a leader and there is none. */
  checkLeader(call: CallContext): void;
}
