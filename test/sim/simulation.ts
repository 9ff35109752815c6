/**
 * One simulation: a cluster, its clients, a safety phase full of faults, then everything heals and
 * progress is demanded: every member answers a write and a linearizable read, and all end at one
 * revision with one hash. At the end the histories are checked.
 */
import { checkLinearizable } from "./linearizability.ts";
import { checkCompactions } from "./compactions.ts";
import { Clients } from "./clients.ts";
import { LeaseClients } from "./lease-clients.ts";
import { LockClients } from "./lock-clients.ts";
import { Nemesis } from "./nemesis.ts";
import type { Strike } from "./nemesis.ts";
import { ANY_CALL, EventHistory } from "./observers.ts";
import { Operators } from "./operators.ts";
import { SimCluster } from "./sim-cluster.ts";
import type { SimMember } from "./sim-cluster.ts";
import { WatchClient } from "./watch-clients.ts";
import { World } from "./world.ts";

/** A run is its seed; the rest makes it smaller (`minimize.ts`). */
export interface SimulationOptions {
  readonly seed: number;
  /** Virtual milliseconds of faults. */
  readonly time?: number;
  readonly clients?: number;
  readonly leases?: number;
  readonly locks?: number;
  readonly watchers?: number;
  /** 1: reads under a leader's lease, and leaders that are told to hand over; a quarter of the seeds. */
  readonly leaseReads?: number;
  /** 1: members are changed, also several at once; of three eighths of the seeds. */
  readonly jointChanges?: number;
  /** The numbers of the nemesis' strikes that are done, instead of all. */
  readonly strikes?: readonly number[];
}

export interface SimulationResult {
  readonly seed: number;
  readonly failure: string | undefined;
  /** A checksum over all that happened. */
  readonly trace: number;
  /** When it ended, in virtual milliseconds. */
  readonly ended: number;
  readonly strikes: readonly Strike[];
  readonly figures: Readonly<Record<string, number>>;
}

const SAFETY_MILLISECONDS = 20_000;
/** Elections, a snapshot and the tries of every client must fit. */
const PROGRESS_MILLISECONDS = 40_000;
/** How many of the runs change their members. */
const MEMBER_CHANGES = 0.5;
/** Modulo 8, of the runs that change several members at once, too. */
const JOINT_SEEDS: ReadonlySet<number> = new Set([1, 2, 4]);
/**
 * One that left in the meantime never answers, and others may wait for one that was added then, and
 * has yet to be started: so the list is looked at again soon.
 */
const FINAL_TRIES_MAX = 3;
const CHECK_MILLISECONDS = 20;
const CLIENTS = 5;
const LEASE_CLIENTS = 2;
const LOCK_CLIENTS = 2;
const WATCH_CLIENTS = 3;

/** `print` is given the trace, line by line. */
export async function simulate(
  options: SimulationOptions,
  print?: (line: string) => void,
): Promise<SimulationResult> {
  const world = new World(options.seed, print);
  const { prng } = world;
  // Not drawn: what a run draws from its seed is the same with and without.
  const leaseReads = (options.leaseReads ?? Number(options.seed % 4 === 1)) > 0;
  const changesSeveral = (options.jointChanges ?? Number(JOINT_SEEDS.has(options.seed % 8))) > 0;
  const cluster = new SimCluster(world, {
    size: prng.pick([1, 3, 3, 3, 5]),
    electionTicks: prng.pick([10, 10, 2]),
    compactLogEvery: prng.pick([10, 20, 100, 1000]),
    catchUpEntries: prng.pick([0, 5, 50]),
    flushMilliseconds: prng.pick([2, 2, 30]),
    segmentBytes: prng.pick([4096, 16_384, 65_536]),
    backendOrder: prng.pick(["behind the log", "ahead of the log"]),
    strictReconfigCheck: prng.chance(0.7),
    leaseReads,
  });
  const history = new EventHistory(world);
  const clients = new Clients(cluster);
  const leases = new LeaseClients(cluster, clients);
  const locks = new LockClients(cluster, clients);
  const watchers = times(options.watchers ?? WATCH_CLIENTS, (at) => new WatchClient(cluster, at));
  const only = options.strikes === undefined ? undefined : new Set(options.strikes);
  const operators = new Operators(cluster);
  const nemesis = new Nemesis({
    cluster,
    only,
    operators: prng.chance(MEMBER_CHANGES) || changesSeveral ? operators : undefined,
    changesSeveral,
    movesLeader: leaseReads,
  });
  history.seen = (events) => leases.seen(events);
  cluster.started = ({ name }, peer) => history.observe(cluster, name, peer);
  for (const member of cluster.members) cluster.start(member);
  const tasks = [
    nemesis.run(),
    ...times(options.clients ?? CLIENTS, () => clients.run()),
    ...times(options.leases ?? LEASE_CLIENTS, (at) => leases.run(String(at))),
    ...times(options.locks ?? LOCK_CLIENTS, (at) => locks.run(`holder ${at}`)),
    ...watchers.map((watcher) => watcher.run()),
  ];
  for (const task of tasks) task.catch((error: unknown) => world.fail(textOfError(error)));
  repeatedly(world, () => cluster.check());

  await world.run(options.time ?? SAFETY_MILLISECONDS);
  if (world.failure === undefined) {
    world.note("healing");
    nemesis.heal();
    clients.stop();
    leases.stop();
    locks.stop();
    for (const watcher of watchers) watcher.stop();
    await demandProgress(cluster, { clients, operators });
  }
  const searchSteps = judge(world, { clients, locks, history, watchers });
  return summary(options.seed, {
    world,
    cluster,
    nemesis,
    operators,
    clients,
    locks,
    history,
    searchSteps,
  });
}

function times<Item>(count: number, make: (place: number) => Item): Item[] {
  return Array.from({ length: count }, (_, place) => make(place));
}

function repeatedly(world: World, run: () => void): void {
  world.schedule(CHECK_MILLISECONDS, () => {
    run();
    repeatedly(world, run);
  });
}

/** Whoever is a member in the end takes part in it. */
async function demandProgress(
  cluster: SimCluster,
  parts: { clients: Clients; operators: Operators },
): Promise<void> {
  const { world } = cluster;
  const { clients, operators } = parts;
  const until = world.now + PROGRESS_MILLISECONDS;
  let done = false;
  let missing = "no list of the members";
  const demand = async (): Promise<void> => {
    for (;;) {
      const members = await operators.settle(world.prng);
      if (members === undefined) continue;
      const silent = await firstSilent(members, clients);
      if (silent !== undefined) {
        missing = `no answer from ${silent.name}`;
        continue;
      }
      missing = "the members differ";
      const again = await operators.settle(world.prng);
      if (again?.length !== members.length) continue;
      if (!members.every((member) => again.includes(member))) continue;
      if (await converged(world, members)) break;
      await world.sleep(50);
    }
    done = true;
  };
  demand().catch((error: unknown) => world.fail(textOfError(error)));
  await world.run(until, () => done);
  if (!done) world.fail(`no progress after everything had healed: ${missing}`);
}

async function firstSilent(
  members: readonly SimMember[],
  clients: Clients,
): Promise<SimMember | undefined> {
  for (const member of members) if (!(await answers(member, clients))) return member;
  return undefined;
}

/** Tries until a write and a linearizable read have been answered; false: they weren't. */
async function answers(member: SimMember, clients: Clients): Promise<boolean> {
  const key = `final/${member.name}`;
  for (let tries = 0; tries < FINAL_TRIES_MAX; tries += 1) {
    const put = await clients.ask(member, { kind: "put", key, value: "x", lease: 0n });
    const span = { key: "a", end: "z", serializable: false, atRevision: 0 };
    const read = await clients.ask(member, { kind: "range", ...span });
    if (typeof put.outcome === "object" && typeof read.outcome === "object") return true;
    await clients.rest();
  }
  return false;
}

/**
 * All at one revision, with one hash, and no joint change under way; a hash that differs at one
 * revision is a failure at once.
 */
async function converged(world: World, members: readonly SimMember[]): Promise<boolean> {
  const hashes = new Map<number, { name: string; hash: number }>();
  for (const { peer, name } of members) {
    if (peer === undefined || peer.raftStatus().membership.autoLeave) return false;
    const { hashRevision, hash } = await peer.services.maintenance.hashKv(0, ANY_CALL);
    const other = hashes.get(hashRevision);
    if (other !== undefined && other.hash !== hash) {
      world.fail(`${other.name} and ${name} differ at revision ${hashRevision}`);
    }
    hashes.set(hashRevision, { name, hash });
  }
  return hashes.size === 1;
}

function judge(
  world: World,
  parts: {
    clients: Clients;
    locks: LockClients;
    history: EventHistory;
    watchers: readonly WatchClient[];
  },
): number {
  if (world.failure !== undefined) return 0;
  const { clients, locks, history, watchers } = parts;
  locks.check(history);
  const compacted = checkCompactions(clients.operations);
  if (compacted !== undefined) world.fail(compacted);
  for (const watcher of watchers) watcher.check(history);
  const verdict = checkLinearizable(clients.operations, { events: history.events });
  if (verdict.ok) return verdict.steps;
  world.fail(`not linearizable: ${verdict.reason}`);
  return 0;
}

function summary(
  seed: number,
  parts: {
    world: World;
    cluster: SimCluster;
    nemesis: Nemesis;
    operators: Operators;
    clients: Clients;
    locks: LockClients;
    history: EventHistory;
    searchSteps: number;
  },
): SimulationResult {
  const { world, cluster, nemesis, operators, clients, locks, history, searchSteps } = parts;
  const { operations } = clients;
  return {
    seed,
    failure: world.failure,
    trace: world.trace,
    ended: world.now,
    strikes: nemesis.strikes,
    figures: {
      members: cluster.members.length,
      operations: operations.length,
      acknowledged: operations.filter(({ outcome }) => typeof outcome === "object").length,
      unknown: operations.filter(({ outcome }) => outcome === "unknown").length,
      revisions: history.events.size,
      starts: cluster.starts,
      refusals: cluster.refusals,
      diskFaults: cluster.diskFaults,
      locks: locks.taken,
      fenced: locks.fenced,
      memberChanges: operators.changes,
      jointChanges: operators.jointChanges,
      removals: cluster.removals,
      snapshots: cluster.network.snapshots,
      resumed: cluster.resumed,
      events: world.events,
      searchSteps,
      leaseReads: cluster.leaseReads,
    },
  };
}

function textOfError(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
