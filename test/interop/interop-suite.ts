/** What the interop suites share: a running cluster, started once for all tests of one client on one target. */
import { afterAll, beforeAll } from "vitest";
import type { Cluster } from "../support/cluster.ts";

/** Starts a cluster before the tests of the enclosing `describe`; the result gives it to them. */
export function clusterForSuite(start: () => Promise<Cluster>): () => Cluster {
  let cluster: Cluster | undefined;
  beforeAll(async () => {
    cluster = await start();
  });
  afterAll(async () => {
    await cluster?.stop();
  });
  return () => {
    if (cluster === undefined) throw new Error("the cluster didn't start");
    return cluster;
  };
}
