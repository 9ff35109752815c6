/**
 * One member as it runs in a process: storage, links, peer and doors, put together from the
 * configuration and taken apart in order.
 */
import { randomBytes } from "node:crypto";
import { flushCompileCache } from "node:module";
import { join } from "node:path";
import { collectDefaultMetrics, Registry } from "prom-client";
import type { Backend } from "../shared/backend/backend.ts";
import { LIMITS } from "../shared/base/limits.ts";
import type { Host } from "../shared/peer/host.ts";
import { protoServices } from "../shared/peer/proto/methods.ts";
import type { PeerConfig } from "../shared/peer/peer.ts";
import { startPeer } from "../shared/peer/start-peer.ts";
import { MemberRemovedError } from "../shared/peer/membership-keeper.ts";
import { appliedTermOf, hasMembers } from "../shared/peer/state/member-table.ts";
import { openClientDoors } from "./client-door.ts";
import { bootstrapIdentity, type ClusterIdentity } from "./cluster-identity.ts";
import type { Config } from "./config/config.ts";
import type { ListenAddress } from "./config/url.ts";
import { identityOf, openStorage, retire } from "./data-dir/storage.ts";
import type { StorageOptions } from "./data-dir/storage.ts";
import type { Logger } from "./logger.ts";
import { addLogMetrics, diskMetrics } from "./metrics/disk-metrics.ts";
import { addServerMetrics } from "./metrics/server-metrics.ts";
import { createNodeHost } from "./node-host.ts";
import { openPeerDoor } from "./peer-door.ts";
import { WsPeerTransport } from "./peer-transport/ws-peer-transport.ts";
import { TlsIdentity } from "./tls/tls-identity.ts";
import type { TlsSettings } from "./tls/tls-settings.ts";

export interface MemberOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** The member can't go on and must not answer any more. */
  readonly onFatal: (error: Error) => void;
  /** Speaks this older version with the others, as before an upgrade; for tests. */
  readonly peerVersion?: number | undefined;
  /** The disk beneath the log, and its segments' size; the real disk unless told. */
  readonly disk?: Pick<StorageOptions, "files" | "walSegmentBytes">;
  /** Puts something around what the peer sees of its host, before it starts. */
  readonly around?: (host: Host) => Host;
  /** It runs, and can be stopped, though it may not be ready yet. */
  readonly onRunning?: (member: RunningMember) => void;
}

export interface RunningMember {
  /** Hands leadership over, ends the doors, and writes what is pending. */
  stop(): Promise<void>;
}

/**
 * Resolves once the member serves clients and knows a leader. Rejects with the reason when it can't
 * start. A member that is stopped before it is ready never resolves.
 */
export async function startMember(options: MemberOptions): Promise<RunningMember> {
  const { config, logger } = options;
  const { clientTls, peerTls } = await loadTls(config, logger);
  const find = async () => {
    const { findCluster } = await import("./join.ts");
    return findCluster({ config, tls: () => peerTls.dialOptions() });
  };
  const identity = await identityFor(config, find);
  const metrics = new Registry();
  const storage = await openStorage({
    dataDir: config.dataDir,
    walDir: config.walDir,
    identity,
    onFault: options.onFatal,
    appliedTerm: appliedTermOf,
    times: diskMetrics(metrics),
    ...options.disk,
  });
  // One that joins knows nobody until its first snapshot; it may have been stopped before that.
  const joins = config.initialClusterState === "existing" && !hasMembers(storage.backend);
  const members = joins
    ? { joinThrough: (await find()).members }
    : { bootstrapMembers: identity.members };
  await defragmentAtStart(storage.backend, config.defragmentFromBytes, logger);
  const transport = new WsPeerTransport({
    identity: {
      ...identity,
      incarnation: randomBytes(6).readUIntBE(0, 6),
      secret: config.peerSecret ?? "",
      version: options.peerVersion,
    },
    tls: () => peerTls.dialOptions(),
    requestBytesMax: config.requestBytesMax,
    report: (level, message, fields) => logger.report(level, message, fields),
  });
  const host = createNodeHost({
    log: storage.log,
    backend: storage.backend,
    transport,
    logger,
    onFatal: (error) => {
      if (error instanceof MemberRemovedError) retire(config.dataDir);
      options.onFatal(error);
    },
  });
  const peer = startPeer(options.around?.(host) ?? host, {
    ...peerConfig(config, identity),
    ...members,
    version: options.peerVersion,
  });
  collectDefaultMetrics({ register: metrics });
  addLogMetrics(metrics, () => storage.log.facts);
  addServerMetrics(metrics, { peer, memberId: identity.memberId });

  const peerDoors = await Promise.all(
    config.listenPeerUrls.map((address) =>
      openPeerDoor(address, {
        transport,
        services: peer.services,
        tls: peerTls,
        logger,
        secret: config.peerSecret,
      }),
    ),
  );
  if (config.initialCorruptCheck) await peer.checkInitially();
  const doors = await openClientDoors({
    config,
    logger,
    metrics,
    identity,
    services: peer.services,
    methods: protoServices(peer.services),
    tls: clientTls,
  });
  const stop = async (): Promise<void> => {
    await peer.stop();
    // Before the peer doors: a server is closed only once the links that it accepted are.
    transport.close();
    await Promise.all([...doors, ...peerDoors].map((door) => door.close()));
    clientTls.close();
    peerTls.close();
    await storage.close();
  };
  options.onRunning?.({ stop });
  await peer.ready();
  logger.report("info", "ready to serve client requests", { member: identity.memberId });
  // Node writes its compile cache, if it has one, at an orderly end: a member that is always killed
  // would start twice as slowly each time.
  flushCompileCache();
  return { stop };
}

/** Where the database's free space is worth it, as `--bootstrap-defrag-threshold-megabytes` says. */
async function defragmentAtStart(
  backend: Backend,
  fromBytes: number,
  logger: Logger,
): Promise<void> {
  if (fromBytes === 0) return;
  const { totalBytes, inUseBytes } = backend.sizes();
  const sizes = {
    "current-db-size-bytes": totalBytes,
    "current-db-size-in-use-bytes": inUseBytes,
    "threshold-bytes": fromBytes,
  };
  if (totalBytes - inUseBytes < fromBytes) {
    return logger.report("info", "Skipping defragmentation", sizes);
  }
  logger.report("info", "defragmentation begins", sizes);
  await backend.defragment();
}

/**
 * Who this member is: what its data directory says, else what the configuration of a new cluster
 * says, or a running cluster that it joins (`find`). Where the cluster is new, directory and
 * configuration must agree, lest the directory be another member's.
 */
async function identityFor(
  config: Config,
  find: () => Promise<ClusterIdentity>,
): Promise<ClusterIdentity> {
  const stored = identityOf(config.dataDir);
  const joined = config.initialClusterState === "existing";
  if (stored === undefined && joined) return find();
  const { name, initialCluster, initialClusterToken: token } = config;
  const bootstrap = bootstrapIdentity({ name, token, initialCluster });
  return joined || config.forceNewCluster ? { ...bootstrap, ...stored } : bootstrap;
}

/** Certificates that are made at start stay where etcd has them: `fixtures` in the data directory. */
async function loadTls(config: Config, logger: Logger) {
  const load = (settings: TlsSettings, name: string, addresses: readonly ListenAddress[]) =>
    TlsIdentity.load(settings, {
      autoFolder: join(config.dataDir, "fixtures", name),
      hosts: addresses.flatMap((each) => (each.kind === "tcp" ? [each.host] : [])),
      now: Date.now(),
      report: (level, message, fields) => logger.report(level, message, fields),
    });
  return {
    clientTls: await load(config.clientTls, "client", config.listenClientUrls),
    peerTls: await load(config.peerTls, "peer", config.listenPeerUrls),
  };
}

function peerConfig(config: Config, identity: ClusterIdentity): PeerConfig {
  return {
    clusterId: identity.clusterId,
    memberId: identity.memberId,
    name: config.name,
    clientUrls: config.advertiseClientUrls,
    bootstrapMembers: [],
    joinThrough: [],
    forceNewCluster: config.forceNewCluster,
    strictReconfigCheck: config.strictReconfigCheck,
    learnersMax: config.learnersMax,
    tickMilliseconds: config.heartbeatMilliseconds,
    electionTicks: Math.ceil(config.electionMilliseconds / config.heartbeatMilliseconds),
    leaseReads: config.leaseReads,
    requestBytesMax: config.requestBytesMax,
    txnOpsMax: config.txnOpsMax,
    quotaBytes: config.quotaBytes === 0 ? LIMITS.quotaBytes : config.quotaBytes,
    compactLogEvery: config.snapshotCount,
    catchUpEntries: config.snapshotCatchUpEntries,
    progressNotifyMilliseconds: config.progressNotifyMilliseconds,
    upkeep: config.upkeep,
  };
}
