/**
 * `npm start`, on a modern Node: starts the peers and the edge, says where they are and what to
 * try, and stops all of them at Ctrl-C. Data stay in the data directory.
 */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { onParentGone } from "../parent-pipe.ts";
import type { RunningEdge } from "./edge.ts";
import { MemberProcess } from "./member.ts";
import {
  OptionError,
  parseStartOptions,
  START_HELP,
  type MemberPorts,
  type StartOptions,
} from "./options.ts";
import { isPortFree } from "./ports.ts";

/** By then voters that can reach each other have elected one of them many times over. */
const ELECTION_MILLISECONDS = 60_000;

const ROOT = resolve(import.meta.dirname, "..", "..");

/** Everything that runs, so that it can be stopped whatever happens in between. */
class Running {
  readonly members: MemberProcess[] = [];
  edge: RunningEdge | undefined;
  #stopping: Promise<void> | undefined;

  get isStopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** Stops all, the edge first; calling again waits for the same end. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    await Promise.all([this.edge?.stop(), ...this.members.map((member) => member.stop())]);
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
    { port: member.clientPort, use: `clients of ${member.name}`, flag: "--port" },
    { port: member.peerPort, use: `other members to reach ${member.name}`, flag: "--port" },
  ]);
  if (options.edgePort !== undefined) {
    wanted.push({ port: options.edgePort, use: "the edge worker", flag: "--edge-port" });
  }
  for (const { port, use, flag } of wanted) {
    if (await isPortFree(port)) continue;
    throw new OptionError(
      `port ${port} (for ${use}) is busy. Stop what listens there - perhaps another \`npm start\` or an etcd - ` +
        `or choose other ports: npm start -- ${flag} P`,
    );
  }
}

async function startAll(options: StartOptions, running: Running): Promise<void> {
  const dataDir = resolve(ROOT, options.dataDir);
  const logDir = join(dataDir, "log");
  mkdirSync(logDir, { recursive: true });
  const peers =
    options.voters === undefined
      ? `${options.members.length} peer(s)`
      : `${options.voters} peer(s) in Durable Objects`;
  say(`quorate: starting ${peers}, data in ${options.dataDir}`);
  for (const member of options.members) {
    const started = new MemberProcess({
      name: member.name,
      args: memberFlags(member, options, dataDir),
      logFile: join(logDir, `${member.name}.log`),
      root: ROOT,
    });
    running.members.push(started);
    started.onExit((problem) => {
      if (!running.isStopping) say(`quorate: ${problem}; the log is in ${logDir}`);
    });
  }
  const edge =
    options.edgePort === undefined ? undefined : startLocalEdge(options, running, options.edgePort);
  await Promise.all([
    edge,
    ...running.members.map(async (member, position) => {
      await member.ready;
      say(
        `quorate: ${member.name} serves on ${clientUrl(options.members[position] as MemberPorts)}`,
      );
    }),
  ]);
  if (running.isStopping) return;
  say(introduction(options));
  say("quorate is ready");
}

async function startLocalEdge(
  options: StartOptions,
  running: Running,
  port: number,
): Promise<void> {
  // Loaded only now: wrangler is large, and help or a refusal shouldn't wait for it.
  const { startEdge } = await import("./edge.ts");
  const { voters, members } = options;
  running.edge = await startEdge({
    port,
    peers: voters === undefined ? members.map(clientUrl) : "durable",
    variables: voters === undefined ? {} : { QUORATE_VOTERS: String(voters) },
    dataDir: join(resolve(ROOT, options.dataDir), voters === undefined ? "edge" : "serverless"),
  });
  if (voters !== undefined) await healthy(port, running);
  say(`quorate: the edge worker serves on http://127.0.0.1:${port}`);
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
