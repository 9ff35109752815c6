/**
 * etcd's metrics of a member, under etcd's names, read from the peer when the registry is asked.
 * What the peer doesn't count is not there: a constant zero would mislead.
 */
import { Counter, Gauge, type Registry } from "prom-client";
import type { Peer, PeerCounts } from "../../shared/peer/peer.ts";
import {
  ETCD_CLUSTER_VERSION,
  ETCD_VERSION,
  type CallContext,
  type PeerStatus,
} from "../../shared/peer/services.ts";

const CALL: CallContext = {
  timeoutMilliseconds: 1000,
  requireLeader: false,
  onCancel: () => undefined,
};

export function addServerMetrics(
  registry: Registry,
  { peer, memberId }: { readonly peer: Peer; readonly memberId: bigint },
): void {
  const registers = [registry];
  const labelled = (name: string, help: string, label: string, value: string): void => {
    new Gauge({ name, help, labelNames: [label], registers }).set({ [label]: value }, 1);
  };
  labelled("etcd_server_version", "The etcd API's version.", "server_version", ETCD_VERSION);
  labelled(
    "etcd_cluster_version",
    "The cluster's version.",
    "cluster_version",
    ETCD_CLUSTER_VERSION.replace(/\.0$/, ""),
  );
  labelled("etcd_server_id", "This member.", "server_id", memberId.toString(16));
  const gauge = (name: string, help: string, value: (status: PeerStatus) => number): void => {
    void new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(value(await peer.services.maintenance.status(CALL)));
      },
    });
  };
  const isLeader = ({ header, leader }: PeerStatus): number => (header.memberId === leader ? 1 : 0);
  gauge("etcd_server_has_leader", "Whether a leader is known.", ({ leader }) =>
    leader === 0n ? 0 : 1,
  );
  gauge("etcd_server_is_leader", "Whether this member leads.", isLeader);
  gauge("etcd_server_is_learner", "Whether it is a learner.", ({ isLearner }) =>
    isLearner ? 1 : 0,
  );
  gauge("etcd_server_proposals_committed_total", "The commit index.", ({ raftIndex }) => raftIndex);
  gauge(
    "etcd_server_proposals_applied_total",
    "The applied index.",
    ({ raftAppliedIndex }) => raftAppliedIndex,
  );
  gauge("etcd_server_quota_backend_bytes", "The quota.", ({ dbSizeQuota }) => dbSizeQuota);
  gauge("etcd_mvcc_db_total_size_in_bytes", "The database's size.", ({ dbSize }) => dbSize);
  gauge(
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "What of the database is in use.",
    ({ dbSizeInUse }) => dbSizeInUse,
  );
  gauge(
    "etcd_debugging_mvcc_current_revision",
    "The store's revision.",
    ({ header }) => header.revision,
  );
  addCounts(registers, peer);
}

/** What the peer counts by itself, in plain numbers. */
function addCounts(registers: Registry[], peer: Peer): void {
  const counter = (name: string, help: string, value: (counts: PeerCounts) => number): void => {
    void new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value(peer.counts()));
      },
    });
  };
  const gauge = (name: string, help: string, value: (counts: PeerCounts) => number): void => {
    void new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value(peer.counts()));
      },
    });
  };
  counter("etcd_mvcc_put_total", "Puts carried out.", ({ puts }) => puts);
  counter("etcd_mvcc_delete_total", "Deletions carried out.", ({ deletes }) => deletes);
  counter("etcd_mvcc_range_total", "Ranges answered.", ({ ranges }) => ranges);
  counter(
    "etcd_mvcc_txn_total",
    "Transactions of several operations.",
    ({ transactions }) => transactions,
  );
  gauge("etcd_debugging_mvcc_keys_total", "Keys that exist.", ({ keys }) => keys);
  gauge("etcd_debugging_mvcc_watcher_total", "Watchers.", ({ watchers }) => watchers);
  gauge(
    "etcd_debugging_mvcc_slow_watcher_total",
    "Watchers that lag.",
    ({ laggingWatchers }) => laggingWatchers,
  );
  gauge(
    "etcd_debugging_mvcc_compact_revision",
    "The last compaction's revision.",
    ({ compactRevision }) => Math.max(0, compactRevision),
  );
  counter(
    "etcd_server_leader_changes_seen_total",
    "How often another leader was found.",
    ({ leaderChanges }) => leaderChanges,
  );
  gauge(
    "etcd_server_proposals_pending",
    "Proposals that wait.",
    ({ proposalsPending }) => proposalsPending,
  );
  counter(
    "etcd_server_proposals_failed_total",
    "Proposals that failed.",
    ({ proposalsFailed }) => proposalsFailed,
  );
}
