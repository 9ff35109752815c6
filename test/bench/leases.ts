/**
 * 100 000 leases of clients at the edge: hub cores in this process, over links to a real cluster.
 *
 *   npx node test/bench/leases.ts [--leases 100000] [--ttl 10] [--shards 4] [--seconds 20] [--members 3]
 *
 * Each simulated client renews its lease every third of the ttl by its hub, as the edge's routes
 * do; a renewal counts once the hub has told it so. Printed: renewals and messages to the peers per
 * second, the members' CPU by the kernel's accounting, this process' own, and the leases that were
 * lost (none may be). Then what 1 000 000 would cost: the cores alone, in simulated time, with the
 * peers' share scaled from what was measured.
 */
import { parseArgs } from "node:util";
import { LIMITS } from "../../shared/base/limits.ts";
import { Endpoints } from "../../shared/client/endpoints.ts";
import { LinkCaller } from "../../shared/client/link-caller.ts";
import { defaultPlatform } from "../../shared/client/platform.ts";
import { WriteLanes } from "../../shared/client/write-lanes.ts";
import { LeaseHubCore } from "../../worker/lease-hub-core.ts";
import { usageOfAll } from "./process-usage.ts";
import { sleep } from "./run.ts";
import { startSide } from "./sides.ts";

const { values } = parseArgs({
  options: {
    leases: { type: "string", default: "100000" },
    ttl: { type: "string", default: "10" },
    shards: { type: "string", default: "4" },
    seconds: { type: "string", default: "20" },
    members: { type: "string", default: "3" },
  },
});
const leaseCount = Number(values.leases);
const ttlSeconds = Number(values.ttl);
const shardCount = Number(values.shards);
const seconds = Number(values.seconds);
const SLOT_MILLISECONDS = 10;
const RENEW_MILLISECONDS = Math.floor((ttlSeconds * 1000) / 3);
const SLOTS = Math.ceil(RENEW_MILLISECONDS / SLOT_MILLISECONDS);
const HUB = {
  gatherMilliseconds: LIMITS.hubGatherMilliseconds,
  batchIdsMax: LIMITS.leaseRenewIdsMax,
  waitingMax: leaseCount,
};

/** Keepalives of one shard: the core, and what its batches are sent with. */
class Hub {
  readonly #core: LeaseHubCore;
  readonly #send: (ids: readonly bigint[]) => Promise<readonly number[] | undefined>;
  renewals = 0;
  messages = 0;
  failed = 0;
  lost = 0;

  constructor(name: string, send: Hub["send"]) {
    this.#core = new LeaseHubCore(name, HUB);
    this.#send = send;
  }

  get send(): (ids: readonly bigint[]) => Promise<readonly number[] | undefined> {
    return this.#send;
  }

  ask(id: bigint, now: number): void {
    if (this.#core.ask([id], now) === undefined) this.failed += 1;
  }

  tick(now: number): void {
    for (const batch of this.#core.close(now)) {
      this.messages += 1;
      void this.#send(batch.ids).then((ttls) => {
        for (const settlement of this.#core.settle(batch.number, ttls)) {
          if (settlement.outcome === "failed") this.failed += 1;
          else if ((settlement.ttlSeconds[0] ?? 0) <= 0) this.lost += 1;
          else this.renewals += 1;
        }
      });
    }
  }
}

const sum = (hubs: readonly Hub[], pick: (hub: Hub) => number): number =>
  hubs.reduce((total, hub) => total + pick(hub), 0);

async function measure(): Promise<number> {
  const side = await startSide("quorate", Number(values.members));
  const platform = defaultPlatform();
  const caller = new LinkCaller({
    endpoints: new Endpoints(side.addresses.map((address) => `http://${address}`)),
    platform,
    lanes: new WriteLanes((count) => platform.randomBytes(count)),
    role: "edge",
    token: "",
    timeoutMilliseconds: 10_000,
  });
  const send = async (ids: readonly bigint[]): Promise<readonly number[] | undefined> => {
    try {
      return (await caller.call({ method: "leaseKeepAlive", ids })).ttlSeconds;
    } catch {
      return undefined;
    }
  };
  const hubs = Array.from({ length: shardCount }, (_, shard) => new Hub(`leases:${shard}`, send));
  const slots: bigint[][] = Array.from({ length: SLOTS }, () => []);
  let slot = 0;
  const ticker = setInterval(() => {
    const now = performance.now();
    const due = Math.floor(now / SLOT_MILLISECONDS);
    // After a stall the slots that were missed are asked for as well.
    for (slot = Math.max(slot, due - SLOTS); slot < due; slot += 1) {
      for (const id of slots[slot % SLOTS] ?? []) {
        hubs[Number(id % BigInt(shardCount))]?.ask(id, now);
      }
    }
    for (const hub of hubs) hub.tick(now);
  }, SLOT_MILLISECONDS);
  try {
    console.log(`granting ${leaseCount} leases of ${ttlSeconds} s ...`);
    for (let granted = 0; granted < leaseCount; granted += 500) {
      const answers = await Promise.all(
        Array.from({ length: Math.min(500, leaseCount - granted) }, () =>
          caller.call({ method: "leaseGrant", id: 0n, ttlSeconds: BigInt(ttlSeconds) }),
        ),
      );
      for (const [place, { id }] of answers.entries()) slots[(granted + place) % SLOTS]?.push(id);
    }
    // One whole round of renewals before anything counts.
    await sleep(RENEW_MILLISECONDS * 2);
    const before = { peers: side.pids.map((pid) => usageOfAll([pid]).cpuSeconds) };
    const own = process.cpuUsage();
    const [renewals, messages] = [
      sum(hubs, (hub) => hub.renewals),
      sum(hubs, (hub) => hub.messages),
    ];
    const start = performance.now();
    await sleep(seconds * 1000);
    const took = (performance.now() - start) / 1000;
    const perSecond = (sum(hubs, (hub) => hub.renewals) - renewals) / took;
    const upstream = (sum(hubs, (hub) => hub.messages) - messages) / took;
    const used = side.pids.map((pid, place) => {
      const seen = usageOfAll([pid]).cpuSeconds - (before.peers[place] ?? 0);
      return seen / took;
    });
    const { user, system } = process.cpuUsage(own);
    const { ids } = await caller.call({ method: "leases" });
    const cores = used.map((each) => each.toFixed(2)).join(", ");
    console.log(
      `| ${leaseCount} | ${shardCount} | ${perSecond.toFixed(0)} | ${upstream.toFixed(1)} | ` +
        `${cores} | ${((user + system) / 1e6 / took).toFixed(2)} | ` +
        `${sum(hubs, (hub) => hub.lost)} | ${sum(hubs, (hub) => hub.failed)} | ${ids.length} |`,
    );
    return Math.max(...used) / perSecond;
  } finally {
    clearInterval(ticker);
    caller.close();
    await side.stop();
  }
}

/** The cores' own cost in simulated time, and the peers' by what a renewal took of the busiest one. */
function simulate(leases: number, shards: number, peerSecondsPerRenewal: number): void {
  const hubs = Array.from({ length: shards }, (_, shard) => {
    const name = `simulated:${shard}`;
    const core = new LeaseHubCore(name, { ...HUB, waitingMax: leases });
    return { core, messages: 0, renewals: 0 };
  });
  const used = process.cpuUsage();
  const rounds = 2;
  for (let now = 0; now < rounds * RENEW_MILLISECONDS; now += SLOT_MILLISECONDS) {
    const slot = (now / SLOT_MILLISECONDS) % SLOTS;
    for (let lease = slot; lease < leases; lease += SLOTS) {
      hubs[lease % shards]?.core.ask([BigInt(lease + 1)], now);
    }
    for (const hub of hubs) {
      for (const batch of hub.core.close(now)) {
        hub.messages += 1;
        hub.renewals += hub.core.settle(
          batch.number,
          Array<number>(batch.ids.length).fill(10),
        ).length;
      }
    }
  }
  const { user, system } = process.cpuUsage(used);
  const simulated = (rounds * RENEW_MILLISECONDS) / 1000;
  const renewals = hubs.reduce((total, hub) => total + hub.renewals, 0) / simulated;
  const messages = hubs.reduce((total, hub) => total + hub.messages, 0) / simulated;
  const hubCores = (user + system) / 1e6 / simulated;
  console.log(
    `| ${leases} | ${shards} | ${renewals.toFixed(0)} | ${messages.toFixed(1)} | ` +
      `${(renewals * peerSecondsPerRenewal).toFixed(2)} | ${hubCores.toFixed(2)} |`,
  );
}

const perRenewal = await measure();
console.log(`a renewal takes ${(perRenewal * 1e6).toFixed(1)} us of the busiest member`);
for (const leases of [10_000, 100_000, 300_000, 1_000_000])
  simulate(leases, shardCount, perRenewal);
for (const shards of [1, 16, 64]) simulate(1_000_000, shards, perRenewal);
