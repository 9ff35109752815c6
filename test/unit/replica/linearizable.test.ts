/**
 * Linearizable reads of a replica beside writes to its cluster, over a feed that is late and links that break: no
 * answer is older than its request. The controls join a confirmation that is under way, answer from a round that began
 * before, and from the watermark as it is; all must be seen.
 */
import { expect, test } from "vitest";
import { utf8 } from "../../../shared/base/bytes.ts";
import { Prng } from "../../../shared/base/prng.ts";
import type { ReadLevel } from "../../../shared/peer/services.ts";
import {
  LINEARIZABLE,
  SERIALIZABLE,
  caughtUp,
  point,
  read,
  shown,
  startReplica,
} from "./driven-replica.ts";
import type { Driven } from "./driven-replica.ts";

interface Run {
  readonly answered: number;
  readonly refused: number;
  readonly stale: readonly string[];
}

interface RunOptions {
  readonly level: ReadLevel;
  /** A round's answer may be one that was given earlier. */
  readonly reusesRounds?: boolean;
  /** Reads join the confirmation that is under way. */
  readonly joinsUnderWay?: boolean;
}

/** Writes and reads at random for a while of virtual time; each answer is held against what was written before. */
async function run(seed: number, options: RunOptions): Promise<Run> {
  const { level, reusesRounds = false, joinsUnderWay = false } = options;
  const prng = new Prng(seed);
  const replica: Driven = startReplica();
  const { cluster, clock } = replica;
  cluster.joinsUnderWay = joinsUnderWay;
  cluster.put("p/a", "0");
  await caughtUp(replica);
  let known = cluster.store.revision;
  if (reusesRounds) {
    cluster.confirmedRevision = () => {
      const before = known;
      known = cluster.store.revision;
      return before;
    };
  }
  const way = (): Promise<void> =>
    new Promise((resolve) => {
      clock.schedule(prng.below(60), resolve);
    });
  cluster.before = way;
  cluster.after = way;
  let answered = 0;
  let refused = 0;
  const stale: string[] = [];
  const ask = async (): Promise<void> => {
    const written = cluster.store.get(utf8("p/a"))?.modRevision ?? 0;
    const revision = cluster.store.revision;
    try {
      const answer = await read(replica, point("p/a"), level, 2000);
      answered += 1;
      const found = answer.kvs[0]?.modRevision ?? 0;
      if (found < written || answer.header.revision < revision) {
        stale.push(`${shown(answer).join()} at ${answer.header.revision}, wanted ${revision}`);
      }
    } catch {
      refused += 1;
    }
  };
  const asked: Promise<void>[] = [];
  for (let turn = 0; turn < 400; turn += 1) {
    const dice = prng.below(20);
    if (dice < 6) cluster.put("p/a", `${turn}`);
    else if (dice < 8) cluster.put("other", `${turn}`);
    else if (dice < 16) asked.push(ask());
    else if (dice === 16) cluster.isHeld = true;
    else if (dice < 19) cluster.release();
    else if (prng.below(3) === 0) cluster.cut();
    await clock.advance(prng.below(20));
  }
  cluster.release();
  await clock.advance(5000);
  await Promise.all(asked);
  replica.replica.stop();
  return { answered, refused, stale };
}

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];

test("no answer is older than its request, over late feeds and cut links", async () => {
  let answered = 0;
  for (const seed of SEEDS) {
    const outcome = await run(seed, { level: LINEARIZABLE });
    expect([seed, outcome.stale]).toEqual([seed, []]);
    answered += outcome.answered;
  }
  expect(answered).toBeGreaterThan(500);
});

test("control: reads that join a confirmation under way yield stale answers", async () => {
  const stale: string[] = [];
  for (const seed of SEEDS) {
    stale.push(...(await run(seed, { level: LINEARIZABLE, joinsUnderWay: true })).stale);
  }
  expect(stale.length).toBeGreaterThan(0);
});

test("control: rounds that say what an earlier one said yield stale answers", async () => {
  const stale: string[] = [];
  for (const seed of SEEDS) {
    stale.push(...(await run(seed, { level: LINEARIZABLE, reusesRounds: true })).stale);
  }
  expect(stale.length).toBeGreaterThan(0);
});

test("control: answers from the watermark as it is are stale", async () => {
  const { stale } = await run(1, { level: SERIALIZABLE });
  expect(stale.length).toBeGreaterThan(0);
});
