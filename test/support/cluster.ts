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
/** Far above what a member takes that is starved of processor time for a while. */
const READY_MILLISECONDS = 90_000;

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
  readonly peerUrl: string;
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
    peerUrl: string;
    program: Program;
    flags: readonly string[];
    env: Readonly<Record<string, string>>;
    readyText: string;
  }) {
    this.name = options.name;
    this.address = options.address;
    this.dataDir = options.dataDir;
    this.peerUrl = options.peerUrl;
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

  /** Starts it where it is expected to end by itself; returns its exit code and its log. */
  async startAndEnd(): Promise<{ code: number | null; log: string }> {
    await this.launch();
    await this.child.ended();
    return { code: this.child.exitCode, log: this.child.log };
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
  /** In the order of their names; those that were prepared to join stand behind the founders. */
  readonly members: Member[] = [];
  readonly #program: Program;
  readonly #options: ClusterOptions;
  readonly #root: string;

  constructor(program: Program, options: ClusterOptions) {
    this.label = program.label;
    this.#program = program;
    this.#options = options;
    this.#root = makeTempDir(program.label);
  }

  /** Makes the founders, without starting them. */
  async found(count: number): Promise<void> {
    const places = await this.#freePlaces(count);
    for (const place of places) this.members.push(this.#member(place, places, "new"));
  }

  /** A member that will join `others`, once one of them was told of it by its peer URL. */
  async prepare(others: readonly Member[]): Promise<Member> {
    const [member] = await this.prepareSeveral(others, 1);
    if (member === undefined) throw new Error("no place");
    return member;
  }

  /** The same for several that are added at once: each lists the others of them, too. */
  async prepareSeveral(others: readonly Member[], count: number): Promise<Member[]> {
    const places = await this.#freePlaces(count);
    const all = [...others, ...places];
    const members = places.map((place) => this.#member(place, all, "existing"));
    this.members.push(...members);
    return members;
  }

  async #freePlaces(count: number): Promise<Place[]> {
    const scheme = (port: "client" | "peer"): string =>
      this.#options.tls?.includes(port) === true ? "https" : "http";
    const ports = await freePorts(2 * count);
    const peerPorts = ports.slice(count);
    const advertise = this.#options.advertised ?? ((port: number) => Promise.resolve(port));
    const advertised = await Promise.all(peerPorts.map((port) => advertise(port)));
    return Array.from({ length: count }, (_, index) => ({
      index: this.members.length + index,
      name: `m${this.members.length + index + 1}`,
      address: `127.0.0.1:${ports[index]}`,
      clientUrl: `${scheme("client")}://127.0.0.1:${ports[index]}`,
      listenPeerUrl: `${scheme("peer")}://127.0.0.1:${peerPorts[index]}`,
      peerUrl: `${scheme("peer")}://127.0.0.1:${advertised[index]}`,
    }));
  }

  #member(
    place: Place,
    all: readonly Pick<Member, "name" | "peerUrl">[],
    state: "new" | "existing",
  ): Member {
    const { index, name, address, clientUrl, listenPeerUrl, peerUrl } = place;
    const { flags: more = [], readyText, env = {} } = this.#options;
    const dataDir = join(this.#root, name);
    const flags = [
      `--name=${name}`,
      `--data-dir=${dataDir}`,
      `--listen-client-urls=${clientUrl}`,
      `--advertise-client-urls=${clientUrl}`,
      `--listen-peer-urls=${listenPeerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=${all.map((each) => `${each.name}=${each.peerUrl}`).join(",")}`,
      `--initial-cluster-token=${this.#root.slice(-6)}`,
      `--initial-cluster-state=${state}`,
      ...(typeof more === "function" ? more(index) : more),
    ];
    return new Member({
      name,
      address,
      peerUrl,
      dataDir,
      program: this.#program,
      flags,
      env,
      readyText: readyText?.(index) ?? READY_TEXT,
    });
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

/** Where a member will be found. */
interface Place {
  readonly index: number;
  readonly name: string;
  readonly address: string;
  readonly clientUrl: string;
  readonly listenPeerUrl: string;
  /** As others are told. */
  readonly peerUrl: string;
}

async function startCluster(program: Program, options: ClusterOptions): Promise<Cluster> {
  const cluster = new Cluster(program, options);
  await cluster.found(options.members ?? 1);
  const starts = await Promise.allSettled(cluster.members.map((member) => member.start()));
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
