/**
 * One member as it runs in a process: storage, links, peer and doors, put together from the
 * configuration and taken apart in order.
 */
import { randomBytes } from "node:crypto";
import type { Server } from "node:http";
import { collectDefaultMetrics, Registry } from "prom-client";
import { LIMITS } from "../shared/base/limits.ts";
import { protoServices } from "../shared/peer/proto/methods.ts";
import type { PeerConfig } from "../shared/peer/peer.ts";
import { startPeer } from "../shared/peer/start-peer.ts";
import { appliedTermOf } from "../shared/peer/state/member-table.ts";
import { openClientDoors, type Door } from "./client-door.ts";
import { bootstrapIdentity, type ClusterIdentity } from "./cluster-identity.ts";
import type { Config } from "./config/config.ts";
import { urlOf, type ListenAddress } from "./config/url.ts";
import { identityOf, openStorage } from "./data-dir/storage.ts";
import { peerRoutes } from "./http/routes.ts";
import { serveFetch } from "./http/fetch-adapter.ts";
import { createHttp1Server } from "./http2/http1-exchange.ts";
import { listenOptions } from "./listen.ts";
import type { Logger } from "./logger.ts";
import { addServerMetrics } from "./metrics/server-metrics.ts";
import { createNodeHost } from "./node-host.ts";
import { WsPeerTransport } from "./peer-transport/ws-peer-transport.ts";

export interface MemberOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** The member can't go on and must not answer any more. */
  readonly onFatal: (error: Error) => void;
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
  const storage = await openStorage({
    dataDir: config.dataDir,
    walDir: config.walDir,
    identity,
    onFault: options.onFatal,
    appliedTerm: appliedTermOf,
  });
  const transport = new WsPeerTransport({
    identity: {
      ...identity,
      incarnation: randomBytes(6).readUIntBE(0, 6),
      secret: config.peerSecret ?? "",
    },
    report: (level, message, fields) => logger.report(level, message, fields),
  });
  const host = createNodeHost({
    log: storage.log,
    backend: storage.backend,
    transport,
    logger,
    onFatal: options.onFatal,
  });
  const peer = startPeer(host, peerConfig(config, identity));
  const metrics = new Registry();
  collectDefaultMetrics({ register: metrics });
  addServerMetrics(metrics, { peer });

  const peerDoors = await Promise.all(
    config.listenPeerUrls.map((address) =>
      openPeerDoor(address, { transport, services: peer.services, logger }),
    ),
  );
  const doors = await openClientDoors({
    config,
    logger,
    metrics,
    identity,
    services: peer.services,
    methods: protoServices(peer.services),
  });
  const stop = async (): Promise<void> => {
    await peer.stop();
    // Before the peer doors: a server is closed only once the links that it accepted are.
    transport.close();
    await Promise.all([...doors, ...peerDoors].map((door) => door.close()));
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

function peerConfig(config: Config, identity: ClusterIdentity): PeerConfig {
  return {
    clusterId: identity.clusterId,
    memberId: identity.memberId,
    name: config.name,
    clientUrls: config.advertiseClientUrls,
    bootstrapMembers: identity.members,
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

async function openPeerDoor(
  address: ListenAddress,
  parts: { transport: WsPeerTransport; services: Parameters<typeof peerRoutes>[0]; logger: Logger },
): Promise<Door> {
  const routes = peerRoutes(parts.services);
  const server = createHttp1Server(
    serveFetch(
      (request) => routes.fetch(request),
      (error) => parts.logger.report("error", "a peer's HTTP request failed", { error }),
    ),
  );
  parts.transport.attach(server);
  await listen(server, address);
  parts.logger.report("info", "serving peer traffic", { address: urlOf(address) });
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: Error) => {
      reject(new Error(`can't listen on ${urlOf(address)}: ${cause.message}`, { cause }));
    });
    server.listen(listenOptions(address), () => resolve());
  });
}
