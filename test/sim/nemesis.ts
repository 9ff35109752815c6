/** What goes wrong in the safety phase: crashes, pauses, partitions, bad networks and disks, in any combination. */
import type { Prng } from "../../shared/base/prng.ts";
import type { Message, MessageType } from "../../shared/raft/types.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";
import type { NetworkQuality } from "./sim-network.ts";
import { PERFECT } from "./sim-network.ts";

const BETWEEN_MILLISECONDS = { low: 100, high: 2500 } as const;
const DOWN_MILLISECONDS = { low: 50, high: 2500 } as const;

/** Crashes are worth most right behind these: something was promised, or is half done. */
const AMBUSHES: readonly MessageType[] = [
  "vote",
  "voteReply",
  "voteReply",
  "append",
  "appendReply",
  "propose",
  "readIndexReply",
];

export class Nemesis {
  readonly #cluster: SimCluster;
  readonly #prng: Prng;
  #running = true;
  /** Who sends such a message next crashes. */
  #ambush: MessageType | undefined;

  constructor(cluster: SimCluster) {
    this.#cluster = cluster;
    this.#prng = cluster.world.prng.fork();
    cluster.sent = (message) => this.#sent(message);
  }

  async run(): Promise<void> {
    const { world } = this.#cluster;
    while (this.#running) {
      await world.sleep(this.#prng.between(BETWEEN_MILLISECONDS.low, BETWEEN_MILLISECONDS.high));
      if (this.#running) this.#strike();
    }
  }

  /** Ends all faults: everyone runs and hears everyone, on a good network and good disks. */
  heal(): void {
    this.#running = false;
    this.#ambush = undefined;
    const { network, members } = this.#cluster;
    network.heal();
    network.quality = PERFECT;
    for (const member of members) {
      member.disk.flushMillisecondsMax = 2;
      member.process?.resume();
      this.#cluster.start(member);
    }
  }

  #strike(): void {
    const prng = this.#prng;
    const member = prng.pick(this.#cluster.members);
    const dice = prng.below(100);
    if (dice < 5) this.#stop(member);
    else if (dice < 25) this.#crash(member);
    else if (dice < 32) for (const each of this.#cluster.members) this.#crash(each);
    else if (dice < 40) this.#pause(member);
    else if (dice < 50) this.#isolate(this.#leader() ?? member);
    else if (dice < 60) this.#split();
    else if (dice < 68) this.#cutOneDirection();
    else if (dice < 80) this.#ambush = prng.pick(AMBUSHES);
    else if (dice < 93) this.#cluster.network.quality = this.#anyQuality();
    else member.disk.flushMillisecondsMax = prng.pick([2, 20, 100, 300]);
  }

  #crash(member: SimMember): void {
    const { world } = this.#cluster;
    this.#cluster.crash(member);
    world.schedule(this.#prng.between(DOWN_MILLISECONDS.low, DOWN_MILLISECONDS.high), () => {
      this.#cluster.start(member);
    });
  }

  #sent(message: Message): void {
    if (message.type !== this.#ambush) return;
    if ("reject" in message && message.reject) return;
    this.#ambush = undefined;
    const member = this.#cluster.members.find(({ id }) => id.toString() === message.from);
    const { world } = this.#cluster;
    const { process } = member ?? {};
    // Not within the event that sends: what it does is done whole or not at all.
    world.schedule(this.#prng.below(3), () => {
      if (member === undefined || member.process !== process) return;
      this.#cluster.crash(member);
      world.schedule(this.#prng.between(1, 200), () => this.#cluster.start(member));
    });
  }

  /** As by a signal that the process handles: the peer stops by itself, then the machine goes down. */
  #stop(member: SimMember): void {
    const { process, peer } = member;
    const { world } = this.#cluster;
    world.note(`${member.name} stops`);
    const crash = (): void => {
      if (member.process === process) this.#crash(member);
    };
    process?.enter(() => {
      peer?.stop().then(crash, (error: unknown) => world.fail(`stop: ${String(error)}`));
    });
  }

  #pause(member: SimMember): void {
    const { process } = member;
    if (process === undefined || process.paused) return;
    this.#cluster.world.note(`${member.name} pauses`);
    process.pause();
    const pause = this.#prng.between(DOWN_MILLISECONDS.low, DOWN_MILLISECONDS.high);
    this.#cluster.world.schedule(pause, () => process.resume());
  }

  /** Partitions end after a while, all together. */
  #healLater(): void {
    const { world, network } = this.#cluster;
    world.schedule(this.#prng.between(500, 5000), () => network.heal());
  }

  #leader(): SimMember | undefined {
    return this.#cluster.members.find(({ peer }) => peer?.raftStatus().role === "leader");
  }

  #isolate(member: SimMember): void {
    const { network, members, world } = this.#cluster;
    world.note(`${member.name} is isolated`);
    this.#healLater();
    for (const other of members) {
      network.cut(member.id.toString(), other.id.toString());
      network.cut(other.id.toString(), member.id.toString());
    }
  }

  #split(): void {
    const { network, members, world } = this.#cluster;
    const left = members.filter(() => this.#prng.chance(0.5));
    this.#healLater();
    world.note(`split ${left.map(({ name }) => name).join()}`);
    for (const a of left) {
      for (const b of members) {
        if (left.includes(b)) continue;
        network.cut(a.id.toString(), b.id.toString());
        network.cut(b.id.toString(), a.id.toString());
      }
    }
  }

  #cutOneDirection(): void {
    const { network, members, world } = this.#cluster;
    const [from, to] = [this.#prng.pick(members), this.#prng.pick(members)];
    this.#healLater();
    world.note(`cut ${from.name}>${to.name}`);
    network.cut(from.id.toString(), to.id.toString());
  }

  #anyQuality(): NetworkQuality {
    const prng = this.#prng;
    return {
      loss: prng.pick([0, 0.02, 0.2]),
      duplicate: prng.pick([0, 0.1]),
      delayMillisecondsMax: prng.pick([5, 50, 400]),
      slow: prng.pick([0, 0.1, 0.5]),
    };
  }
}
