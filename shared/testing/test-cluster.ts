/**
 * A cluster in memory, with the faults that an app should survive: members that stop, lose each
 * other or drop their clients, leases that end. Time is real, but runs shorter than in production:
 * an election takes a fifth of a second.
 */
import { LIMITS } from "../base/limits.ts";
import { connect } from "../client/index.ts";
import type { ConnectOptions, Store } from "../client/index.ts";
import { defaultPlatform } from "../client/platform.ts";
import { serveLink } from "../peer/link-service.ts";
import type { LinkPort, LinkSession } from "../peer/link-service.ts";
import type { Peer } from "../peer/peer.ts";
import { PATIENT } from "../peer/service/leader-calls.ts";
import type { Services } from "../peer/services.ts";
import { startPeer } from "../peer/start-peer.ts";
import { MemoryHost, memoryDisk } from "./memory-host.ts";
import type { MemoryDisk } from "./memory-host.ts";
import { MemoryNetwork } from "./memory-network.ts";
import { MemorySocket } from "./memory-socket.ts";
import { defer } from "./turn.ts";

export interface TestClusterOptions {
  /** One by default: it starts in a moment. Faults of members need three. */
  readonly members?: number | undefined;
  /** What the members log; nobody listens by default. */
  readonly report?: ((member: string, message: string) => void) | undefined;
}

export interface TestConnectOptions extends Omit<
  ConnectOptions,
  "endpoints" | "edge" | "platform"
> {
  /** The members to use, by their position; all by default. */
  readonly to?: readonly number[] | undefined;
}

const CLUSTER_ID = 0x7e57n;
const TICK_MILLISECONDS = 20;

/** Resolves once the cluster serves. */
export async function startTestCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const cluster = new TestCluster(options);
  await cluster.ready();
  return cluster;
}

export class TestCluster implements AsyncDisposable {
  readonly members: readonly TestMember[];
  readonly #network = new MemoryNetwork(defer);
  readonly #stores: Store<string>[] = [];

  constructor(options: TestClusterOptions = {}) {
    const ids = Array.from({ length: options.members ?? 1 }, (_, place) => BigInt(place + 1));
    const report = options.report ?? (() => undefined);
    this.members = ids.map((id) => new TestMember(id, ids, { network: this.#network, report }));
    for (const member of this.members) member.start();
  }

  member(position: number): TestMember {
    const member = this.members[position];
    if (member === undefined) throw new RangeError(`there is no member ${position}`);
    return member;
  }

  /** The member that leads; undefined while none does. */
  get leader(): TestMember | undefined {
    const leading = this.members.filter((member) => member.leads);
    return leading.sort((a, b) => b.term - a.term)[0];
  }

  /** Resolves once every running member can serve. */
  async ready(): Promise<void> {
    await Promise.all(this.members.map((member) => member.ready()));
  }

  /** A client of the cluster; `stop` closes it. */
  connect(options: TestConnectOptions = {}): Store<string> {
    const { to, ...rest } = options;
    const used = to?.map((position) => this.member(position)) ?? this.members;
    const endpoints = used.map((member) => member.url);
    const platform = {
      openSocket: (url: string) => this.#memberAt(url).openSocket(),
      fetch: () => Promise.reject(new Error("the cluster in memory speaks links alone")),
    };
    const store = connect({ ...rest, endpoints, platform });
    this.#stores.push(store);
    return store;
  }

  /** Cuts a member off from the others; its clients still reach it. */
  isolate(position: number): void {
    const others = this.members.filter((_, place) => place !== position);
    const ids = others.map(({ id }) => String(id));
    this.#network.isolate(String(this.member(position).id), ids);
  }

  /** Ends all `isolate`. */
  heal(): void {
    this.#network.heal();
  }

  /** Ends a lease now, as if its time had run out; its owner hears of it at the next renewal. */
  async expireLease(lease: { readonly id: bigint }): Promise<void> {
    const running = this.members.find((member) => member.running);
    if (running === undefined) throw new Error("no member runs");
    await running.services.lease.revoke(lease.id, PATIENT);
  }

  async stop(): Promise<void> {
    for (const store of this.#stores.splice(0)) store.close();
    await Promise.all(this.members.map((member) => member.stop()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #memberAt(url: string): TestMember {
    const member = this.members.find((each) => url.startsWith(each.url.replace("http", "ws")));
    if (member === undefined) throw new Error(`no member at ${url}`);
    return member;
  }
}

interface Surroundings {
  readonly network: MemoryNetwork;
  report(member: string, message: string): void;
}

export class TestMember {
  readonly id: bigint;
  readonly url: string;
  readonly #all: readonly bigint[];
  readonly #around: Surroundings;
  #disk: MemoryDisk | undefined;
  readonly #sockets = new Set<MemorySocket>();
  #peer: Peer | undefined;
  #host: MemoryHost | undefined;

  constructor(id: bigint, all: readonly bigint[], around: Surroundings) {
    this.id = id;
    this.url = `http://member-${id}`;
    this.#all = all;
    this.#around = around;
  }

  get running(): boolean {
    return this.#peer !== undefined;
  }

  get leads(): boolean {
    return this.#peer?.raftStatus().role === "leader";
  }

  get term(): number {
    return this.#peer?.raftStatus().term ?? 0;
  }

  /** What the member can be asked without any link. */
  get services(): Services {
    if (this.#peer === undefined) throw new Error(`member ${this.id} doesn't run`);
    return this.#peer.services;
  }

  ready(): Promise<void> {
    return this.#peer?.ready() ?? Promise.resolve();
  }

  /** Starts on what it held when it stopped. */
  start(): void {
    if (this.#peer !== undefined) return;
    const name = `member-${this.id}`;
    const platform = defaultPlatform();
    this.#disk = memoryDisk(this.#disk);
    this.#host = new MemoryHost({
      disk: this.#disk,
      transport: this.#around.network.attach(String(this.id)),
      randomBytes: (count) => platform.randomBytes(count),
      report: (_level, message) => this.#around.report(name, message),
    });
    this.#peer = startPeer(this.#host, {
      clusterId: CLUSTER_ID,
      memberId: this.id,
      name,
      clientUrls: [this.url],
      bootstrapMembers: this.#all.map((id) => ({
        id,
        name: `member-${id}`,
        peerUrls: [`http://member-${id}`],
      })),
      joinThrough: [],
      forceNewCluster: false,
      strictReconfigCheck: true,
      learnersMax: LIMITS.learnersMax,
      tickMilliseconds: TICK_MILLISECONDS,
      electionTicks: LIMITS.electionTicks,
      requestBytesMax: LIMITS.requestBytesMax,
      txnOpsMax: LIMITS.txnOpsMax,
      quotaBytes: 0,
      compactLogEvery: LIMITS.compactLogEvery,
      catchUpEntries: LIMITS.catchUpEntries,
      progressNotifyMilliseconds: 60_000,
    });
  }

  /** Stops as a service does: hands its lead over, and ends its clients' links. */
  async stop(): Promise<void> {
    const peer = this.#peer;
    this.#peer = undefined;
    await peer?.stop();
    this.#silence();
  }

  /** Dies at once. */
  kill(): void {
    this.#peer = undefined;
    this.#silence();
  }

  /** Breaks the connections of its clients; it goes on serving new ones. */
  cutClients(): void {
    for (const socket of this.#sockets) socket.cut();
  }

  openSocket(): MemorySocket {
    const socket = new MemorySocket(
      (port) => this.#accept(port),
      () => this.#sockets.delete(socket),
    );
    this.#sockets.add(socket);
    return socket;
  }

  #accept(port: LinkPort): LinkSession | undefined {
    if (this.#peer === undefined) return undefined;
    const options = { clusterId: CLUSTER_ID, memberId: this.id, push: true, accepts: () => true };
    return serveLink(this.#peer.services, port, options);
  }

  #silence(): void {
    this.#host?.close();
    this.#around.network.detach(String(this.id));
    this.cutClients();
  }
}
