/**
 * Leases and clocks: a leader that is cut off while others elect a new one, on clocks of other
 * rates. Within the bound that leases rest on no read of the old leader is stale; beyond it some
 * are, and the checker of histories sees them.
 */
import { assert } from "../../../shared/base/assert.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { expect, test } from "vitest";
import type { Operation } from "../../sim/history.ts";
import { checkLinearizable } from "../../sim/linearizability.ts";
import { Cluster, type Host, isolate } from "./cluster.ts";

const TICK_MILLISECONDS = 100;
const STEP_MILLISECONDS = 5;
const OLD = "1";
/** A new leader is there by then, unless candidates split the votes again and again. */
const ELECTION_MILLISECONDS = 20_000;
const SEEDS = 40;

/** Milliseconds of a clock to one of the world. */
interface Rates {
  readonly leader: number;
  readonly others: number;
}

/** A cluster in which time passes at each node's own rate. */
class Clocks {
  readonly cluster: Cluster;
  /** Of the world. */
  now = 0;
  readonly #rates: Rates;
  readonly #sinceTick = new Map<string, number>();

  constructor(seed: number, rates: Rates) {
    const leaderLease = { tickMilliseconds: TICK_MILLISECONDS, driftMax: LIMITS.clockDriftMax };
    this.cluster = new Cluster({ voters: 3, seed, tuning: { leaderLease } });
    this.#rates = rates;
  }

  host(id: string): Host {
    return this.cluster.host(id);
  }

  /** Time passes, until `done` or for so many milliseconds. */
  run(milliseconds: number, drop = isolate(), done: () => boolean = () => false): void {
    for (const until = this.now + milliseconds; this.now < until && !done();) {
      this.now += STEP_MILLISECONDS;
      for (const host of this.cluster.hosts.values()) this.#pass(host);
      this.cluster.settle(drop);
    }
  }

  #pass(host: Host): void {
    const passed = STEP_MILLISECONDS * (host.id === OLD ? this.#rates.leader : this.#rates.others);
    host.pass(passed);
    const since = (this.#sinceTick.get(host.id) ?? 0) + passed;
    this.#sinceTick.set(host.id, since % TICK_MILLISECONDS);
    if (since >= TICK_MILLISECONDS) host.raft.tick(host.now);
  }
}

/** What clients see: two writes, of the old leader and of the new one, and reads of the old one. */
function history(seed: number, rates: Rates): Operation[] {
  const clocks = new Clocks(seed, rates);
  const { cluster } = clocks;
  clocks.run(ELECTION_MILLISECONDS, isolate(), () => cluster.leader() !== undefined);
  const first = cluster.leader();
  assert(first !== undefined, "somebody is elected");
  if (first.id !== OLD) {
    // Its own term begins, and later its lease.
    first.raft.transferLeader(OLD);
    cluster.settle();
  }
  clocks.run(500);
  cluster.propose(OLD, "x=1");
  cluster.settle();
  const old = clocks.host(OLD);
  const operations = [put(clocks.now, "1", 2)];
  const drop = isolate(OLD);
  const successor = (): Host | undefined => {
    const leader = cluster.leader();
    return leader?.id !== OLD && leader?.commands.at(-1) === "" ? leader : undefined;
  };
  clocks.run(ELECTION_MILLISECONDS, drop, () => successor() !== undefined);
  const next = successor();
  assert(next !== undefined, "a successor is elected");
  cluster.propose(next.id, "x=2");
  cluster.settle(drop);
  expect(next.commands.at(-1)).toBe("x=2");
  operations.push(put(clocks.now, "2", 3));
  let context = 0;
  while (old.raft.status().role === "leader") {
    context += 1;
    const invoked = clocks.now;
    clocks.run(STEP_MILLISECONDS, drop);
    old.raft.readIndex(context, old.now);
    cluster.settle(drop);
    if (old.readStates.at(-1)?.context !== context) continue;
    operations.push(read(invoked, clocks.now, old.commands.includes("x=2") ? 2 : 1));
  }
  return operations;
}

function put(at: number, value: string, revision: number): Operation {
  const request = { kind: "put", key: "x", value, lease: 0n } as const;
  return { id: revision, request, invoked: at - 1, returned: at, outcome: { revision } };
}

function read(invoked: number, returned: number, value: 1 | 2): Operation {
  const revision = value + 1;
  const request = { kind: "range", key: "x", end: undefined, serializable: false } as const;
  const kv = { key: "x", value: String(value), lease: 0n, version: value };
  return {
    id: 10 + invoked,
    request: { ...request, atRevision: 0 },
    invoked,
    returned,
    outcome: { revision, kvs: [{ ...kv, createRevision: 2, modRevision: revision }] },
  };
}

function verdicts(rates: Rates): string[] {
  return Array.from({ length: SEEDS }, (_, seed) => {
    const verdict = checkLinearizable(history(seed + 1, rates));
    return verdict.ok ? "ok" : verdict.reason;
  });
}

test.each<Rates>([
  { leader: 1, others: 1 },
  { leader: 0.95, others: 1.05 },
  { leader: 1.05, others: 0.95 },
])("clocks within the bound: no stale read ($leader and $others)", (rates) => {
  expect(new Set(verdicts(rates))).toEqual(new Set(["ok"]));
});

test("clocks beyond the bound: some reads are stale, and the checker sees it", () => {
  const found = verdicts({ leader: 0.5, others: 1.5 });
  expect(found.some((each) => each.includes("answered before it began"))).toBe(true);
});
