/**
 * How many round trips a linearizable read at a replica takes, counted on a clock that the test moves: the feed's link
 * is long, the peer behind it is one of three and needs some time to be confirmed by the others, and keys are written
 * all the while, in the range and beside it. The control asks for progress before what it is to follow.
 */
import { expect, test } from "vitest";
import { textOf } from "../../../shared/base/bytes.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import type { KvService, Services } from "../../../shared/peer/services.ts";
import { DistantLink } from "../../support/distant-link.ts";
import { put, startDriven } from "../peer/driven-cluster.ts";
import { LINEARIZABLE, point, read, startReplica } from "./driven-replica.ts";

const ONE_WAY = 50;
/** What the peers take to confirm that they are up to date. */
const AMONG_PEERS = 4;
/** A turn of each side, and a tick of the clock for what is deferred. */
const SLACK = 2;
/** A key beside the range is written each turn. */
const TURN = 3;

interface Reading {
  /** Of each answer, in milliseconds. */
  readonly waits: readonly number[];
  /** Answers that lacked what was acknowledged before they were asked for. */
  readonly stale: readonly string[];
}

interface Pace {
  readonly reads: number;
  readonly turnsBetween: number;
  /** See `Distance`. */
  readonly callDelayMilliseconds?: number;
}

/** Reads beside writes. */
async function readAtDistance(pace: Pace): Promise<Reading> {
  const { reads, turnsBetween, callDelayMilliseconds } = pace;
  const { clock, cluster, settled, leader } = await startDriven({ members: 3 });
  const writer = await leader();
  const { peer } = cluster.followers[0] ?? writer;
  const later = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      clock.schedule(milliseconds, resolve);
    });
  const range: KvService["range"] = async (query, level, call) => {
    if (!level.serializable) await later(AMONG_PEERS);
    return peer.services.kv.range(query, level, call);
  };
  const kv: KvService = Object.assign(Object.create(peer.services.kv) as KvService, { range });
  const services: Services = Object.assign(Object.create(peer.services) as Services, { kv });
  const distance = {
    clock,
    oneWayMilliseconds: ONE_WAY,
    ...(callDelayMilliseconds === undefined ? {} : { callDelayMilliseconds }),
  };
  await settled(put(writer, "p/a", "0"));
  const replica = startReplica({
    clock,
    openSource: (welcomed) => new DistantLink(services, distance, welcomed),
  });
  await clock.until(() => replica.replica.status.state === "following");
  let written = 0;
  const write = async (turn: number): Promise<void> => {
    await put(writer, "p/a", String(turn));
    written = turn;
  };
  const waits: number[] = [];
  const stale: string[] = [];
  const ask = async (): Promise<void> => {
    const asked = clock.now();
    const wanted = written;
    const answer = await read(replica, point("p/a"), LINEARIZABLE);
    waits.push(clock.now() - asked);
    const [kv] = answer.kvs;
    const found = kv === undefined ? -1 : Number(textOf(kv.value));
    if (found < wanted) stale.push(`${found}, not ${wanted}`);
  };
  const writes: Promise<unknown>[] = [];
  const asked: Promise<void>[] = [];
  for (let turn = 1; asked.length < reads || waits.length < reads; turn += 1) {
    if (turn > 2000) throw new Error("some are not answered");
    writes.push(put(writer, "beside", String(turn)));
    if (turn % turnsBetween === 0) writes.push(write(turn));
    if (turn % turnsBetween === 1 && asked.length < reads) asked.push(ask());
    await clock.advance(TURN);
  }
  await settled(Promise.all([...writes, ...asked]));
  replica.replica.stop();
  await settled(cluster.stop());
  return { waits: waits.toSorted((a, b) => a - b), stale };
}

/** Many at once, and each by itself: its round is the only one that brings progress. */
const PACES: readonly Pace[] = [
  { reads: 100, turnsBetween: 2 },
  { reads: 5, turnsBetween: 80 },
];

test.each(PACES)(
  "a linearizable read takes one round trip: $reads of them, one in $turnsBetween turns",
  async (pace) => {
    const { waits, stale } = await readAtDistance(pace);
    expect(waits).toHaveLength(pace.reads);
    expect(stale).toEqual([]);
    const oneTrip = 2 * ONE_WAY + AMONG_PEERS;
    expect(waits[0]).toBeGreaterThanOrEqual(oneTrip);
    expect(waits.at(-1)).toBeLessThanOrEqual(oneTrip + LIMITS.replicaGatherMilliseconds + SLACK);
  },
);

test("control: where progress is told before the cluster's revision is confirmed it takes two, and is right", async () => {
  const pace = { reads: 5, turnsBetween: 80, callDelayMilliseconds: 1 };
  const { waits, stale } = await readAtDistance(pace);
  expect(waits).toHaveLength(pace.reads);
  expect(stale).toEqual([]);
  expect(waits[0]).toBeGreaterThanOrEqual(4 * ONE_WAY);
});
