/**
 * A cluster of production peers (`startPeer`) on simulated hosts, with what must hold in it at every moment: one leader
 * per term, and committed entries that are the same everywhere and for ever.
 */
import { createHash } from "node:crypto";
import { crc32c } from "../../shared/base/crc32c.ts";
import type { Host } from "../../shared/peer/host.ts";
import type { Peer, PeerConfig, PeerMember } from "../../shared/peer/peer.ts";
import { startPeer } from "../../shared/peer/start-peer.ts";
import type { Message } from "../../shared/raft/types.ts";
import type { Mutant } from "./mutants.ts";
import { SimDisk } from "./sim-disk.ts";
import type { SimLogStore } from "./sim-disk.ts";
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
  log: SimLogStore | undefined;
  /** Committed entries up to here were compared since this start. */
  compared: number;
}

export interface ClusterOptions {
  readonly size: number;
  /** Few ticks make candidates of one term meet. */
  readonly electionTicks: number;
  readonly compactLogEvery: number;
  readonly catchUpEntries: number;
  /** Of a disk's flush, at most, when nothing is wrong. */
  readonly flushMilliseconds: number;
  readonly mutant: Mutant | undefined;
}

export class SimCluster {
  readonly world: World;
  readonly network: SimNetwork;
  readonly members: readonly SimMember[];
  readonly mutant: Mutant | undefined;
  /** Told of each start of a peer. */
  started: (member: SimMember, peer: Peer) => void = () => {};
  /** Told of each message of raft when it is sent. */
  sent: (message: Message) => void = () => {};
  starts = 0;
  readonly #options: ClusterOptions;
  readonly #leaders = new Map<number, string>();
  /** Checksum of each committed entry, by index. */
  readonly #committed = new Map<number, number>();

  constructor(world: World, options: ClusterOptions) {
    this.world = world;
    this.#options = options;
    this.mutant = options.mutant;
    this.network = new SimNetwork(world);
    this.network.observe = (message) => this.#observe(message);
    this.network.duplicateProposals = options.mutant === "duplicateProposals";
    this.members = Array.from({ length: options.size }, (_, place) => ({
      id: BigInt(place + 1),
      name: `m${place + 1}`,
      disk: new SimDisk(options.flushMilliseconds, options.mutant),
      process: undefined,
      peer: undefined,
      log: undefined,
      compared: 0,
    }));
  }

  start(member: SimMember): void {
    if (member.process !== undefined) return;
    const { world } = this;
    this.starts += 1;
    world.note(`${member.name} starts`);
    const process = new SimProcess(world, { name: member.name, clockRate: this.#clockRate() });
    const { log, backend } = member.disk.open(process);
    const transport = this.network.attach(member.id.toString(), process);
    member.process = process;
    member.log = log;
    member.compared = 0;
    const host: Host = {
      log,
      backend,
      transport,
      now: () => process.now(),
      wallClock: () => 1_700_000_000_000 + Math.floor(world.now),
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
        if (level !== "warn" && level !== "error") return;
        const error = fields?.["error"];
        world.note(`${member.name} ${message}: ${error instanceof Error ? error.message : ""}`);
      },
      fatal: (error) => world.fail(`${member.name} stopped: ${error.stack ?? error.message}`),
    };
    try {
      const peer = startPeer(host, this.#config(member));
      member.peer = peer;
      this.started(member, peer);
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      world.fail(`${member.name} did not start: ${text}`);
    }
  }

  crash(member: SimMember): void {
    if (member.process === undefined) return;
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
    if (this.mutant === "fastClock") return 3;
    return 1 + (this.world.prng.below(1001) / 500 - 1) * CLOCK_DRIFT;
  }

  #config(member: SimMember): PeerConfig {
    const bootstrapMembers: PeerMember[] = this.members.map(({ id, name }) => ({
      id,
      name,
      peerUrls: [`http://${name}`],
    }));
    return {
      clusterId: CLUSTER_ID,
      memberId: member.id,
      name: member.name,
      clientUrls: [`http://client.${member.name}`],
      bootstrapMembers,
      joinThrough: [],
      forceNewCluster: false,
      strictReconfigCheck: true,
      learnersMax: 1,
      tickMilliseconds: TICK_MILLISECONDS,
      electionTicks: this.#options.electionTicks,
      requestBytesMax: 1_500_000,
      txnOpsMax: 128,
      quotaBytes: 2_000_000_000,
      compactLogEvery: this.#options.compactLogEvery,
      catchUpEntries: this.#options.catchUpEntries,
      progressNotifyMilliseconds: 10_000,
    };
  }
}
