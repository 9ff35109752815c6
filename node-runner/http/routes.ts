/**
 * The plain HTTP routes of a peer: version, health, metrics, and the members on the peer port. The
 * JSON gateway is beside this (`gateway.ts`): it streams, these don't.
 */
import { Hono } from "hono";
import type { Registry } from "prom-client";
import {
  ETCD_CLUSTER_VERSION,
  ETCD_STORAGE_VERSION,
  ETCD_VERSION,
  type CallContext,
  type Member,
  type Services,
} from "../../shared/peer/services.ts";
import { sameSecret } from "../same-secret.ts";
import { QUORATE_VERSION } from "../version.ts";
import { addGetRoute } from "./get-route.ts";
import { addHealthRoutes } from "./health.ts";

const LOCAL_CALL: CallContext = {
  timeoutMilliseconds: 1000,
  requireLeader: false,
  onCancel: () => undefined,
};

/** What /version says; etcd's three lines and the project's own. */
function versions(): Record<string, string> {
  return {
    etcdserver: ETCD_VERSION,
    etcdcluster: ETCD_CLUSTER_VERSION,
    storage: ETCD_STORAGE_VERSION,
    quorate: QUORATE_VERSION,
  };
}

/** For the client port. */
export function clientRoutes(services: Services, metrics: Registry): Hono {
  const app = metricsRoutes(services, metrics);
  addGetRoute(app, "/version", (context) => context.json(versions()));
  addGetRoute(app, "/debug/vars", (context) => {
    const { rss, heapUsed, external } = process.memoryUsage();
    return context.json({ cmdline: process.argv, memstats: { rss, heapUsed, external } });
  });
  return app;
}

/** For --listen-metrics-urls, and part of the client port. */
export function metricsRoutes(services: Services, metrics: Registry): Hono {
  const app = new Hono();
  addHealthRoutes(app, services);
  addGetRoute(app, "/metrics", async () => {
    const text = await metrics.metrics();
    return new Response(text, { headers: { "content-type": metrics.contentType } });
  });
  return app;
}

/**
 * For the peer port: who is who, as joining members and tools ask. Where members have a `secret`,
 * whoever asks must show it.
 */
export function peerRoutes(services: Services, secret: string | undefined): Hono {
  const app = new Hono();
  addGetRoute(app, "/version", (context) => context.json(versions()));
  addGetRoute(app, "/members", async (context) => {
    if (
      secret !== undefined &&
      !sameSecret(context.req.header("authorization") ?? "", `Bearer ${secret}`)
    ) {
      return context.text("the members' secret is needed\n", 401);
    }
    const { header, members } = await services.cluster.memberList(
      { linearizable: false },
      LOCAL_CALL,
    );
    return new Response(`[${members.map(memberJson).join(",")}]\n`, {
      headers: {
        "content-type": "application/json",
        "x-etcd-cluster-id": header.clusterId.toString(16),
      },
    });
  });
  return app;
}

/** By hand, since ids are numbers in etcd's answer, and JavaScript's numbers don't hold 64 bits. */
function memberJson(member: Member): string {
  const rest = JSON.stringify({
    peerURLs: member.peerUrls,
    ...(member.isLearner ? { isLearner: true } : {}),
    name: member.name,
    clientURLs: member.clientUrls,
  });
  return `{"id":${member.id},${rest.slice(1)}`;
}
