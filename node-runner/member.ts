/**
 * One member as it runs in a process: storage, links, peer and doors, put together from the
 * configuration and taken apart in order.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { collectDefaultMetrics, Registry } from "prom-client";
import { LIMITS } from "../shared/base/limits.ts";
import type { Host } from "../shared/peer/host.ts";
import { protoServices } from "../shared/peer/proto/methods.ts";
import type { PeerConfig } from "../shared/peer/peer.ts";
import { startPeer } from "../shared/peer/start-peer.ts";
import { appliedTermOf } from "../shared/peer/state/member-table.ts";
import { openClientDoors } from "./client-door.ts";
import { bootstrapIdentity, type ClusterIdentity } from "./cluster-identity.ts";
import type { Config } from "./config/config.ts";
import type { ListenAddress } from "./config/url.ts";
import { identityOf, openStorage } from "./data-dir/storage.ts";
import type { StorageOptions } from "./data-dir/storage.ts";
import type { Logger } from "./logger.ts";
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
  /** The disk beneath the log, and its segments' size; the real disk unless told. */
  readonly disk?: Pick<StorageOptions, "files" | "walSegmentBytes">;
  /** Puts something around what the peer sees of its host, before it starts. */
  readonly around?: (host: Host) => Host;
}

export interface RunningMember {
  /** Hands leadership over, ends the doors, and writes what is pending. */
  stop(): Promise<void>;
}

/**
 * Resolves once the member serves clients and knows a leader. Rejects with the reason when it can't
 * start.
 */
export async function startMember(options: MemberOptions): Promise<RunningMember> {
  const { config, logger } = options;
  const identity = identityFor(config);
  const { clientTls, peerTls } = await loadTls(config, logger);
  const storage = await openStorage({
    dataDir: config.dataDir,
    walDir: config.walDir,
    identity,
    onFault: options.onFatal,
    appliedTerm: appliedTermOf,
    ...options.disk,
  });
  const transport = new WsPeerTransport({
    identity: {
      ...identity,
      incarnation: randomBytes(6).readUIntBE(0, 6),
      secret: config.peerSecret ?? "",
    },
    tls: () => peerTls.dialOptions(),
    report: (level, message, fields) => logger.report(level, message, fields),
  });
  const host = createNodeHost({
    log: storage.log,
    backend: storage.backend,
    transport,
    logger,
    onFatal: options.onFatal,
  });
  const peer = startPeer(options.around?.(host) ?? host, peerConfig(config, identity));
  const metrics = new Registry();
  collectDefaultMetrics({ register: metrics });
  addServerMetrics(metrics, { peer, memberId: identity.memberId });

  const peerDoors = await Promise.all(
    config.listenPeerUrls.map((address) =>
      openPeerDoor(address, { transport, services: peer.services, tls: peerTls, logger }),
    ),
  );
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
  await peer.ready();
  logger.report("info", "ready to serve client requests", { member: identity.memberId });
  return { stop };
}

/**
 * Who this member is: what its data directory says, else what the configuration of a new cluster
 * says. Throws when the two differ: the directory belongs to another member.
 */
function identityFor(config: Config): ClusterIdentity {
  const bootstrap = bootstrapIdentity({
    name: config.name,
    token: config.initialClusterToken,
    initialCluster: config.initialCluster,
  });
  const stored = identityOf(config.dataDir);
  if (config.initialClusterState === "existing") {
    if (stored !== undefined) return { ...bootstrap, ...stored };
    throw new Error(
      "--initial-cluster-state is existing, but the data directory is empty: this version can't join a running cluster; restore the directory, or start a new cluster",
    );
  }
  return bootstrap;
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
    bootstrapMembers: identity.members,
    joinThrough: [],
    forceNewCluster: false,
    strictReconfigCheck: config.strictReconfigCheck,
    learnersMax: config.learnersMax,
    tickMilliseconds: config.heartbeatMilliseconds,
    electionTicks: Math.ceil(config.electionMilliseconds / config.heartbeatMilliseconds),
    requestBytesMax: config.requestBytesMax,
    txnOpsMax: config.txnOpsMax,
    quotaBytes: config.quotaBytes === 0 ? LIMITS.quotaBytes : config.quotaBytes,
    compactLogEvery: config.snapshotCount,
    catchUpEntries: config.snapshotCatchUpEntries,
    progressNotifyMilliseconds: config.progressNotifyMilliseconds,
  };
}
