/**
 * Clients that hold leases, and what they may believe: a lease is theirs for its time from the
 * moment at which they sent the grant or the last keepalive that was answered, less a margin for
 * clocks that drift. As long as a client believes so, no member may have deleted the key that it
 * attached.
 */
import type { Clients } from "./clients.ts";
import type { ObservedEvent } from "./history.ts";
import { ANY_CALL } from "./observers.ts";
import { CLOCK_DRIFT } from "./sim-cluster.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";

/** Both clocks may be wrong, one too fast and one too slow. */
const MARGIN = 3 * CLOCK_DRIFT;
const TTL_SECONDS_MAX = 6;
/** How often a client renews a lease at one member only, whatever that answers. */
const LOYAL = 0.5;
/** A client that was answered late often renews no more: what it believes then is put to the test. */
const LATE_MILLISECONDS = 300;
const QUITS_WHEN_LATE = 0.5;
const KEEPALIVE_TIMEOUT_MILLISECONDS = 1500;

interface Held {
  readonly lease: bigint;
  readonly key: string;
  readonly value: string;
  /** In the world's time. */
  believedUntil: number;
  /** When any member first showed that its key is gone. */
  endedAt: number;
}

export class LeaseClients {
  readonly #cluster: SimCluster;
  readonly #clients: Clients;
  /** By key. */
  readonly #held = new Map<string, Held>();
  /** What the keys hold: a late put of an earlier lease may have taken a key over. */
  readonly #values = new Map<string, string>();
  #running = true;
  #leases = 0n;

  constructor(cluster: SimCluster, clients: Clients) {
    this.#cluster = cluster;
    this.#clients = clients;
  }

  stop(): void {
    this.#running = false;
  }

  /** To be told of every revision as soon as any member shows it. */
  seen(events: readonly ObservedEvent[]): void {
    const { world } = this.#cluster;
    for (const { type, kv } of events) {
      const held = this.#held.get(kv.key);
      const value = this.#values.get(kv.key);
      this.#values.set(kv.key, kv.value);
      if (type !== "delete" || held === undefined || value !== held.value) continue;
      held.endedAt = Math.min(held.endedAt, world.now);
      if (world.now >= held.believedUntil) continue;
      const early = (held.believedUntil - world.now).toFixed(0);
      world.fail(`lease ${held.lease} of ${held.key} ended ${early} ms before its time`);
    }
  }

  async run(name: string): Promise<void> {
    const { world } = this.#cluster;
    const prng = world.prng.fork();
    while (this.#running) {
      await world.sleep(prng.between(50, 500));
      this.#leases += 1n;
      const lease = this.#leases;
      const key = `lease/${name}`;
      const ttlSeconds = prng.between(2, TTL_SECONDS_MAX);
      const sent = world.now;
      const granted = await this.#clients.ask(
        this.#anyMember(),
        { kind: "grant", lease },
        {
          ttlSeconds,
        },
      );
      if (typeof granted.outcome !== "object") continue;
      const value = `l${lease}`;
      const put = await this.#clients.ask(this.#anyMember(), { kind: "put", key, value, lease });
      if (typeof put.outcome !== "object") continue;
      // The key may be gone already if the put took long: only what is renewed from here on is held.
      const believedUntil = sent + trustedMilliseconds(ttlSeconds);
      const held: Held = { lease, key, value, believedUntil, endedAt: Infinity };
      this.#held.set(key, held);
      await this.#keep(held, ttlSeconds, prng.between(0, 12));
      if (prng.chance(0.3)) {
        this.#held.delete(key);
        await this.#clients.ask(this.#anyMember(), { kind: "revoke", lease });
      } else {
        // Lets it expire; until then it is still believed in.
        await world.sleep(prng.between(0, 8000));
        this.#held.delete(key);
      }
    }
    this.#held.delete(`lease/${name}`);
  }

  async #keep(held: Held, ttlSeconds: number, renewals: number): Promise<void> {
    const { world } = this.#cluster;
    const only = world.prng.chance(LOYAL) ? this.#anyMember() : undefined;
    for (let renewal = 0; renewal < renewals && this.#running; renewal += 1) {
      await world.sleep((ttlSeconds * 1000) / 4);
      const sent = world.now;
      const answered = await renew(this.#cluster, only ?? this.#anyMember(), held.lease);
      if (answered === 0) return;
      if (answered === undefined) continue;
      if (held.endedAt < sent) {
        world.fail(`lease ${held.lease} was renewed by a keepalive that was sent after its end`);
      }
      held.believedUntil = Math.max(held.believedUntil, sent + trustedMilliseconds(answered));
      if (world.now - sent > LATE_MILLISECONDS && world.prng.chance(QUITS_WHEN_LATE)) return;
    }
  }

  #anyMember(): SimMember {
    return this.#cluster.world.prng.pick(this.#cluster.members);
  }
}

/** How long a client may believe in a lease, from when it sent what was answered. */
export function trustedMilliseconds(ttlSeconds: number): number {
  return ttlSeconds * 1000 * (1 - MARGIN);
}

/** A keepalive at this member: the ttl that is answered; undefined when none is. */
export function renew(
  { world }: SimCluster,
  member: SimMember,
  lease: bigint,
): Promise<number | undefined> {
  return new Promise((resolve) => {
    world.schedule(KEEPALIVE_TIMEOUT_MILLISECONDS, () => resolve(undefined));
    world.schedule(1, () => {
      const { process } = member;
      process?.enter(() => {
        const { peer } = member;
        if (peer === undefined || member.process !== process) return;
        peer.services.lease.keepAlive([lease], ANY_CALL).then(
          ({ ttlSeconds }) => {
            if (member.process !== process) return;
            world.note(`keepalive of ${lease}: ${ttlSeconds[0]}`);
            world.schedule(1, () => resolve(ttlSeconds[0]));
          },
          () => resolve(undefined),
        );
      });
    });
  });
}
