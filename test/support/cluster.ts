/**
 * Clusters of real processes on free ports of 127.0.0.1 with data in temporary directories: Debian's etcd, the referee,
 * and Quorate's own peers. Both take etcd's flags, so one class runs both.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Child } from "./child.ts";
import { freePorts } from "./ports.ts";
import { makeTempDir, removeTempDir } from "./temp-dir.ts";
import { findTool } from "./tools.ts";

/** A member logs it once it serves. */
export const READY_TEXT = "ready to serve client requests";
const READY_MILLISECONDS = 20_000;

export interface ClusterOptions {
  /** How many members, 1 unless told. */
  readonly members?: number;
  /** Further flags for every member, or for each by its number from 0. */
  readonly flags?: readonly string[] | ((index: number) => readonly string[]);
  /** The ports that have TLS; none unless told. */
  readonly tls?: readonly ("client" | "peer")[];
  readonly env?: Readonly<Record<string, string>>;
  /** What a member's log says once its start is done, by its number from 0; that it is ready, unless told. */
  readonly readyText?: (index: number) => string;
  /** Puts something before a member's peer port: gets the port, returns the one to advertise. */
  readonly advertised?: (peerPort: number) => Promise<number>;
}

/** What runs a member; it takes etcd's flags behind its own arguments. */
export interface Program {
  readonly label: string;
  readonly command: string;
  readonly args: readonly string[];
}

/** One member, which may be stopped, killed and started again on the same data and ports. */
export class Member {
  readonly name: string;
  /** `host:port` of the client listener. */
  readonly address: string;
  readonly dataDir: string;
  readonly #program: Program;
  /** What the program is started with. */
  readonly flags: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #readyText: string;
  #child: Child | undefined;

  constructor(options: {
    name: string;
    address: string;
    dataDir: string;
    program: Program;
    flags: readonly string[];
    env: Readonly<Record<string, string>>;
    readyText: string;
  }) {
    this.name = options.name;
    this.address = options.address;
    this.dataDir = options.dataDir;
    this.#program = options.program;
    this.flags = options.flags;
    this.#env = options.env;
    this.#readyText = options.readyText;
  }

  get child(): Child {
    if (this.#child === undefined) throw new Error(`member ${this.name} was never started`);
    return this.#child;
  }

  /** Resolves once it serves. `env` is for this start alone. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.launch(env);
    await this.ready();
  }

  /** Starts the process and doesn't wait for it to serve. */
  async launch(env: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#child = await Child.start({
      command: this.#program.command,
      args: [...this.#program.args, ...this.flags],
      env: { ...this.#env, ...env },
      cwd: dirname(this.dataDir),
    });
  }

  /** Rejects with the end of its log when it ends before it serves, or doesn't serve in time. */
  async ready(): Promise<void> {
    await this.child.logged(this.#readyText, READY_MILLISECONDS);
  }

  async stop(): Promise<void> {
    await this.#child?.stop();
  }

  /** SIGKILL, and waits until the process is gone. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.ended();
  }
}

export class Cluster {
  readonly label: string;
  readonly members: readonly Member[];
  readonly #root: string;

  constructor(label: string, members: readonly Member[], root: string) {
    this.label = label;
    this.members = members;
    this.#root = root;
  }

  get addresses(): string[] {
    return this.members.map((member) => member.address);
  }

  /** Stops every member and removes its data. */
  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.stop()));
    removeTempDir(this.#root);
  }
}

async function startCluster(program: Program, options: ClusterOptions): Promise<Cluster> {
  const count = options.members ?? 1;
  const ports = await freePorts(2 * count);
  const root = makeTempDir(program.label);
  const names = Array.from({ length: count }, (_, index) => `m${index + 1}`);
  const scheme = (port: "client" | "peer") =>
    options.tls?.includes(port) === true ? "https" : "http";
  const peerPorts = ports.slice(count);
  const advertise = options.advertised ?? ((port: number) => Promise.resolve(port));
  const advertised = await Promise.all(peerPorts.map((port) => advertise(port)));
  const peerUrl = (port: number | undefined) => `${scheme("peer")}://127.0.0.1:${port}`;
  const advertisedUrl = (index: number) => peerUrl(advertised[index]);
  const initialCluster = names.map((name, index) => `${name}=${advertisedUrl(index)}`).join(",");
  const members = names.map((name, index) => {
    const address = `127.0.0.1:${ports[index]}`;
    const flags = [
      `--name=${name}`,
      `--data-dir=${join(root, name)}`,
      `--listen-client-urls=${scheme("client")}://${address}`,
      `--advertise-client-urls=${scheme("client")}://${address}`,
      `--listen-peer-urls=${peerUrl(peerPorts[index])}`,
      `--initial-advertise-peer-urls=${advertisedUrl(index)}`,
      `--initial-cluster=${initialCluster}`,
      `--initial-cluster-token=${root.slice(-6)}`,
      "--initial-cluster-state=new",
      ...(typeof options.flags === "function" ? options.flags(index) : (options.flags ?? [])),
    ];
    const env = options.env ?? {};
    const readyText = options.readyText?.(index) ?? READY_TEXT;
    return new Member({ name, address, dataDir: join(root, name), program, flags, env, readyText });
  });
  const cluster = new Cluster(program.label, members, root);
  const starts = await Promise.allSettled(members.map((member) => member.start()));
  const failed = starts.find((start) => start.status === "rejected");
  if (failed !== undefined) {
    await cluster.stop();
    throw failed.reason;
  }
  return cluster;
}

/** Debian's etcd (package etcd-server). */
export async function startEtcd(options: ClusterOptions = {}): Promise<Cluster> {
  const command = findTool("etcd");
  if (command === undefined) throw new Error("etcd isn't installed (Debian: etcd-server)");
  return startCluster({ label: "etcd", command, args: [] }, options);
}

/** The peer's entry, to be run with this Node. */
export const MAIN = fileURLToPath(new URL("../../node-runner/main.ts", import.meta.url));

/** Quorate's peers, started directly (not through npx), so that signals reach them. */
export async function startQuorate(
  options: ClusterOptions & { readonly program?: Program } = {},
): Promise<Cluster> {
  const direct = { label: "quorate", command: process.execPath, args: [MAIN] };
  return startCluster(options.program ?? direct, options);
}
