/** The API suite on Quorate's own peers: one, and a cluster of three. */
import { describe } from "vitest";
import { startQuorate } from "../support/cluster.ts";
import { ALL_SUITES, clusterTarget } from "./all-suites.ts";
import { PROGRESS_NOTIFY, runApiSuites } from "./api-suite.ts";

const flags = [`--watch-progress-notify-interval=${PROGRESS_NOTIFY}`];

for (const members of [1, 3]) {
  describe(`API on quorate, ${members} member(s)`, () => {
    const start = async () => clusterTarget(await startQuorate({ members, flags }));
    runApiSuites({ label: "quorate", members, start }, ALL_SUITES);
  });
}
