/**
 * Every named bound of the project, with its reason. Values that etcd also has carry etcd's
 * default. Configuration may override those that `PeerConfig` or a host's flags name; the rest are
 * constants. The assertions at the end relate them.
 */
import { assert } from "./assert.ts";
import * as LINK_LIMITS from "./link-limits.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

export const LIMITS = {
  /** A request's protobuf bytes, whatever the door (etcd: --max-request-bytes). */
  requestBytesMax: 1.5 * MIB,
  /** What a door reads above `requestBytesMax` before it refuses (etcd: grpcOverheadBytes). */
  requestOverheadBytes: 512 * KIB,
  /**
   * Operations of one list of a transaction; nested ones share the parent's rest (etcd:
   * --max-txn-ops).
   */
  txnOpsMax: 128,
  /**
   * Nesting of a request's messages. Each level of a transaction takes two: one that is too deep
   * should still be decoded, so that it is refused for its operations, as etcd does.
   */
  messageDepthMax: 512,
  /** Unanswered keepalives of one gRPC stream, past which no more is read from it. */
  keepAlivesPendingMax: 1024,

  /** Raft's tick, and ticks between heartbeats and before an election (etcd: 100 ms, 1, 10). */
  tickMilliseconds: 100,
  heartbeatTicks: 1,
  electionTicks: 10,
  /** Ticks after which a follower sends its leader again what it has heard nothing of; then twice as many. */
  forwardAgainTicks: 5,
  /**
   * A leader's memory of what one follower forwarded, in proposals, so that none is taken twice: far
   * more than can be under way; 8 KB.
   */
  forwardsRemembered: 65_536,
  /** Followers, counted anew at each of their starts, of which it has such a memory. */
  forwardersRemembered: 256,
  /**
   * Of leader leases: the part of any time by which two members' clocks may differ over it. Quartz
   * is off by less than 0.0002, and a clock that is being slewed by NTP by 0.001.
   */
  clockDriftMax: 0.1,
  /**
   * Bytes of entries in one append message: a follower's fsync covers one (etcd-io/raft:
   * MaxSizePerMsg).
   */
  appendBytesMax: 1 * MIB,
  /** Append messages under way to one follower (etcd-io/raft: MaxInflightMsgs). */
  appendsInFlightMax: 512,
  /** Bytes of entries under way to one follower, whatever their number. */
  appendBytesInFlightMax: 16 * MIB,
  /**
   * Proposed bytes that are not yet committed; beyond it proposals are dropped (raft:
   * MaxUncommittedEntriesSize).
   */
  uncommittedBytesMax: 64 * MIB,
  /**
   * Reads that one node waits for at once: hosts join their clients' reads into few, so this only
   * stops a follower that lost count.
   */
  readsPendingMax: 65_536,
  /**
   * Read rounds that are under way at once: a second one starts while the first travels, and later
   * reads share the next one.
   */
  readRoundsInFlightMax: 2,
  /** Committed bytes that are handed to apply in one Ready. */
  committedBytesMax: 4 * MIB,
  /**
   * Committed but unapplied entries, past which new proposals get "too many requests" (etcd:
   * maxGapBetweenApplyAndCommitIndex).
   */
  applyGapMax: 5000,

  /** Entries in one apply (one batch of the backend), such batches in one turn, and raft's batches in one turn. */
  applyEntriesMax: 1000,
  applyBatchesPerTurnMax: 4,
  readiesPerTurnMax: 32,

  /**
   * Entries that stay in the log behind the applied index for slow followers (etcd:
   * --snapshot-catchup-entries).
   */
  catchUpEntries: 5000,
  /** Entries between two compactions of the log (etcd: --snapshot-count). */
  compactLogEvery: 10_000,

  /**
   * Bytes of a segment of the write-ahead log; compaction removes whole ones, and a restart reads
   * what is left whole: 64 MiB (etcd: SegmentSizeBytes) cost it 0.6 s and as much memory.
   */
  walSegmentBytes: 16 * MIB,

  /**
   * A batch of the LMDB backend begins after so long, or so many rows or bytes (etcd: 100 ms and 10 000). Keys that are
   * spread over the tree dirty a page each, and the more of them one commit has, the fewer pages it writes for a row:
   * beside batches of 4000 rows and 100 ms, half of the disk's writes (2500 puts/s) and 3 to 4 us less CPU a put, as
   * long as the tree isn't far larger than a batch. Beside 300 ms a put to three members (8000/s) takes 7 % less CPU.
   * But a batch is queued in one go, a microsecond a row, and rows that wait longer outlive collections of the
   * young generation. The log is what makes a write durable; a restart applies so much more of it anew.
   */
  backendBatchMilliseconds: 1000,
  backendBatchRowsMax: 12_000,
  backendBatchBytesMax: 8 * MIB,
  /** Rows and their bytes that wait for LMDB, past which the backend is congested. */
  backendPendingRowsMax: 48_000,
  backendPendingBytesMax: 64 * MIB,

  /** Batches that a defragmentation keeps for its copy, past which writes wait for the copy. */
  defragmentBytesMax: 256 * MIB,

  /** Rows and bytes that one synchronous stretch may read or write before it yields to the event loop. */
  stretchRowsMax: 10_000,
  stretchBytesMax: 4 * MIB,
  /** Rows that one step of the removal after a compaction touches (etcd: --compaction-batch-limit). */
  compactionRowsPerStep: 1000,

  /** Learners of a cluster (etcd: --max-learners). */
  learnersMax: 1,
  /** A learner may be promoted once it has this share of the leader's log (etcd: readyPercentThreshold). */
  learnerReadyShare: 0.9,
  /** A member counts for a change of the members once it was connected so long (etcd: HealthInterval). */
  memberHealthMilliseconds: 5000,
  /** Members that one change adds, promotes and removes: more than any cluster has voters. */
  memberStepsMax: 32,
  /** Peer URLs of one member. */
  memberUrlsMax: 64,

  /** Backend size at which NOSPACE is raised (etcd: --quota-backend-bytes, 0 means 2 GiB). */
  quotaBytes: 2048 * MIB,

  /**
   * The memory for retried writes: rows (one for each client with a write under way since then)
   * and their bytes, and of one outcome. All members must have the same bounds.
   */
  dedupRowsMax: 65_536,
  dedupBytesMax: 32 * MIB,
  dedupOutcomeBytesMax: 4 * KIB,

  /** Lease bounds (etcd: lease.MaxLeaseTTL; minLeaseTTL follows the election timeout). */
  leaseTtlSecondsMax: 9_000_000_000,
  /**
   * Lease ids in one revoke entry: one entry stays far below `appendBytesMax` and its deletes are
   * one stretch.
   */
  leaseRevokesPerEntryMax: 500,
  /**
   * Leases from which on a new leader spreads their expiry, and how many it lets expire in a second (etcd: 1000,
   * 750).
   */
  leasesSpreadFrom: 1000,
  leaseExpiriesPerSecond: 750,
  /** Leases that one search for expired ones looks at, so that it never holds up heartbeats. */
  leaseLooksPerPassMax: 32_768,

  /** Pages of ranges whose rest is remembered as a count, and bytes of the two keys that name one. */
  pagesRememberedMax: 1024,
  pageKeyBytesMax: 2 * KIB,

  /**
   * Revisions of history in one watch response, and watchers that one catch-up pass serves (etcd:
   * 1000, 512).
   */
  watchRevisionsPerResponseMax: 1000,
  watchersPerPassMax: 512,
  /**
   * Bytes of undelivered responses of one watch stream; past it its watchers turn into lagging
   * ones.
   */
  watchStreamBytesMax: 4 * MIB,

  /** A CBOR frame of a link or a peer connection. */
  frameBytesMax: 4 * MIB,
  /** Calls under way on one link connection. */
  linkCallsMax: 4096,
  /** Watch streams of one link; each holds any number of watches. */
  linkStreamsMax: 1024,
  /** Bytes of frames at which a link's batch closes before the turn ends. */
  linkBatchBytes: 1 * MIB,
  /**
   * One answer on a link: with its batch it stays below what workerd takes as one WebSocket message
   * (32 MiB).
   */
  linkReplyBytesMax: 16 * MIB,
  /**
   * Unsent bytes on one link: past the first its watches hold back and nothing more is read, past
   * the second it is cut.
   */
  linkUnsentBytesSlow: 4 * MIB,
  linkUnsentBytesMax: 64 * MIB,
  /**
   * Bytes of all links of a Durable Object that have not left, past which its watches lag: with the
   * copies that are made on the way some thousand watchers of large values fit an isolate (128 MB).
   */
  durableLinksBytesMax: 8 * MIB,

  /** Keys of the first chunk of a RangeStream (etcd: 10); later ones approach `requestBytesMax`. */
  rangeStreamFirstKeys: 10,
  ...LINK_LIMITS,

  /** The edge's deadline for an answer, and the longest that a caller may ask for. */
  edgeTimeoutMilliseconds: 5000,
  edgeTimeoutMillisecondsMax: 60_000,
  /**
   * Hedged reads: the least wait before a second peer is asked, unless configured; the wait while
   * too few reads were seen; hedges for each read (a tenth more load at most), those saved up, and
   * those of one request, whose subrequests are limited (50 on the smallest plan).
   */
  hedgeFloorMilliseconds: 30,
  hedgeUnknownMilliseconds: 500,
  hedgeShare: 0.1,
  hedgeBurst: 10,
  hedgesPerRequestMax: 4,
  /** The reads that tell what is late, the share of them that isn't, and how often that is counted. */
  hedgeSamples: 64,
  hedgeQuantile: 0.95,
  hedgeLearnEvery: 16,
  /** Hedges in a row that a peer lost, after which others are asked first. */
  hedgeLossesMax: 3,
  /** A bearer token, the prefixes that it may name for each permission, and clocks' difference. */
  jwtBytesMax: 8 * KIB,
  jwtPrefixesMax: 64,
  jwtLeewayMilliseconds: 30_000,
  /** Callers whose rates an isolate of the edge counts at a time. */
  edgeRateCallersMax: 10_000,
  /** A JSON body at the edge: the largest request as base64, with room for its names. */
  edgeJsonBytesMax: 3 * MIB,
  /** Keys in one JSON listing of the edge: by default, and at most. */
  edgePageKeys: 1000,
  edgePageKeysMax: 10_000,
  /** Undelivered bytes of one reader's watch at the edge: thousands of slow ones fit an isolate. */
  edgeWatchBytesMax: 64 * KIB,
  /** Bytes that an isolate (128 MB) holds for readers that don't keep up: of all, and of one. */
  edgeReadersBytesMax: 32 * MIB,
  edgeReaderBytesMax: 16 * MIB,
  /** A reader that lets something wait for so long and takes nothing is ended. */
  edgeStallMilliseconds: 60_000,
  /** Then it may still read the last event, for so long. */
  edgeLingerMilliseconds: 30_000,
  /** Bytes of server-sent events that are given to the runtime at a time, when it asks. */
  edgePieceBytes: 16 * KIB,
  /** Silence on a watch after which the edge sends a comment, so that proxies keep the stream open. */
  edgeKeepaliveMilliseconds: 15_000,
  /**
   * How long a lease hub gathers keepalives before it sends them on as one message, and how many
   * may wait.
   */
  hubGatherMilliseconds: 75,
  hubWaitingMax: 20_000,
  /**
   * How long the edge waits for a replica before it asks the peers, and how long it passes over one
   * that didn't answer.
   */
  replicaWaitMilliseconds: 1000,
  replicaRestMilliseconds: 1000,
  /**
   * A replica's rounds: reads that come so close together share one, and so many travel at once.
   * Together they cover a round trip of 320 ms, from one end of the Earth to the other, without a
   * read that has to wait for an earlier round.
   */
  replicaGatherMilliseconds: 5,
  replicaRoundsMax: 64,
  /** A replica that nobody asks follows for so long; how often it is looked at whether somebody does. */
  replicaIdleMilliseconds: 600_000,
  replicaWatchdogMilliseconds: 60_000,

  /** Bytes of one chunk of a snapshot stream, and chunks that are under way before the receiver has consumed them. */
  snapshotChunkBytes: 256 * KIB,
  snapshotWindowChunks: 8,
  /** A snapshot stream's rate: making a chunk takes the sender some 3 ms of each 8. */
  snapshotBytesPerSecond: 32 * MIB,
  /**
   * A chunk that a snapshot file may hold: a chunk ends behind the row that fills it, and a row is at
   * most the longest key and a request's value.
   */
  snapshotFileChunkBytesMax: 640 * MIB,
  /**
   * How long a broken snapshot stream can be resumed: meanwhile its sender pins a view of the store,
   * and its receiver keeps what came.
   */
  snapshotKeptMilliseconds: 30_000,
  /** Snapshots that a leader sends at a time: each pins a view of the store. */
  snapshotStreamsMax: 2,

  /** Bytes that wait in a link to a member; past it messages are dropped, for raft repeats what still matters. */
  peerSendBufferBytesMax: 32 * MIB,
  /** Bytes of messages in one frame, the last message excepted. */
  peerBatchBytesMax: 1 * MIB,
  /** Calls under way on one link between members, in either direction. */
  peerCallsMax: 1024,
  /** Connections that have not yet said who they are. */
  peerHandshakesMax: 64,
  /** A first frame says who speaks: it is small. */
  peerHelloBytesMax: 4 * KIB,
  /** A link is pinged this often, and given up when nothing came for so long: well above a stall of the event loop. */
  peerPingMilliseconds: 1000,
  peerIdleMillisecondsMax: 5000,
  /** Pauses between attempts to connect: doubled from first to last, each shortened by chance up to half. */
  peerRedialMilliseconds: 50,
  peerRedialMillisecondsMax: 250,

  /*
   * The HTTP/2 server. Frames stay at the protocol's default size, so that one large message never
   * delays others long. Windows: a stream's covers a bulk writer at 100 ms of distance with some
   * MB/s; a connection's bounds what its paused streams may hold together.
   */
  http2FrameBytesMax: 16 * KIB,
  http2StreamWindowBytes: 256 * KIB,
  http2ConnectionWindowBytes: 1 * MIB,
  /** Streams open at once on one connection (etcd sets no bound; a Go client waits for a free one). */
  http2StreamsMax: 10_000,
  /** The decoder's dynamic table: HPACK's default, enough for the dozen fields that clients repeat. */
  http2HeaderTableBytes: 4096,
  /**
   * One header list, uncompressed and counted as RFC 9113 10.5.1 says; tokens and forwarded headers
   * fit in it.
   */
  http2HeaderListBytesMax: 64 * KIB,
  /** One header block as sent, and the CONTINUATION frames that it may be cut into. */
  http2HeaderBlockBytesMax: 64 * KIB,
  http2ContinuationsMax: 16,
  /** Header lists of all open streams of one connection together; past it streams are refused. */
  http2OpenHeaderBytesMax: 8 * MIB,
  /** Reply bytes queued on one stream, past which its writer is asked to wait for `onDrain`. */
  http2StreamQueueBytes: 1 * MIB,
  /**
   * Reply bytes queued on one connection: past it further writes reset their stream, new streams
   * are refused.
   */
  http2ConnectionQueueBytesMax: 64 * MIB,
  /**
   * Request bytes held for messages that have not ended yet, on one connection and on all; past it
   * a request is refused.
   */
  http2ConnectionHeldBytesMax: 128 * MIB,
  http2ServerHeldBytesMax: 512 * MIB,
  /** Bytes given to the socket and not yet taken by the kernel, past which no further DATA is framed. */
  http2OutboxBytes: 256 * KIB,
  /**
   * Output that may wait while the socket is full (acks, small replies); past it the connection is
   * not read.
   */
  http2UnreadOutputBytesMax: 64 * KIB,
  /**
   * Floods, as token buckets: a burst, and what comes back each second. Resets: by the client, and
   * by the server when the client provoked them. Pings: those of Go clients come once per round
   * trip while data flows, so each reply frame also brings one back. Idle frames: PRIORITY,
   * unknown types, empty DATA.
   */
  http2ResetsBurst: 2000,
  http2ResetsPerSecond: 200,
  http2PingsBurst: 1000,
  http2PingsPerSecond: 20,
  http2SettingsBurst: 100,
  http2SettingsPerSecond: 2,
  http2IdleFramesBurst: 1000,
  http2IdleFramesPerSecond: 100,
  /** Time for the first bytes, the preface with its SETTINGS, and for the rest of a header block. */
  http2HandshakeSeconds: 10,
  /** Time in which a failed connection's peer may read the GOAWAY before the socket is destroyed. */
  http2LingerSeconds: 2,
  /**
   * Server pings on an idle connection, and the wait for any sign of life (etcd: --grpc-keepalive-interval,
   * -timeout).
   */
  http2KeepaliveSeconds: 7200,
  http2KeepaliveTimeoutSeconds: 20,
  /** Client API versions that calls are counted by; each is a row of /metrics, and clients name them. */
  clientVersionsMax: 32,
  /** HTTP/1.1: time for a request's headers (etcd: ReadHeaderTimeout), and between two requests. */
  http1HeadersSeconds: 300,
  http1IdleSeconds: 300,
  /** Silence of a TCP connection after which the kernel probes it (Go: 15 s). */
  tcpKeepaliveSeconds: 15,
  /** Deadlines of calls fire at the end of such a slice of time: one timer serves all calls of a slice. */
  grpcDeadlineSliceMilliseconds: 10,
} as const;

assert(LIMITS.electionTicks > LIMITS.heartbeatTicks, "an election outlasts a heartbeat");
assert(
  LIMITS.frameBytesMax >=
    LIMITS.requestBytesMax + LIMITS.requestOverheadBytes + LIMITS.appendBytesMax,
  "a frame holds the largest request, and an append whose last entry is the largest request",
);
assert(
  LIMITS.frameBytesMax >= LIMITS.peerBatchBytesMax + LIMITS.requestBytesMax + LIMITS.appendBytesMax,
  "a batch and the largest append that ends it fit into a frame",
);
assert(
  LIMITS.peerSendBufferBytesMax >= LIMITS.appendBytesInFlightMax,
  "a follower's window fits into its link",
);
assert(
  LIMITS.dedupBytesMax >= 1024 * LIMITS.dedupOutcomeBytesMax,
  "a thousand of the largest outcomes are remembered",
);
assert(LIMITS.uncommittedBytesMax > LIMITS.appendBytesInFlightMax, "the window can fill");
assert(
  LIMITS.http2StreamWindowBytes >= 65_535 && LIMITS.http2ConnectionWindowBytes >= 65_535,
  "windows only grow from HTTP/2's initial ones, so no client can exceed them before it has read the settings",
);
assert(
  LIMITS.http2ConnectionHeldBytesMax >= 8 * (LIMITS.requestBytesMax + LIMITS.requestOverheadBytes),
  "some of the largest requests fit on one connection at once",
);
assert(
  LIMITS.backendPendingRowsMax >= 2 * LIMITS.backendBatchRowsMax &&
    LIMITS.backendPendingBytesMax >= 2 * LIMITS.backendBatchBytesMax,
  "a batch can gather while another one is being committed",
);
