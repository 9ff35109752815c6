/** The API suite on Debian's etcd: the referee of the suite itself. */
import { startEtcd } from "../support/cluster.ts";
import { describeWithTools, etcdLabel } from "../support/tools.ts";
import { ALL_SUITES, clusterTarget } from "./all-suites.ts";
import { PROGRESS_NOTIFY, runApiSuites } from "./api-suite.ts";

const flags = [`--experimental-watch-progress-notify-interval=${PROGRESS_NOTIFY}`];

for (const members of [1, 3]) {
  describeWithTools(["etcd"], `API on etcd, ${members} member(s)`, () => {
    const start = async () => clusterTarget(await startEtcd({ members, flags }));
    runApiSuites({ label: etcdLabel(), members, start }, ALL_SUITES);
  });
}
