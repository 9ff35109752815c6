/**
 * What cluster a data directory of `npm start` holds, in a file of its own: members know themselves
 * by their number and ports, and could only say that they belong to another cluster.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OptionError, type StartOptions } from "./options.ts";

const FILE = "npm-start.json";

/**
 * Notes the cluster of a new directory; throws `OptionError` when it holds another one. Serverless
 * voters are of no port, and keep their data apart.
 */
export function demandSameCluster({ members }: StartOptions, dataDir: string): void {
  const [first] = members;
  if (first === undefined) return;
  const cluster = { members: members.length, port: first.clientPort };
  const path = join(dataDir, FILE);
  if (!existsSync(path)) {
    writeFileSync(path, `${JSON.stringify(cluster)}\n`);
    return;
  }
  const kept = JSON.parse(readFileSync(path, "utf8")) as typeof cluster;
  if (kept.members === cluster.members && kept.port === cluster.port) return;
  throw new OptionError(
    `${dataDir} holds a cluster of --members ${kept.members} --port ${kept.port}: start it so, ` +
      "or choose another --data-dir",
  );
}
