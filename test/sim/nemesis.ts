/**
 * What goes wrong in the safety phase: crashes, pauses, partitions, bad networks, disks and clocks,
 * in any combination. Strikes are numbered, and each draws its chance from a generator of its own:
 * leaving some out (`only`) changes nothing about the others, so that a failing run can be shrunk.
 */
import type { Prng } from "../../shared/base/prng.ts";
import type { Message, MessageType } from "../../shared/raft/types.ts";
import { ANY_CALL } from "./observers.ts";
import type { DiskPoint } from "./sim-backend.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";
import type { NetworkQuality } from "./sim-network.ts";
import { PERFECT } from "./sim-network.ts";
import type { Operators } from "./operators.ts";

const BETWEEN_MILLISECONDS = { low: 100, high: 2500 } as const;
const DOWN_MILLISECONDS = { low: 50, high: 2500 } as const;
/** Long enough for a successor, short enough for leases to outlast it. */
const LEADER_AWAY_MILLISECONDS = { low: 1000, high: 5000 } as const;
/** Below an election time-out, so that the leader stays. */
const LATE_MILLISECONDS = { low: 400, high: 900 } as const;
const CUT_MILLISECONDS = { low: 500, high: 5000 } as const;
/** How often the network is bad from the start. */
const BAD_FROM_THE_START = 0.4;
const DAY_MILLISECONDS = 86_400_000;

/** Crashes are worth most right behind these: something was promised, or is half done. */
const MESSAGE_AMBUSHES: readonly MessageType[] = [
  "vote",
  "voteReply",
  "voteReply",
  "append",
  "appendReply",
  "propose",
  "readIndexReply",
];
const DISK_AMBUSHES: readonly DiskPoint[] = ["beforeSwitch", "switched", "flushing", "flushed"];

type Ambush = MessageType | DiskPoint;

interface Fault {
  readonly name: string;
  /** How often, against the others. */
  readonly weight: number;
  readonly strike: (prng: Prng, member: SimMember) => void;
}

export interface Strike {
  readonly number: number;
  readonly name: string;
}

export interface NemesisParts {
  readonly cluster: SimCluster;
  /** Without them the members stay as they are. */
  readonly operators: Operators | undefined;
  /** Several at once. */
  readonly changesSeveral: boolean;
  /** Leaders are told to hand over. */
  readonly movesLeader: boolean;
  /** The numbers of the strikes that are done, instead of all. */
  readonly only: ReadonlySet<number> | undefined;
}

export class Nemesis {
  /** All that were done. */
  readonly strikes: Strike[] = [];
  readonly #cluster: SimCluster;
  readonly #prng: Prng;
  readonly #only: ReadonlySet<number> | undefined;
  readonly #faults: readonly Fault[];
  #running = true;
  /** Who reaches this next crashes. */
  #ambush: Ambush | undefined;
  /** The next leader that names its successor hears nothing from then on. */
  #deafens = false;

  constructor({ cluster, operators, changesSeveral, movesLeader, only }: NemesisParts) {
    this.#cluster = cluster;
    this.#prng = cluster.world.prng.fork();
    this.#only = only;
    const changes = operators === undefined ? [] : this.#memberChanges(operators);
    const joint = operators === undefined || !changesSeveral ? [] : this.#jointChanges(operators);
    const moves = movesLeader ? this.#leaderMoves() : [];
    this.#faults = [...this.#allFaults(), ...changes, ...joint, ...moves];
    cluster.sent = (message) => this.#sent(message);
    cluster.reached = (member, point) => this.#reached(member, point);
    if (this.#prng.chance(BAD_FROM_THE_START)) cluster.network.quality = anyQuality(this.#prng);
    cluster.broken = (member) => this.#startLater(this.#prng, member);
  }

  async run(): Promise<void> {
    const { world } = this.#cluster;
    for (let number = 1; this.#running; number += 1) {
      const prng = this.#prng.fork();
      await world.sleep(prng.between(BETWEEN_MILLISECONDS.low, BETWEEN_MILLISECONDS.high));
      if (this.#running && (this.#only?.has(number) ?? true)) this.#strike(number, prng);
    }
  }

  /** Ends all faults: everyone runs and hears everyone, on a good network and good disks. */
  heal(): void {
    this.#running = false;
    this.#ambush = undefined;
    this.#deafens = false;
    const { network, members } = this.#cluster;
    network.heal();
    network.quality = PERFECT;
    for (const member of members.slice()) {
      member.disk.repair();
      member.process?.resume();
      this.#cluster.start(member);
    }
  }

  #allFaults(): readonly Fault[] {
    const { network, members } = this.#cluster;
    return [
      { name: "stop", weight: 5, strike: (prng, member) => this.#stop(prng, member) },
      { name: "crash", weight: 18, strike: (prng, member) => this.#crash(prng, member) },
      {
        name: "crash all",
        weight: 7,
        strike: (prng) => {
          for (const each of members.slice()) this.#crash(prng, each);
        },
      },
      {
        name: "pause",
        weight: 8,
        strike: (prng, member) => this.#pause(prng, member, DOWN_MILLISECONDS),
      },
      {
        name: "pause the leader",
        weight: 5,
        strike: (prng, member) =>
          this.#pause(prng, this.#leader() ?? member, LEADER_AWAY_MILLISECONDS),
      },
      {
        name: "isolate the leader",
        weight: 10,
        strike: (prng, member) => this.#isolate(prng, this.#leader() ?? member),
      },
      { name: "split", weight: 8, strike: (prng) => this.#split(prng, { bridge: false }) },
      { name: "bridge", weight: 3, strike: (prng) => this.#split(prng, { bridge: true }) },
      { name: "one way", weight: 8, strike: (prng) => this.#cutOneWay(prng) },
      {
        name: "ambush",
        weight: 14,
        strike: (prng) => {
          const disk = prng.chance(0.3);
          this.#ambush = disk ? prng.pick(DISK_AMBUSHES) : prng.pick(MESSAGE_AMBUSHES);
        },
      },
      {
        name: "network",
        weight: 12,
        strike: (prng) => {
          network.quality = anyQuality(prng);
        },
      },
      {
        name: "slow disk",
        weight: 6,
        strike: (prng, member) => {
          member.disk.flushMillisecondsMax = prng.pick([2, 20, 100, 300]);
        },
      },
      { name: "failed flush", weight: 4, strike: (_, member) => member.disk.failNextFlush() },
      { name: "full disk", weight: 3, strike: (prng, member) => this.#fillDisk(prng, member) },
      { name: "rot", weight: 3, strike: (prng, member) => this.#rot(prng, member) },
      {
        name: "wall clock",
        weight: 3,
        strike: (prng, { process }) => {
          if (process === undefined) return;
          process.wallErrorMilliseconds = prng.between(-DAY_MILLISECONDS, DAY_MILLISECONDS);
        },
      },
    ];
  }

  readonly #operation = (
    run: (prng: Prng, member: SimMember) => Promise<unknown>,
  ): Fault["strike"] => {
    const { world } = this.#cluster;
    return (prng, member) => {
      run(prng, member).catch((error: unknown) => world.fail(`operator: ${String(error)}`));
    };
  };

  #memberChanges(operators: Operators): readonly Fault[] {
    const change = this.#operation;
    return [
      { name: "grow", weight: 8, strike: change((prng) => operators.grow(prng)) },
      {
        name: "add a voter",
        weight: 3,
        strike: change((prng) => operators.add(prng, { isLearner: false })),
      },
      {
        name: "add a learner",
        weight: 3,
        strike: change((prng) => operators.add(prng, { isLearner: true })),
      },
      {
        name: "promote",
        weight: 4,
        strike: change((prng, member) => operators.promote(prng, this.#learner() ?? member)),
      },
      {
        name: "remove",
        weight: 6,
        strike: change((prng, member) => operators.remove(prng, member)),
      },
      {
        name: "remove the leader",
        weight: 6,
        strike: change((prng, member) => operators.remove(prng, this.#leader() ?? member)),
      },
      {
        name: "replace",
        weight: 6,
        strike: change((prng, member) => operators.replace(prng, member)),
      },
    ];
  }

  /** By joint consensus. */
  #jointChanges(operators: Operators): readonly Fault[] {
    const { members } = this.#cluster;
    return [
      {
        name: "swap a member for a learner at once",
        weight: 30,
        strike: this.#operation((prng, member) => operators.swap(prng, member)),
      },
      {
        name: "several changes at once",
        weight: 25,
        strike: this.#operation((prng, member) => {
          const [promote, other] = [this.#learner(), prng.pick(members)];
          const leaving = prng.chance(0.3) ? (this.#leader() ?? member) : member;
          const remove = [leaving, ...(prng.chance(0.3) ? [other] : [])];
          return operators.changeSeveral(prng, {
            promote: prng.chance(0.7) ? promote : undefined,
            remove: [...new Set(remove)].filter((each) => each !== promote),
            add: prng.pick(["voter", "learner", undefined]),
          });
        }),
      },
    ];
  }

  /** What is worst for a leader's lease. */
  #leaderMoves(): readonly Fault[] {
    return [
      { name: "move the leader", weight: 8, strike: (_, member) => this.#moveLeader(member) },
      {
        name: "move the leader, who is deaf",
        weight: 20,
        strike: (prng, member) => {
          this.#deafens = true;
          this.#healLater(prng);
          this.#moveLeader(member);
        },
      },
      {
        name: "late answers",
        weight: 20,
        strike: (prng, member) => this.#answerLate(prng, member),
      },
    ];
  }

  #learner(): SimMember | undefined {
    const { members } = this.#cluster;
    return members.find(({ peer }) => peer?.services.cluster.isLearner() === true);
  }

  #moveLeader({ id }: SimMember): void {
    const leader = this.#leader();
    leader?.process?.enter(() => {
      // Refused where the other one can't lead, or no answer in time.
      leader.peer?.services.maintenance.moveLeader(id, ANY_CALL).catch(() => undefined);
    });
  }

  /** What the leader hears is old, and then it isn't heard any more. */
  #answerLate(prng: Prng, member: SimMember): void {
    const { network, members, world } = this.#cluster;
    const leader = this.#leader() ?? member;
    const late = prng.between(LATE_MILLISECONDS.low, LATE_MILLISECONDS.high);
    const others = members.filter((other) => other !== leader);
    for (const { id } of others) network.slow(id.toString(), leader.id.toString(), late);
    world.schedule(2 * late, () => {
      for (const { id } of others) network.cut(leader.id.toString(), id.toString());
      this.#healLater(prng);
    });
  }

  #strike(number: number, prng: Prng): void {
    const { world, members } = this.#cluster;
    const member = prng.pick(members);
    const fault = drawn(prng, this.#faults);
    world.note(`strike ${number}: ${fault.name} (${member.name})`);
    this.strikes.push({ number, name: fault.name });
    fault.strike(prng, member);
  }

  #crash(prng: Prng, member: SimMember): void {
    this.#cluster.crash(member);
    this.#startLater(prng, member);
  }

  #startLater(prng: Prng, member: SimMember): void {
    const down = prng.between(DOWN_MILLISECONDS.low, DOWN_MILLISECONDS.high);
    this.#cluster.world.schedule(down, () => this.#cluster.start(member));
  }

  #sent(message: Message): void {
    if (message.type === "timeoutNow" && this.#deafens) {
      this.#deafens = false;
      const { members, network } = this.#cluster;
      for (const { id } of members) network.cut(id.toString(), message.from);
    }
    if (message.type !== this.#ambush) return;
    if ("reject" in message && message.reject) return;
    const member = this.#cluster.members.find(({ id }) => id.toString() === message.from);
    if (member !== undefined) this.#spring(member);
  }

  #reached(member: SimMember, point: DiskPoint): void {
    if (point === this.#ambush) this.#spring(member);
  }

  #spring(member: SimMember): void {
    this.#ambush = undefined;
    const { world } = this.#cluster;
    const { process } = member;
    // Not within the event that got here: what it does is done whole or not at all.
    world.schedule(this.#prng.below(3), () => {
      if (member.process !== process) return;
      this.#cluster.crash(member);
      world.schedule(this.#prng.between(1, 200), () => this.#cluster.start(member));
    });
  }

  /** As by a signal that the process handles: the peer stops by itself, then the machine goes down. */
  #stop(prng: Prng, member: SimMember): void {
    const { process, peer } = member;
    const { world } = this.#cluster;
    const crash = (): void => {
      if (member.process === process) this.#crash(prng, member);
    };
    process?.enter(() => {
      peer?.stop().then(crash, (error: unknown) => world.fail(`stop: ${String(error)}`));
    });
  }

  #pause(prng: Prng, member: SimMember, range: { low: number; high: number }): void {
    const { process } = member;
    if (process === undefined || process.paused) return;
    process.pause();
    const pause = prng.between(range.low, range.high);
    this.#cluster.world.schedule(pause, () => process.resume());
  }

  /** Space comes back after a while. */
  #fillDisk(prng: Prng, { disk }: SimMember): void {
    disk.setFull(true);
    const full = prng.between(DOWN_MILLISECONDS.low, 2 * DOWN_MILLISECONDS.high);
    this.#cluster.world.schedule(full, () => disk.setFull(false));
  }

  /** Of one member at a time: with two of three refusing, nothing would go on. */
  #rot(prng: Prng, member: SimMember): void {
    const { members } = this.#cluster;
    if (members.some(({ disk }) => disk.isRotten)) return;
    this.#cluster.crash(member);
    if (member.disk.rot(prng)) this.#cluster.world.note(`${member.name} rots`);
    this.#startLater(prng, member);
  }

  /** Partitions end after a while, all together. */
  #healLater(prng: Prng): void {
    const { world, network } = this.#cluster;
    const cut = prng.between(CUT_MILLISECONDS.low, CUT_MILLISECONDS.high);
    world.schedule(cut, () => network.heal());
  }

  #leader(): SimMember | undefined {
    return this.#cluster.members.find(({ peer }) => peer?.raftStatus().role === "leader");
  }

  #isolate(prng: Prng, member: SimMember): void {
    this.#healLater(prng);
    for (const other of this.#cluster.members) this.#cut(member, other);
  }

  /** Two sides; a bridge between them hears both. */
  #split(prng: Prng, options: { bridge: boolean }): void {
    const { members, world } = this.#cluster;
    this.#healLater(prng);
    const left = members.filter(() => prng.chance(0.5));
    const bridge = options.bridge ? prng.pick(members) : undefined;
    world.note(`split ${left.map(({ name }) => name).join()}, bridge ${bridge?.name ?? "none"}`);
    for (const a of left) {
      for (const b of members) {
        if (!left.includes(b) && a !== bridge && b !== bridge) this.#cut(a, b);
      }
    }
  }

  #cut(a: SimMember, b: SimMember): void {
    const { network } = this.#cluster;
    network.cut(a.id.toString(), b.id.toString());
    network.cut(b.id.toString(), a.id.toString());
  }

  /** Some directions, each by itself. */
  #cutOneWay(prng: Prng): void {
    const { network, members, world } = this.#cluster;
    this.#healLater(prng);
    for (let cuts = prng.between(1, members.length); cuts > 0; cuts -= 1) {
      const [from, to] = [prng.pick(members), prng.pick(members)];
      world.note(`cut ${from.name}>${to.name}`);
      network.cut(from.id.toString(), to.id.toString());
    }
  }
}

function drawn(prng: Prng, faults: readonly Fault[]): Fault {
  let dice = prng.below(faults.reduce((sum, { weight }) => sum + weight, 0));
  for (const fault of faults) {
    if (dice < fault.weight) return fault;
    dice -= fault.weight;
  }
  throw new Error("the dice fall within the weights");
}

function anyQuality(prng: Prng): NetworkQuality {
  return {
    loss: prng.pick([0, 0.02, 0.2]),
    duplicate: prng.pick([0, 0.1]),
    delayMillisecondsMax: prng.pick([5, 50, 400]),
    slow: prng.pick([0, 0.1, 0.5]),
  };
}
