/** Unchanged etcd clients on Quorate's peers. */
import { describe } from "vitest";
import { startQuorate } from "../support/cluster.ts";
import { describeWithTools } from "../support/tools.ts";
import { etcd3Suite } from "./etcd3-suite.ts";
import { etcdctlSuite } from "./etcdctl-suite.ts";

for (const members of [1, 3]) {
  describeWithTools(["etcdctl"], `etcdctl on quorate, ${members} member(s)`, () => {
    etcdctlSuite(members, () => startQuorate({ members }));
  });

  describe(`npm etcd3 on quorate, ${members} member(s)`, () => {
    etcd3Suite(() => startQuorate({ members }));
  });
}
