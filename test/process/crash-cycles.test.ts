/**
 * One member, crashed over and over under load as a machine crashes: unsynced writes are lost or
 * torn, at each named place and at random moments, in part with its database put back to an earlier
 * committed state beside the newer log. Nothing that was answered is lost, and all answers together
 * are linearizable. Two controls show that a log that doesn't sync is caught.
 */
import { expect, test } from "vitest";
import { Maintenance } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { Prng } from "../../shared/base/prng.ts";
import { checkLinearizable } from "../sim/linearizability.ts";
import { startQuorate } from "../support/cluster.ts";
import type { Member } from "../support/cluster.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { RecordedClients, watchedHistory } from "../support/recorded-clients.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import type { CrashPlan } from "./crash-child.ts";
import { CRASHABLE, DatabaseCopies, RefusedError } from "./crash-plan.ts";
import { crashEnv, readyOrKilled, runToDeath } from "./crash-plan.ts";
import type { Failpoint } from "./failpoints.ts";
import { DEFRAGMENT_POINTS, WRITE_POINTS } from "./failpoints.ts";

const CLIENTS = 4;
/** Small, so that the log switches segments often. */
const SEGMENT_BYTES = 8 * 1024;
/** So large that the log never leaves its first segment. */
const ONE_SEGMENT_BYTES = 16 * 1024 * 1024;
const STEPS_MAX = 5_000_000;
/** A member that hasn't come by its failpoint is killed after so long, and so many answers. */
const STRIKE_MILLISECONDS = 6000;
const STRIKE_ANSWERS = 2000;
/** A cycle of these is killed at a random moment. */
const RANDOM_EVERY = 4;

interface LaneOptions {
  readonly seed: number;
  readonly disk: CrashPlan["disk"];
  readonly cycles: number;
  readonly flags: readonly string[];
  /**
   * The named places at which it dies, in turn; a part of what is unsynced stays then. None: at
   * random moments alone.
   */
  readonly failpoints: readonly Failpoint[];
  /** What is asked of the member in each cycle, beside the clients' load. */
  readonly during?: (client: EtcdClient) => Promise<unknown>;
  readonly walSegmentBytes?: number;
  /** How many answers the clients get at least before a kill at random; 0 unless told. */
  readonly answersMin?: number;
  /** Which copy of the database to put back after a cycle: 0 is the new one, n that after cycle n - 1. */
  readonly restore?: (cycle: number, prng: Prng) => number | undefined;
}

interface LaneResult {
  /** Undefined: nothing was lost. */
  readonly problem: string | undefined;
  readonly struck: ReadonlyMap<Failpoint, number>;
  readonly kills: number;
  readonly restores: number;
  readonly answered: number;
}

async function runLane(options: LaneOptions): Promise<LaneResult> {
  const prng = new Prng(options.seed);
  const { disk, seed, walSegmentBytes = SEGMENT_BYTES } = options;
  const plan = { disk, seed, walSegmentBytes };
  const cluster = await startQuorate({
    program: CRASHABLE,
    flags: options.flags,
    env: crashEnv(plan),
  });
  const [member] = cluster.members as [Member];
  const clients = new RecordedClients();
  const copies = new DatabaseCopies(member);
  const struck = new Map<Failpoint, number>();
  let [kills, restores] = [0, 0];
  const result = (problem: string | undefined): LaneResult => {
    return { problem, struck, kills, restores, answered: clients.answered };
  };
  try {
    await member.kill();
    copies.take();
    for (let cycle = 0; cycle < options.cycles; cycle += 1) {
      const failpoint = failpointOf(options.failpoints, cycle, prng);
      const seed = prng.uint32();
      await member.launch(crashEnv({ ...plan, seed, failpoint }));
      const { during, answersMin = 0 } = options;
      const bySelf = await runUnderLoad(member, { clients, prng, failpoint, during, answersMin });
      if (bySelf && failpoint !== undefined) {
        struck.set(failpoint.name, (struck.get(failpoint.name) ?? 0) + 1);
      }
      kills += 1;
      if (options.restore === undefined) continue;
      copies.take();
      const copy = options.restore(cycle, prng);
      if (copy === undefined) continue;
      copies.restore(copy);
      restores += 1;
    }
    await member.start(crashEnv(plan));
    return result(await checkHistory(member, clients));
  } catch (error) {
    if (error instanceof RefusedError) return result(error.message);
    throw error;
  } finally {
    await cluster.stop();
  }
}

function failpointOf(
  points: readonly Failpoint[],
  cycle: number,
  prng: Prng,
): CrashPlan["failpoint"] {
  if (cycle % RANDOM_EVERY === 0) return undefined;
  const turn = cycle - Math.ceil(cycle / RANDOM_EVERY);
  const name = points[turn % points.length];
  if (name === undefined) return undefined;
  if (/^(defragment|generation)/.test(name)) return { name, passing: 1 };
  const often = name.startsWith("wal-") || name.startsWith("synced") || name.startsWith("applied");
  return { name, passing: often ? prng.between(1, 80) : prng.between(1, 2) };
}

/** True if the failpoint struck, false if the kill came from here. */
async function runUnderLoad(
  member: Member,
  options: {
    clients: RecordedClients;
    prng: Prng;
    failpoint: CrashPlan["failpoint"];
    during: LaneOptions["during"];
    answersMin: number;
  },
): Promise<boolean> {
  if ((await readyOrKilled(member)) === "killed") return true;
  const client = new EtcdClient(new GrpcChannel(member.address));
  const over = new AbortController();
  const { prng, clients, failpoint } = options;
  const load = clients.run({
    count: CLIENTS,
    prng: prng.fork(),
    signal: over.signal,
    pick: () => (member.child.running ? client : undefined),
  });
  const milliseconds = failpoint === undefined ? prng.between(5, 500) : STRIKE_MILLISECONDS;
  const goal = clients.answered + (failpoint === undefined ? options.answersMin : STRIKE_ANSWERS);
  // Its answer is lost with the member, as a rule.
  const asked = options.during?.(client).catch(() => undefined);
  try {
    return await runToDeath(member, { milliseconds, isDue: () => clients.answered >= goal });
  } finally {
    await asked;
    over.abort();
    await load;
    client.close();
  }
}

/** What is wrong with what the clients were told, beside the whole history of the store. */
async function checkHistory(member: Member, clients: RecordedClients): Promise<string | undefined> {
  const client = new EtcdClient(new GrpcChannel(member.address));
  try {
    const all = { key: "a", end: "z", serializable: false, atRevision: 0 };
    await clients.ask(client, { kind: "range", ...all });
    const events = await watchedHistory(client);
    const revisions = [...events.keys()];
    expect(revisions).toEqual(revisions.map((_, place) => place + 2));
    const options = { events, stepsMax: STEPS_MAX };
    const verdict = checkLinearizable(clients.operations, options);
    return verdict.ok ? undefined : verdict.reason;
  } finally {
    client.close();
  }
}

function seedOf(test: string): number {
  const seed = Number(process.env["SEED"] ?? Date.now() >>> 0);
  console.log(
    `${test}: seed ${seed}; replay: SEED=${seed} npx vitest run --project process crash-cycles`,
  );
  return seed;
}

const CUTS = ["--snapshot-count=60", "--snapshot-catchup-entries=10"];
const NO_CUTS = ["--snapshot-count=1000000"];

test("80 crashes of a machine lose nothing, with the database put back or not", async () => {
  const seed = seedOf("crashes");
  const lanes = await Promise.all([
    runLane({ seed, disk: "unsynced", cycles: 44, flags: CUTS, failpoints: WRITE_POINTS }),
    runLane({
      seed: seed + 1,
      disk: "unsynced",
      cycles: 36,
      flags: NO_CUTS,
      failpoints: WRITE_POINTS.filter((name) => !name.startsWith("log-")),
      // One of the last three; every tenth time the very first.
      restore: (cycle, prng) => {
        if (cycle % 2 === 0) return undefined;
        return cycle % 10 === 9 ? 0 : Math.max(0, cycle + 1 - prng.between(1, 3));
      },
    }),
  ]);
  expect(lanes.map(({ problem }) => problem)).toEqual([undefined, undefined]);
  const [cutting, restoring] = lanes;
  console.log(
    `${cutting.kills} + ${restoring.kills} kills, ${restoring.restores} restores, ` +
      `${cutting.answered} + ${restoring.answered} answers; struck: ` +
      WRITE_POINTS.map((name) => {
        return `${name} ${(cutting.struck.get(name) ?? 0) + (restoring.struck.get(name) ?? 0)}`;
      }).join(", "),
  );
  expect(cutting.kills + restoring.kills).toBe(80);
  expect(restoring.restores).toBeGreaterThan(10);
  const missed = WRITE_POINTS.filter(
    (name) => !cutting.struck.has(name) && !restoring.struck.has(name),
  );
  expect(missed).toEqual([]);
}, 900_000);

test("crashes around a defragmentation: the database is the old one or the new one, whole", async () => {
  const { problem, struck } = await runLane({
    seed: seedOf("defragmentation"),
    disk: "unsynced",
    cycles: 8,
    flags: NO_CUTS,
    failpoints: DEFRAGMENT_POINTS,
    during: (client) => client.channel.unary(Maintenance.method.defragment, {}),
  });
  expect(problem).toBeUndefined();
  expect([...struck.keys()].sort()).toEqual([...DEFRAGMENT_POINTS].sort());
});

test("control: a log that skips its fdatasync is caught", async () => {
  const { problem } = await runLane({
    seed: seedOf("control"),
    disk: "careless",
    cycles: 6,
    flags: NO_CUTS,
    failpoints: WRITE_POINTS,
    walSegmentBytes: ONE_SEGMENT_BYTES,
    answersMin: 50,
  });
  // By its own database, by a record that a tear left behind a lost one, or by the clients' history.
  expect(problem).toMatch(/that were durable are gone|write-ahead log damaged|revision/);
});

test("control: beside a new database that loss is silent, and the history shows it", async () => {
  const { problem } = await runLane({
    seed: seedOf("control"),
    disk: "careless",
    cycles: 4,
    flags: NO_CUTS,
    failpoints: [],
    walSegmentBytes: ONE_SEGMENT_BYTES,
    answersMin: 50,
    restore: () => 0,
  });
  expect(problem).toMatch(/revision/);
  expect(problem).not.toMatch(/ended by itself/);
});
