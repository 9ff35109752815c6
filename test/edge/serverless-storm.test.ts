/**
 * Voters in Durable Objects that are aborted and evicted over and over, one at a time and all at once: the history
 * that clients take meanwhile is linearizable, so nothing acknowledged is lost. The control has voters that keep
 * nothing, and the same check must see it.
 */
import { afterEach, expect, test } from "vitest";
import { Prng } from "../../shared/base/prng.ts";
import { checkLinearizable } from "../sim/linearizability.ts";
import type { Operation } from "../sim/history.ts";
import { makeTempDir, removeTempDir } from "../support/temp-dir.ts";
import { FAST, startEvictable, untilHealthy } from "./edge.ts";
import type { EdgeVariables, StruckEdge } from "./edge.ts";
import { takeHistory } from "./edge-history.ts";

const VOTERS = ["quorate/0", "quorate/1", "quorate/2"] as const;

const cleanUps: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const each of cleanUps.splice(0).toReversed()) await each();
});

async function startVoters(variables: EdgeVariables = {}): Promise<StruckEdge> {
  const dataDir = makeTempDir("storm");
  cleanUps.push(() => removeTempDir(dataDir));
  const edge = await startEvictable({
    peers: "durable",
    dataDir,
    variables: { ...FAST, QUORATE_TIMEOUT_MS: "8000", ...variables },
  });
  cleanUps.push(() => edge.stop());
  await untilHealthy(edge);
  return edge;
}

/** No voter keeps anything in memory. True: all three were evicted while none could tell another. */
async function evictAll(edge: StruckEdge): Promise<boolean> {
  for (const name of VOTERS) await edge.still("PEER", name);
  const evicted = [];
  for (const name of VOTERS) evicted.push(await edge.evict("PEER", name));
  return evicted.every(Boolean);
}

/** What clients hear while `strikes` run, and until reads are answered after them. */
async function historyOver(
  edge: StruckEdge,
  seed: number,
  strikes: () => Promise<void>,
): Promise<Operation[]> {
  let reads = 0;
  let over = false;
  const counting: Pick<StruckEdge, "fetch"> = {
    fetch: async (path, init) => {
      const response = await edge.fetch(path, init);
      if (init?.method === undefined && response.status === 200) reads += 1;
      return response;
    },
  };
  const striking = strikes().then(async () => {
    await untilHealthy(edge);
    const before = reads;
    await expect.poll(() => reads, { timeout: 60_000 }).toBeGreaterThan(before + 5);
  });
  const how = { seed, until: () => over, operationsEach: 2000 };
  const [history] = await Promise.all([
    takeHistory(counting, how),
    striking.finally(() => {
      over = true;
    }),
  ]);
  const answers = history.filter(({ outcome }) => typeof outcome === "object").length;
  console.log(`seed ${seed}: ${history.length} asked, ${answers} answered`);
  expect(answers).toBeGreaterThan(20);
  return history;
}

test("over a storm of aborts and evictions the history is linearizable, and nothing is lost", async () => {
  const seed = Date.now() % 1_000_000;
  const edge = await startVoters();
  const prng = new Prng(seed);
  const struck = { aborts: 0, evictions: 0, together: 0 };
  const history = await historyOver(edge, seed, async () => {
    for (let strike = 0; strike < 16; strike += 1) {
      const name = prng.pick(VOTERS);
      if (strike % 8 === 7) struck.together += (await evictAll(edge)) ? 1 : 0;
      else if (strike % 2 === 0) struck.evictions += (await edge.evict("PEER", name)) ? 1 : 0;
      else {
        await edge.abort("PEER", name);
        struck.aborts += 1;
      }
      await new Promise((resolve) => setTimeout(resolve, 50 + prng.below(400)));
    }
  });
  console.log("struck:", struck);
  expect(struck.evictions).toBeGreaterThan(3);
  expect(struck.together).toBeGreaterThan(0);
  expect(checkLinearizable(history)).toMatchObject({ ok: true });
});

test("control: when voters keep nothing, evictions of all of them lose what was acknowledged", async () => {
  const edge = await startVoters({ QUORATE_FORGETFUL: "1" });
  const history = await historyOver(edge, 5, async () => {
    const answers = async (): Promise<number> => (await edge.fetch("/kv?prefix=h/")).status;
    await expect.poll(answers, { timeout: 60_000 }).toBe(200);
    await edge.fetch("/kv/h/a", { method: "PUT", body: "acknowledged" });
    await expect.poll(() => evictAll(edge), { timeout: 120_000 }).toBe(true);
  });
  expect(checkLinearizable(history)).toMatchObject({ ok: false });
});
