/**
 * A cluster of production peers (`startPeer`) on simulated hosts, with what must hold in it at
 * every moment: one leader per term, and committed entries that are the same everywhere and for
 * ever.
 */
import { createHash } from "node:crypto";
import { crc32c } from "../../shared/base/crc32c.ts";
import type { Host } from "../../shared/peer/host.ts";
import type { Peer, PeerConfig, PeerMember } from "../../shared/peer/peer.ts";
import { RESUMED } from "../../shared/peer/consensus/snapshots.ts";
import { MemberRemovedError } from "../../shared/peer/membership-keeper.ts";
import { startPeer } from "../../shared/peer/start-peer.ts";
import type { Message } from "../../shared/raft/types.ts";
import type { LogStore } from "../../shared/raft/log-store.ts";
import { WalDamageError } from "../../node-runner/wal/replay.ts";
import { urlOf } from "./operators.ts";
import type { BackendOrder, DiskPoint } from "./sim-backend.ts";
import { SimDisk } from "./sim-disk.ts";
import { SimNetwork } from "./sim-network.ts";
import { SimProcess } from "./sim-process.ts";
import type { World } from "./world.ts";

export const TICK_MILLISECONDS = 100;
/** Clocks run up to this much too slow or too fast. */
export const CLOCK_DRIFT = 0.02;
const CLUSTER_ID = 0x51n;

export interface SimMember {
  readonly id: bigint;
  readonly name: string;
  readonly disk: SimDisk;
  process: SimProcess | undefined;
  peer: Peer | undefined;
  log: LogStore | undefined;
  /** Committed entries up to here were compared since this start. */
  compared: number;
  /** It was added to a running cluster. */
  readonly joins: boolean;
  /** Its removal was asked for: it may stop for good. */
  mayLeave: boolean;
  hasLeft: boolean;
}

export interface ClusterOptions {
  readonly size: number;
  /** Few ticks make candidates of one term meet. */
  readonly electionTicks: number;
  readonly compactLogEvery: number;
  readonly catchUpEntries: number;
  /** Of a disk's flush, at most, when nothing is wrong. */
  readonly flushMilliseconds: number;
  readonly segmentBytes: number;
  readonly backendOrder: BackendOrder;
  readonly strictReconfigCheck: boolean;
  readonly leaseReads: boolean;
}

export class SimCluster {
  readonly world: World;
  readonly network: SimNetwork;
  /** Those that have not stopped for good. The first `size` of them founded the cluster. */
  readonly members: SimMember[];
  /** Told of each start of a peer. */
  started: (member: SimMember, peer: Peer) => void = () => {};
  /** Told of each message of raft when it is sent. */
  sent: (message: Message) => void = () => {};
  /** Told when a member's storage is at a point where a crash is worth most. */
  reached: (member: SimMember, point: DiskPoint) => void = () => {};
  /** Told of a member that stopped, or didn't start, because of its disk. */
  broken: (member: SimMember) => void = () => {};
  starts = 0;
  /** Starts that were refused because of rot. */
  refusals = 0;
  /** Stops because the disk had failed. */
  diskFaults = 0;
  /** Snapshot streams that went on behind a break. */
  resumed = 0;
  /** Members that stopped because they were removed. */
  removals = 0;
  /** Reads under a lease, of members that were started again since. */
  #leaseReadsBefore = 0;
  readonly #options: ClusterOptions;
  readonly #founders: readonly PeerMember[];
  readonly #leaders = new Map<number, string>();
  /** Checksum of each committed entry, by index. */
  readonly #committed = new Map<number, number>();

  constructor(world: World, options: ClusterOptions) {
    this.world = world;
    this.#options = options;
    this.network = new SimNetwork(world);
    this.network.observe = (message) => this.#observe(message);
    this.members = Array.from({ length: options.size }, (_, place) =>
      this.#newMember(BigInt(place + 1), `m${place + 1}`, { joins: false }),
    );
    this.#founders = this.members.map(describeMember);
  }

  /**
   * Starts a member that was added to the cluster, on a new disk; once, whether it was the answer or
   * the list of members that told of it first.
   */
  admit(id: bigint, name: string): SimMember {
    const known = this.members.find((member) => member.id === id);
    if (known !== undefined) return known;
    const member = this.#newMember(id, name, { joins: true });
    this.members.push(member);
    this.start(member);
    return member;
  }

  start(member: SimMember): void {
    if (member.process !== undefined || member.hasLeft) return;
    const { world } = this;
    this.starts += 1;
    world.note(`${member.name} starts`);
    const process = new SimProcess(world, { name: member.name, clockRate: this.#clockRate() });
    member.process = process;
    const { disk } = member;
    try {
      const { log, backend } = disk.open(process, {
        onFault: (fault) => this.#failed(member, process, fault),
        reached: (point) => this.reached(member, point),
        ignored: () => world.fail(`${member.name} goes on after a flush has failed`),
      });
      member.log = log;
      member.compared = 0;
      const host = this.#host(member, process, { log, backend });
      const peer = startPeer(host, this.#config(member));
      member.peer = peer;
      this.started(member, peer);
    } catch (error) {
      this.#notStarted(member, error);
    }
  }

  /** Reads that were answered under a leader's lease. */
  get leaseReads(): number {
    const now = this.members.map(({ peer }) => peer?.raftStatus().leaseReads ?? 0);
    return now.reduce((sum, each) => sum + each, this.#leaseReadsBefore);
  }

  crash(member: SimMember): void {
    if (member.process === undefined) return;
    this.#leaseReadsBefore += member.peer?.raftStatus().leaseReads ?? 0;
    this.world.note(`${member.name} crashes`);
    member.process.kill();
    member.disk.crash(this.world.prng);
    member.process = undefined;
    member.peer = undefined;
    member.log = undefined;
  }

  /** To be called often: compares what members newly hold as committed. */
  check(): void {
    for (const member of this.members) {
      const { peer, log } = member;
      if (peer === undefined || log === undefined) continue;
      const { commit, role, term } = peer.raftStatus();
      if (role === "leader") this.#leads(member.id.toString(), term);
      const last = Math.min(commit, log.lastIndex);
      const first = Math.max(member.compared + 1, log.firstIndex);
      if (last < first) continue;
      for (const entry of log.slice(first, last + 1, Number.POSITIVE_INFINITY)) {
        const sum = crc32c(entry.data, { previous: entry.term + entry.index * 7919 });
        const known = this.#committed.get(entry.index);
        if (known === undefined) this.#committed.set(entry.index, sum);
        else if (known !== sum) this.world.fail(`two entries committed at ${entry.index}`);
      }
      member.compared = last;
    }
  }

  #newMember(id: bigint, name: string, options: { joins: boolean }): SimMember {
    const { flushMilliseconds, segmentBytes, backendOrder: order } = this.#options;
    const identity = { clusterId: CLUSTER_ID, memberId: id };
    return {
      ...options,
      id,
      name,
      disk: new SimDisk({ ...identity, flushMilliseconds, segmentBytes, order }),
      process: undefined,
      peer: undefined,
      log: undefined,
      compared: 0,
      mayLeave: false,
      hasLeft: false,
    };
  }

  /** It was removed from the cluster, and has heard so. */
  #left(member: SimMember): void {
    if (!member.mayLeave) this.world.fail(`${member.name} left although nobody removed it`);
    this.crash(member);
    member.hasLeft = true;
    this.members.splice(this.members.indexOf(member), 1);
    this.removals += 1;
    this.world.note(`${member.name} has left`);
  }

  #host(member: SimMember, process: SimProcess, storage: Pick<Host, "log" | "backend">): Host {
    const { world } = this;
    return {
      ...storage,
      transport: this.network.attach(member.id.toString(), process),
      now: () => process.now(),
      wallClock: () => process.wallClock(),
      schedule: (milliseconds, run) => process.after(milliseconds / process.clockRate, run),
      defer: (run) => {
        process.after(0, run);
      },
      randomBytes: (count) => Uint8Array.from({ length: count }, () => process.prng.below(256)),
      sha256: () => {
        const hash = createHash("sha256");
        return {
          update: (bytes) => {
            hash.update(bytes);
          },
          digest: () => new Uint8Array(hash.digest()),
        };
      },
      report: (level, message, fields) => {
        if (message === RESUMED) this.resumed += 1;
        if (level !== "warn" && level !== "error") return;
        const error = fields?.["error"];
        world.note(`${member.name} ${message}: ${error instanceof Error ? error.message : ""}`);
      },
      fatal: (error) => this.#failed(member, process, error),
    };
  }

  /** The process ends; that is right only if its disk has failed. */
  #failed(member: SimMember, process: SimProcess, error: Error): void {
    const { world } = this;
    if (!process.alive) return;
    if (error instanceof MemberRemovedError) return this.#left(member);
    if (!member.disk.hasFailed) {
      world.fail(`${member.name} stopped: ${error.stack ?? error.message}`);
      return;
    }
    world.note(`${member.name} stopped: ${error.message}`);
    this.diskFaults += 1;
    this.crash(member);
    this.broken(member);
  }

  #notStarted(member: SimMember, error: unknown): void {
    const { world } = this;
    const { disk, process } = member;
    if (member.peer !== undefined || process?.alive !== true) return;
    if (error instanceof MemberRemovedError) return this.#left(member);
    const text = error instanceof Error ? error.message : String(error);
    if (error instanceof WalDamageError && disk.isRotten) {
      this.refusals += 1;
    } else if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) {
      const stack = error instanceof Error ? error.stack : undefined;
      world.fail(`${member.name} did not start: ${stack ?? text}`);
      return;
    }
    world.note(`${member.name} did not start: ${text}`);
    this.crash(member);
    this.broken(member);
  }

  #observe(message: Message): void {
    this.world.note(`${message.from}>${message.to} ${message.type} t${message.term}`);
    if (message.type === "append" || message.type === "heartbeat") {
      this.#leads(message.from, message.term);
    }
    this.sent(message);
  }

  #leads(id: string, term: number): void {
    const other = this.#leaders.get(term);
    if (other === undefined) this.#leaders.set(term, id);
    else if (other !== id) this.world.fail(`${other} and ${id} both lead term ${term}`);
  }

  #clockRate(): number {
    return 1 + (this.world.prng.below(1001) / 500 - 1) * CLOCK_DRIFT;
  }

  #config(member: SimMember): PeerConfig {
    const others = this.members.filter((other) => other !== member);
    return {
      clusterId: CLUSTER_ID,
      memberId: member.id,
      name: member.name,
      clientUrls: [`http://client.${member.name}`],
      bootstrapMembers: member.joins ? [] : this.#founders,
      joinThrough: member.joins ? others.map(describeMember) : [],
      forceNewCluster: false,
      strictReconfigCheck: this.#options.strictReconfigCheck,
      learnersMax: 1,
      tickMilliseconds: TICK_MILLISECONDS,
      electionTicks: this.#options.electionTicks,
      leaseReads: this.#options.leaseReads,
      requestBytesMax: 1_500_000,
      txnOpsMax: 128,
      quotaBytes: 2_000_000_000,
      compactLogEvery: this.#options.compactLogEvery,
      catchUpEntries: this.#options.catchUpEntries,
      progressNotifyMilliseconds: 10_000,
    };
  }
}

function describeMember({ id, name }: SimMember): PeerMember {
  return { id, name, peerUrls: [urlOf(name)] };
}
