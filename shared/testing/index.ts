/**
 * `quorate/testing`: a whole cluster in memory, for the tests of apps. The members are production
 * peers; only disk and network are replaced, so semantics, errors and failover are the real ones.
 *
 *   await using cluster = await startTestCluster();
 *   const store = cluster.connect();
 *   await app(store);
 *   cluster.member(0).cutClients(); // what does the app do now?
 */
export { TestCluster, TestMember, startTestCluster } from "./test-cluster.ts";
export type { TestClusterOptions, TestConnectOptions } from "./test-cluster.ts";
