/**
 * A cluster of production peers in one process: memory for disks, links of memory, and the machine's clock or one
 * that the test moves. A member can be stopped, crashed and started again on what its storage holds.
 */
import { createHash } from "node:crypto";
import { MemoryBackend } from "../../shared/backend/memory-backend.ts";
import type { Backend } from "../../shared/backend/backend.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { Prng } from "../../shared/base/prng.ts";
import type { Host, LogLevel, PeerTransport } from "../../shared/peer/host.ts";
import type { Peer, PeerConfig } from "../../shared/peer/peer.ts";
import type { CallContext } from "../../shared/peer/services.ts";
import { startPeer } from "../../shared/peer/start-peer.ts";
import { MemoryLogStore } from "../../shared/raft/memory-log-store.ts";
import { PEER_VERSION } from "../../shared/wire/peer-codec.ts";
import { RealClock } from "../../shared/testing/real-clock.ts";
import type { Clock } from "./clocks.ts";
import { MemoryNetwork } from "./memory-network.ts";

/** A caller who waits as long as the peer does. */
export const PATIENT_CALL: CallContext = {
  timeoutMilliseconds: undefined,
  requireLeader: false,
  onCancel: () => {},
};

export interface InProcessOptions {
  readonly members?: number;
  /** Absent: the machine's clock. */
  readonly clock?: Clock;
  readonly seed?: number;
  readonly config?: Partial<PeerConfig>;
  /** Logs that become durable only by `member.log.flush()`. */
  readonly explicitFlush?: boolean;
}

class MemoryHost implements Host {
  readonly log: MemoryLogStore;
  readonly backend: Backend;
  readonly transport: PeerTransport;
  readonly #member: InProcessMember;
  readonly #clock: Clock;
  readonly #prng: Prng;
  /** A host that has crashed or stopped calls nothing back any more. */
  alive = true;
  readonly #detach: () => void;

  constructor(
    member: InProcessMember,
    parts: { clock: Clock; prng: Prng; transport: PeerTransport; detach: () => void },
  ) {
    this.#member = member;
    this.log = member.log;
    this.backend = member.backend;
    this.transport = parts.transport;
    this.#clock = parts.clock;
    this.#prng = parts.prng;
    this.#detach = parts.detach;
  }

  silence(): void {
    this.alive = false;
    this.#detach();
  }

  now(): number {
    return this.#clock.now();
  }

  wallClock(): number {
    return this.#clock.now();
  }

  schedule(milliseconds: number, callback: () => void): () => void {
    return this.#clock.schedule(milliseconds, () => {
      if (this.alive) callback();
    });
  }

  defer(callback: () => void): void {
    this.#clock.defer(() => {
      if (this.alive) callback();
    });
  }

  randomBytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.#prng.below(256));
  }

  sha256(): ReturnType<Host["sha256"]> {
    const hash = createHash("sha256");
    return {
      update: (bytes) => {
        hash.update(bytes);
      },
      digest: () => new Uint8Array(hash.digest()),
    };
  }

  report(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void {
    this.#member.reports.push({ level, message, ...(fields === undefined ? {} : { fields }) });
  }

  fatal(error: Error): void {
    this.#member.fatal = error;
  }
}

export interface Report {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** One member: its storage, which outlives its peer, and the peer while it runs. */
export class InProcessMember {
  readonly id: bigint;
  readonly reports: Report[] = [];
  log: MemoryLogStore;
  backend: Backend = new MemoryBackend();
  fatal: Error | undefined;
  /** What it is started with from its next start on. */
  config: Partial<PeerConfig> = {};
  #running: { readonly peer: Peer; readonly host: MemoryHost } | undefined;
  readonly #start: (member: InProcessMember) => { peer: Peer; host: MemoryHost };

  constructor(
    id: bigint,
    log: MemoryLogStore,
    start: (member: InProcessMember) => { peer: Peer; host: MemoryHost },
  ) {
    this.id = id;
    this.log = log;
    this.#start = start;
  }

  get nodeId(): string {
    return String(this.id);
  }

  get peer(): Peer {
    if (this.#running === undefined) throw new Error(`member ${this.id} doesn't run`);
    return this.#running.peer;
  }

  get running(): boolean {
    return this.#running !== undefined;
  }

  start(): void {
    this.#running = this.#start(this);
  }

  async stop(): Promise<void> {
    await this.#running?.peer.stop();
    this.#silence();
  }

  /** Dies at once. The log keeps what was flushed, the backend what was visible. */
  crash(): void {
    this.#silence();
    this.log = this.log.crash();
  }

  #silence(): void {
    this.#running?.host.silence();
    this.#running = undefined;
  }
}

export class InProcessCluster {
  readonly members: InProcessMember[];
  readonly network: MemoryNetwork;
  readonly #clock: Clock;
  readonly #newMember: (id: bigint, config: Partial<PeerConfig>) => InProcessMember;

  constructor(
    members: readonly InProcessMember[],
    parts: {
      network: MemoryNetwork;
      clock: Clock;
      newMember: (id: bigint, config: Partial<PeerConfig>) => InProcessMember;
    },
  ) {
    this.members = [...members];
    this.network = parts.network;
    this.#clock = parts.clock;
    this.#newMember = parts.newMember;
  }

  /** Starts a member that was added under this id: empty, and told where the others are. */
  join(id: bigint, config: Partial<PeerConfig> = {}): InProcessMember {
    const joinThrough = this.members.map((each) => ({
      id: each.id,
      name: "",
      peerUrls: [`memory:${each.id}`],
    }));
    const member = this.#newMember(id, { bootstrapMembers: [], joinThrough, ...config });
    this.members.push(member);
    member.start();
    return member;
  }

  member(position: number): InProcessMember {
    const member = this.members[position];
    if (member === undefined) throw new Error(`no member ${position}`);
    return member;
  }

  /** The running member that leads in the highest term; undefined if none does. */
  get leader(): InProcessMember | undefined {
    let best: { member: InProcessMember; term: number } | undefined;
    for (const member of this.members) {
      if (!member.running) continue;
      const { role, term } = member.peer.raftStatus();
      if (role === "leader" && (best === undefined || term > best.term)) best = { member, term };
    }
    return best?.member;
  }

  get followers(): readonly InProcessMember[] {
    const { leader } = this;
    return this.members.filter((member) => member.running && member !== leader);
  }

  /** Resolves once every running member can serve. */
  async ready(): Promise<void> {
    const running = this.members.filter((member) => member.running);
    await Promise.all(running.map((member) => member.peer.ready()));
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.stop()));
    if (this.#clock instanceof RealClock) this.#clock.close();
  }
}

/** Starts it; `ready` tells when it serves. */
export function startInProcessCluster(options: InProcessOptions = {}): InProcessCluster {
  const clock = options.clock ?? new RealClock();
  const network = new MemoryNetwork(clock);
  const prng = new Prng(options.seed ?? 1);
  const ids = Array.from({ length: options.members ?? 1 }, (_, place) => BigInt(place + 1));
  const bootstrapMembers = ids.map((id) => ({ id, name: `m${id}`, peerUrls: [`memory:${id}`] }));
  const configs = new Map<bigint, Partial<PeerConfig>>();
  const start = (member: InProcessMember): { peer: Peer; host: MemoryHost } => {
    const { version = PEER_VERSION } = { ...options.config, ...member.config };
    network.versions.set(member.nodeId, version);
    const transport = network.attach(member.nodeId);
    const detach = (): void => network.detach(member.nodeId);
    const host = new MemoryHost(member, { clock, prng: prng.fork(), transport, detach });
    const peer = startPeer(host, {
      clusterId: 0xc1n,
      memberId: member.id,
      name: `m${member.id}`,
      clientUrls: [`memory:${member.id}`],
      bootstrapMembers,
      joinThrough: [],
      forceNewCluster: false,
      strictReconfigCheck: true,
      learnersMax: LIMITS.learnersMax,
      tickMilliseconds: LIMITS.tickMilliseconds,
      electionTicks: LIMITS.electionTicks,
      requestBytesMax: LIMITS.requestBytesMax,
      txnOpsMax: LIMITS.txnOpsMax,
      quotaBytes: 0,
      compactLogEvery: LIMITS.compactLogEvery,
      catchUpEntries: LIMITS.catchUpEntries,
      progressNotifyMilliseconds: 600_000,
      ...options.config,
      ...configs.get(member.id),
      ...member.config,
    });
    return { peer, host };
  };
  const flush = options.explicitFlush === true ? "explicit" : "atOnce";
  const newMember = (id: bigint, config: Partial<PeerConfig>): InProcessMember => {
    configs.set(id, config);
    return new InProcessMember(id, new MemoryLogStore({ flush }), start);
  };
  const members = ids.map((id) => newMember(id, {}));
  for (const member of members) member.start();
  return new InProcessCluster(members, { network, clock, newMember });
}
