/**
 * What a lease's owner believes, through the edge: the production client, hub and batching over a
 * model of the cluster, in virtual time. Timers come a minute late, peers are cut off or slow, the
 * hub's clock jumps by a day, it is evicted, or two incarnations of it live. Checked after each
 * step: nobody believes in a lease for longer than the cluster has granted it.
 */
import { array, assert, asyncProperty, constantFrom, double, nat, record } from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { RpcError } from "../../../shared/api/errors.ts";
import { deadlineError } from "../../../shared/client/caller.ts";
import type { CallOptions, Caller } from "../../../shared/client/caller.ts";
import { LeaseKeeper } from "../../../shared/client/lease.ts";
import type { Lease } from "../../../shared/client/lease.ts";
import { defaultPlatform } from "../../../shared/client/platform.ts";
import type {
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
} from "../../../shared/wire/link.ts";
import { confirmed } from "../../../worker/lease-routes.ts";
import { LeaseHubDriver } from "../../../worker/lease-hub-driver.ts";
import type { Renewed } from "../../../worker/lease-hub-driver.ts";

const TTL_SECONDS = 5;
const CLIENTS = 3;
const DAY = 86_400_000;
const HEADER = { revision: 1, raftTerm: 1 };

const unavailable = (): RpcError => new RpcError("unavailable", "cut off");
const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What a hub may get wrong, each caught by the same check. */
type Mistake = "none" | "invents success" | "answers from memory" | "keeps deadlines by its clock";

interface Step {
  readonly what: "cut" | "lose" | "slow" | "late" | "jump" | "evict" | "twin" | "heal";
  /** 0 to 100: how long, how late, how far. */
  readonly size: number;
  /** Milliseconds until the next one. */
  readonly passes: number;
}

interface Drift {
  /** How fast clocks run, by the true time. */
  readonly client: number;
  readonly cluster: number;
}

/** The cluster, as far as leases go: it grants by its own clock from when a request gets there. */
class Lessor {
  readonly #rate: number;
  readonly #until = new Map<bigint, number>();
  #next = 1n;

  constructor(rate: number) {
    this.#rate = rate;
  }

  /** In true time; 0: there is no such lease. */
  until(id: bigint): number {
    return this.#until.get(id) ?? 0;
  }

  grant(): bigint {
    const id = this.#next++;
    this.#until.set(id, Date.now() + (TTL_SECONDS * 1000) / this.#rate);
    return id;
  }

  renew(ids: readonly bigint[]): Renewed {
    const ttlSeconds = ids.map((id) => {
      if (this.until(id) <= Date.now()) return 0;
      this.#until.set(id, Date.now() + (TTL_SECONDS * 1000) / this.#rate);
      return TTL_SECONDS;
    });
    return { ttlSeconds, header: HEADER };
  }
}

/** One incarnation: when it is evicted its callers hear of nothing but that. */
interface Incarnation {
  readonly driver: LeaseHubDriver;
  readonly evicted: Promise<never>;
  readonly evict: () => void;
}

class World {
  readonly lessor: Lessor;
  readonly #mistake: Mistake;
  readonly #clientRate: number;
  #hubs: Incarnation[] = [];
  #turn = 0;
  #cutUntil = 0;
  #loseUntil = 0;
  #slow = 0;
  #late = 0;
  #hubClock = 0;
  beliefs = 0;
  readonly #held = new Map<number, Lease>();

  constructor(drift: Drift, mistake: Mistake) {
    this.lessor = new Lessor(drift.cluster);
    this.#clientRate = drift.client;
    this.#mistake = mistake;
    this.#hubs = [this.#incarnation()];
  }

  #incarnation(): Incarnation {
    let evict = (): void => undefined;
    const evicted = new Promise<never>((_, reject) => {
      evict = () => reject(new Error("the object was evicted"));
    });
    evicted.catch(() => undefined);
    const remembered = new Map<bigint, { confirmedAt: number; deadline: number }>();
    const driver = new LeaseHubDriver("incarnation", {
      limits: { gatherMilliseconds: 75, batchIdsMax: 100, waitingMax: 1000 },
      now: () => this.#hubNow(),
      after: (milliseconds, run) => {
        const timer = setTimeout(run, milliseconds + this.#late);
        return () => clearTimeout(timer);
      },
      renew: (ids) => this.#renewWithMistake(ids, remembered),
    });
    return { driver, evicted, evict };
  }

  #hubNow(): number {
    return Date.now() + this.#hubClock;
  }

  /** To the peers and back, with everything that may happen on the way. */
  async #renew(ids: readonly bigint[]): Promise<Renewed> {
    await pause(5 + this.#slow / 2);
    if (Date.now() < this.#cutUntil) throw unavailable();
    const renewed = this.lessor.renew(ids);
    await pause(5 + this.#slow);
    if (Date.now() < this.#loseUntil) throw unavailable();
    return renewed;
  }

  async #renewWithMistake(
    ids: readonly bigint[],
    remembered: Map<bigint, { confirmedAt: number; deadline: number }>,
  ): Promise<Renewed> {
    if (this.#mistake === "answers from memory") {
      const fresh = (id: bigint): boolean =>
        Date.now() - (remembered.get(id)?.confirmedAt ?? -Infinity) < 3000;
      if (ids.every(fresh)) return { ttlSeconds: ids.map(() => TTL_SECONDS), header: HEADER };
    }
    try {
      const renewed = await this.#renew(ids);
      for (const id of ids) {
        const deadline = this.#hubNow() + TTL_SECONDS * 1000 - this.#slow - 1000;
        remembered.set(id, { confirmedAt: Date.now(), deadline });
      }
      return renewed;
    } catch (error) {
      if (this.#mistake === "invents success") {
        return { ttlSeconds: ids.map(() => TTL_SECONDS), header: HEADER };
      }
      if (this.#mistake === "keeps deadlines by its clock") {
        const left = (id: bigint): number =>
          Math.floor(((remembered.get(id)?.deadline ?? 0) - this.#hubNow()) / 1000);
        if (ids.every((id) => left(id) > 0)) return { ttlSeconds: ids.map(left), header: HEADER };
      }
      throw error;
    }
  }

  /** As the edge's routes do it: by the hub, and past one that was evicted. */
  async #keepAlive(ids: readonly bigint[]): Promise<LinkAnswerOf<"leaseKeepAlive">> {
    const hub = this.#hubs[this.#turn++ % this.#hubs.length] as Incarnation;
    const answer = await Promise.race([hub.driver.keepAlive(ids), hub.evicted]).catch(
      () => undefined,
    );
    const { ttlSeconds } = answer === undefined ? await this.#renew(ids) : confirmed(answer);
    return { method: "leaseKeepAlive", ttlSeconds, header: HEADER };
  }

  readonly #caller: Caller = {
    call: async <Method extends LinkMethod>(
      request: LinkRequestOf<Method>,
      { timeoutMilliseconds = 10_000 }: CallOptions = {},
    ) => {
      const late = pause(timeoutMilliseconds).then(() => {
        throw deadlineError({ write: false });
      });
      const asked = request as LinkRequest;
      const answered =
        asked.method === "leaseKeepAlive" ? this.#keepAlive(asked.ids) : this.#granted();
      answered.catch(() => undefined);
      late.catch(() => undefined);
      return (await Promise.race([answered, late])) as unknown as LinkAnswerOf<Method>;
    },
    watch: () => Promise.reject(unavailable()),
    close: () => undefined,
  };

  async #granted(): Promise<LinkAnswerOf<"leaseGrant">> {
    await pause(5 + this.#slow / 2);
    const id = this.lessor.grant();
    await pause(5 + this.#slow);
    return { method: "leaseGrant", id, ttlSeconds: TTL_SECONDS, header: HEADER };
  }

  /** A client that wants a lease at all times. */
  client(place: number): void {
    const zero = Date.now();
    const now = (): number => (Date.now() - zero) * this.#clientRate;
    const keeper = new LeaseKeeper(this.#caller, { ...defaultPlatform(), now });
    const hold = async (): Promise<void> => {
      try {
        const lease = await keeper.grant({ ttl: TTL_SECONDS });
        this.#held.set(place, lease);
        await lease.lost;
      } catch {
        await pause(100);
      }
      void hold();
    };
    void hold();
  }

  /** The first belief that outlasts what the cluster has granted. */
  violation(): string | undefined {
    for (const lease of this.#held.values()) {
      const remaining = lease.remainingMilliseconds() / this.#clientRate;
      if (remaining === 0) continue;
      this.beliefs += 1;
      const excess = Date.now() + remaining - this.lessor.until(lease.id);
      if (excess > 0) return `lease ${lease.id} is believed in for ${excess} ms too long`;
    }
    return undefined;
  }

  strike({ what, size }: Step): void {
    switch (what) {
      case "cut":
        this.#cutUntil = Date.now() + size * 200;
        return;
      case "lose":
        this.#loseUntil = Date.now() + size * 200;
        return;
      case "slow":
        this.#slow = size * 100;
        return;
      case "late":
        this.#late = size * 600;
        return;
      case "jump":
        this.#hubClock += (size - 50) * (DAY / 50);
        return;
      case "evict": {
        for (const hub of this.#hubs) hub.evict();
        this.#hubs = [this.#incarnation()];
        return;
      }
      case "twin":
        this.#hubs = [...this.#hubs.slice(-1), this.#incarnation()];
        return;
      case "heal":
        this.#cutUntil = this.#loseUntil = this.#slow = this.#late = 0;
    }
  }
}

const steps = array(
  record({
    what: constantFrom<Step["what"]>(
      ...(["cut", "lose", "slow", "late", "jump", "evict", "twin", "heal", "heal"] as const),
    ),
    size: nat(100),
    passes: nat(4000),
  }),
  { minLength: 8, maxLength: 16 },
);
/** What the client's margin covers: 1 % between the two. */
const rates = record({
  client: double({ min: 0.996, max: 1.004, noNaN: true }),
  cluster: double({ min: 0.996, max: 1.004, noNaN: true }),
});

const NO_DRIFT: Drift = { client: 1, cluster: 1 };
const CHECK_EVERY = 200;

/** Throws when somebody believes too long; the times that anybody believed at all. */
async function run(drift: Drift, each: readonly Step[], mistake: Mistake): Promise<number> {
  vi.clearAllTimers();
  const world = new World(drift, mistake);
  for (let place = 0; place < CLIENTS; place += 1) world.client(place);
  for (const step of each) {
    for (let passed = 0; passed <= step.passes; passed += CHECK_EVERY) {
      await vi.advanceTimersByTimeAsync(CHECK_EVERY);
      const violation = world.violation();
      if (violation !== undefined) throw new Error(violation);
    }
    world.strike(step);
  }
  return world.beliefs;
}

describe("belief in a lease", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test("is never longer than what the cluster granted, whatever happens to hub, peers and clocks", async () => {
    let beliefs = 0;
    await assert(
      asyncProperty(rates, steps, async (drift, each) => {
        beliefs += await run(drift, each, "none");
      }),
      { numRuns: 40 },
    );
    expect(beliefs).toBeGreaterThan(1000);
  });

  test("lasts while nothing is wrong but the hub's clock and its incarnations", async () => {
    const odd = (["jump", "evict", "twin", "jump", "evict"] as const).map((what, position) => ({
      what,
      size: position * 20,
      passes: 6000,
    }));
    const beliefs = await run({ client: 1.004, cluster: 0.996 }, odd, "none");
    // Every client at every look: none has ever lost its lease.
    expect(beliefs).toBe(CLIENTS * odd.length * (6000 / CHECK_EVERY + 1));
  });

  test.each<[name: string, Mistake, Drift]>([
    ["a hub that invents success when its peers are silent", "invents success", NO_DRIFT],
    ["a hub that answers from memory", "answers from memory", NO_DRIFT],
    ["a hub that keeps deadlines by its clock", "keeps deadlines by its clock", NO_DRIFT],
    ["clocks further apart than the margin", "none", { client: 0.9, cluster: 1.1 }],
  ])("negative control: %s is caught", async (_name, mistake, drift) => {
    const found = assert(
      asyncProperty(steps, async (each) => {
        await run(drift, each, mistake);
      }),
      { numRuns: 200, seed: 1, endOnFailure: true },
    );
    const message: unknown = expect.stringContaining("too long");
    await expect(found).rejects.toMatchObject({ cause: { message } });
  });
});
