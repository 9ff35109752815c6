/** The interop suites on Debian's etcd: they must pass where the clients come from before they judge Quorate. */
import { startEtcd } from "../support/cluster.ts";
import { describeWithTools } from "../support/tools.ts";
import { etcd3Suite } from "./etcd3-suite.ts";
import { etcdctlSuite } from "./etcdctl-suite.ts";

const MEMBERS = 3;

describeWithTools(["etcd", "etcdctl"], "etcdctl on etcd, 3 members", () => {
  etcdctlSuite(MEMBERS, () => startEtcd({ members: MEMBERS }));
});

describeWithTools(["etcd"], "npm etcd3 on etcd, 1 member", () => {
  etcd3Suite(() => startEtcd());
});
