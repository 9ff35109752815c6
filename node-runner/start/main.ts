/**
 * `npm start`, on a modern Node: starts the peers and the edge, says where they are and what to
 * try, and stops all of them at Ctrl-C. Data stay in the data directory.
 */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { onParentGone } from "../parent-pipe.ts";
import type { EdgeOptions } from "./edge.ts";
import { demandSameCluster } from "./kept-cluster.ts";
import {
  OptionError,
  parseStartOptions,
  START_HELP,
  type MemberPorts,
  type StartOptions,
} from "./options.ts";
import { isPortFree } from "./ports.ts";
import { StartedProcess } from "./started-process.ts";

/** By then voters that can reach each other have elected one of them many times over. */
const ELECTION_MILLISECONDS = 60_000;

const ROOT = resolve(import.meta.dirname, "..", "..");

/** Everything that runs, so that it can be stopped whatever happens in between. */
class Running {
  readonly #processes: StartedProcess[] = [];
  #stopping: Promise<void> | undefined;

  get isStopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** Starts one more; `again`: what a user can do once it has ended by itself. */
  start(name: string, command: readonly string[], where: { logDir: string; again: string }) {
    const { logDir, again } = where;
    const started = new StartedProcess({ name, command, logDir, workingDir: ROOT });
    this.#processes.push(started);
    started.onExit((problem) => {
      if (!this.isStopping) say(`quorate: ${problem}\n${again}`);
    });
    return started.ready;
  }

  /** Stops all; calling again waits for the same end. */
  stop(): Promise<void> {
    this.#stopping ??= Promise.all(this.#processes.map((each) => each.stop())).then(
      () => undefined,
    );
    return this.#stopping;
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function main(): Promise<void> {
  const options = parseStartOptions(process.argv.slice(2));
  if (options === undefined) {
    say(START_HELP);
    return;
  }
  await demandFreePorts(options);
  const running = new Running();
  const stop = (): void => {
    if (!running.isStopping) say("\nquorate: stopping");
    void running.stop().then(() => process.exit(0));
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  onParentGone(stop);
  try {
    await startAll(options, running);
  } catch (error) {
    if (running.isStopping) return;
    await running.stop();
    throw error;
  }
}

async function demandFreePorts(options: StartOptions): Promise<void> {
  const wanted = options.members.flatMap((member) => [
    { port: member.clientPort, use: `clients of ${member.name}` },
    { port: member.peerPort, use: `other members to reach ${member.name}` },
  ]);
  const { edgePort } = options;
  if (edgePort !== undefined) wanted.push({ port: edgePort, use: "the edge worker" });
  for (const { port, use } of wanted) {
    if (await isPortFree(port)) continue;
    const flag = port === edgePort ? "--edge-port" : "--port";
    throw new OptionError(
      `port ${port} (for ${use}) is busy. Stop what listens there - perhaps another \`npm start\` or an etcd - ` +
        `or choose other ports: npm start -- ${flag} P (beside another \`npm start\`: --port P --edge-port Q --data-dir DIR)`,
    );
  }
}

async function startAll(options: StartOptions, running: Running): Promise<void> {
  const dataDir = resolve(ROOT, options.dataDir);
  const logDir = join(dataDir, "log");
  try {
    mkdirSync(logDir, { recursive: true });
    demandSameCluster(options, dataDir);
  } catch (error) {
    if (error instanceof OptionError) throw error;
    throw new OptionError(`--data-dir can't be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const { members, voters, edgePort } = options;
  const count = voters ?? members.length;
  const peers = `${count} ${count === 1 ? "peer" : "peers"}`;
  say(
    `quorate: starting ${peers}${voters === undefined ? "" : " in Durable Objects"}, data in ${options.dataDir}`,
  );
  await Promise.all([
    edgePort === undefined ? undefined : startEdge(options, running, { edgePort, logDir }),
    ...members.map(async (member) => {
      const flags = memberFlags(member, options, dataDir);
      await running.start(member.name, [join("node-runner", "bin", "quorate.js"), ...flags], {
        logDir,
        again: `  to start it again, in another terminal: npx quorate ${flags.join(" ")}`,
      });
      say(`quorate: ${member.name} serves on ${clientUrl(member)}`);
    }),
  ]);
  if (running.isStopping) return;
  say(introduction(options));
  say("quorate is ready");
}

async function startEdge(
  { members, voters, dataDir }: StartOptions,
  running: Running,
  { edgePort, logDir }: { edgePort: number; logDir: string },
): Promise<void> {
  const options: EdgeOptions = {
    port: edgePort,
    peers: voters === undefined ? members.map(clientUrl) : "durable",
    variables: voters === undefined ? {} : { QUORATE_VOTERS: String(voters) },
    dataDir: join(resolve(ROOT, dataDir), voters === undefined ? "edge" : "serverless"),
  };
  const script = join("node-runner", "start", "edge-main.ts");
  const again = "  to have it back: Ctrl-C, and npm start again";
  await running.start("edge", [script, JSON.stringify(options)], { logDir, again });
  if (voters !== undefined) await healthy(edgePort, running);
  say(`quorate: the edge worker serves on http://127.0.0.1:${edgePort}`);
}

/** Waits until the voters in the edge have a leader. */
async function healthy(port: number, running: Running): Promise<void> {
  const until = Date.now() + ELECTION_MILLISECONDS;
  while (!running.isStopping) {
    const answer = await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.status === 200) return;
    if (Date.now() > until) throw new Error("the voters in the edge worker elect no leader");
    await sleep(100);
  }
}

function clientUrl(member: MemberPorts): string {
  return `http://127.0.0.1:${member.clientPort}`;
}

function memberFlags(member: MemberPorts, options: StartOptions, dataDir: string): string[] {
  const peerUrl = (each: MemberPorts): string => `http://127.0.0.1:${each.peerPort}`;
  return [
    `--name=${member.name}`,
    `--data-dir=${join(dataDir, member.name)}`,
    `--listen-client-urls=${clientUrl(member)}`,
    `--advertise-client-urls=${clientUrl(member)}`,
    `--listen-peer-urls=${peerUrl(member)}`,
    `--initial-advertise-peer-urls=${peerUrl(member)}`,
    `--initial-cluster=${options.members.map((each) => `${each.name}=${peerUrl(each)}`).join(",")}`,
    "--initial-cluster-token=quorate-local",
  ];
}

function introduction({ members, edgePort }: StartOptions): string {
  const edge = `http://127.0.0.1:${edgePort}`;
  const to = members[0] === undefined ? { edge } : { endpoints: [clientUrl(members[0])] };
  const client =
    `import { connect } from "./shared/client/index.ts"; const store = connect(${JSON.stringify(to)}); ` +
    'await store.put("greeting", "hello"); console.log((await store.get("greeting")).value); await store.close()';
  const lines = ["", "Try:"];
  if (edgePort !== undefined) {
    lines.push(
      `  curl -X PUT --data hello '${edge}/kv?key=greeting' && curl '${edge}/kv?key=greeting'`,
    );
  }
  if (members.length > 0) {
    const endpoints = members.map((member) => `127.0.0.1:${member.clientPort}`).join(",");
    lines.push(`  etcdctl --endpoints=${endpoints} put greeting hello`);
  }
  lines.push(`  npx node --input-type=module -e '${client}'`, "  npm test", "");
  return lines.join("\n");
}

try {
  await main();
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  process.stderr.write(`quorate: ${text}\n`);
  process.exitCode = 1;
}
