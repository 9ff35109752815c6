/** The API suite through etcd's JSON gateway: Debian's etcd's own, and Quorate's. */
import { describe } from "vitest";
import { startEtcd, startQuorate } from "../support/cluster.ts";
import { describeWithTools, etcdLabel } from "../support/tools.ts";
import { GATEWAY_SUITES, gatewayTarget } from "./all-suites.ts";
import { PROGRESS_NOTIFY, runApiSuites } from "./api-suite.ts";

const door = "gateway";
const members = 1;

describeWithTools(["etcd"], "API on etcd by its gateway", () => {
  const flags = [`--experimental-watch-progress-notify-interval=${PROGRESS_NOTIFY}`];
  const start = async () => gatewayTarget(await startEtcd({ flags }));
  runApiSuites({ label: etcdLabel(), door, members, start }, GATEWAY_SUITES);
});

describe("API on quorate by its gateway", () => {
  const flags = [`--watch-progress-notify-interval=${PROGRESS_NOTIFY}`];
  const start = async () => gatewayTarget(await startQuorate({ flags }));
  runApiSuites({ label: "quorate", door, members, start }, GATEWAY_SUITES);
});
