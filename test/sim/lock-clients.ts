/**
 * Clients that share a lock: a key under a lease, taken by a transaction when it is absent. The
 * revision that took it is the fencing token. Two promises are checked:
 *
 * - under bounded drift of the clocks no two clients believe at once that they hold the lock; a
 *   client believes so from the answer to its transaction on, for the lease's time from when it sent
 *   the grant or the last keepalive that was answered, less a margin;
 * - whatever a client believes (some write on when their time is over), a write to the guarded
 *   register with a token lower than one that was accepted before is refused.
 */
import type { Prng } from "../../shared/base/prng.ts";
import type { Clients } from "./clients.ts";
import type { Answer, TxnRequest } from "./history.ts";
import { renew, trustedMilliseconds } from "./lease-clients.ts";
import type { EventHistory } from "./observers.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";

const LOCK = "lock/lock";
const REGISTER = "lock/register";
/** Those of the lease clients lie below. */
const FIRST_LEASE = 1_000_000n;
const TTL_SECONDS = { low: 2, high: 4 } as const;
const TOKEN_DIGITS = 12;
/** How often a client writes on although its time is over. */
const CARELESS = 0.3;

interface Holder {
  readonly name: string;
  readonly lease: bigint;
  readonly ttlSeconds: number;
  /** In the world's time. */
  believedUntil: number;
}

export class LockClients {
  /** That were taken, and writes that fencing refused. */
  taken = 0;
  fenced = 0;
  readonly #cluster: SimCluster;
  readonly #clients: Clients;
  readonly #holders = new Set<Holder>();
  #running = true;
  #leases = FIRST_LEASE;

  constructor(cluster: SimCluster, clients: Clients) {
    this.#cluster = cluster;
    this.#clients = clients;
  }

  stop(): void {
    this.#running = false;
  }

  /** Tokens never fall along the register's history. */
  check({ events }: EventHistory): void {
    let highest = "";
    for (const revision of [...events.keys()].sort((a, b) => a - b)) {
      for (const { type, kv } of events.get(revision) ?? []) {
        if (type !== "put" || kv.key !== REGISTER) continue;
        const token = kv.value.slice(0, TOKEN_DIGITS);
        if (token < highest) {
          this.#cluster.world.fail(`the register took token ${token} after ${highest}`);
        }
        highest = token;
      }
    }
  }

  async run(name: string): Promise<void> {
    const { world } = this.#cluster;
    const prng = world.prng.fork();
    while (this.#running) {
      await world.sleep(prng.between(50, 400));
      this.#leases += 1n;
      const lease = this.#leases;
      const ttlSeconds = prng.between(TTL_SECONDS.low, TTL_SECONDS.high);
      const sent = world.now;
      const request = { kind: "grant", lease } as const;
      const granted = await this.#clients.ask(this.#anyMember(), request, { ttlSeconds });
      if (typeof granted.outcome !== "object") continue;
      const believedUntil = sent + trustedMilliseconds(ttlSeconds);
      const holder = { name, lease, ttlSeconds, believedUntil };
      const token = await this.#take(holder);
      if (token !== undefined) await this.#hold(prng, holder, token);
      // Also a lock that was not taken: the next try is of another lease.
      await this.#clients.ask(this.#anyMember(), { kind: "revoke", lease });
    }
  }

  /** The token, if the lock is this client's now. */
  async #take(holder: Holder): Promise<number | undefined> {
    const { world } = this.#cluster;
    const { name, lease } = holder;
    const value = `${name} ${lease}`;
    const taken = await this.#clients.ask(this.#anyMember(), {
      kind: "txn",
      compares: [{ key: LOCK, end: undefined, target: "create", result: "equal", operand: 0 }],
      success: [{ kind: "put", key: LOCK, value, lease }],
      failure: [{ kind: "range", key: LOCK, end: undefined }],
    });
    if (typeof taken.outcome !== "object" || taken.outcome.succeeded !== true) return undefined;
    if (world.now >= holder.believedUntil) return undefined;
    for (const other of this.#holders) {
      if (other.believedUntil <= world.now) continue;
      world.fail(`${name} and ${other.name} both believe that they hold the lock`);
    }
    this.#holders.add(holder);
    this.taken += 1;
    return taken.outcome.revision;
  }

  async #hold(prng: Prng, holder: Holder, token: number): Promise<void> {
    const { world } = this.#cluster;
    const careless = prng.chance(CARELESS);
    for (let steps = prng.between(1, 10); steps > 0 && this.#running; steps -= 1) {
      await world.sleep(prng.between(10, holder.ttlSeconds * 333));
      // One that was careless once has waited for the lock to go on to somebody else.
      if (careless && steps === 1) await world.sleep(2000 * holder.ttlSeconds);
      if (!careless && world.now >= holder.believedUntil) break;
      const written = await this.#clients.ask(this.#anyMember(), guarded(token, steps));
      const { outcome } = written;
      if (typeof outcome === "object" && wasFenced(outcome)) this.fenced += 1;
      const sent = world.now;
      const renewed = await renew(this.#cluster, this.#anyMember(), holder.lease);
      if (renewed === 0) break;
      if (renewed === undefined) continue;
      const until = sent + trustedMilliseconds(renewed);
      // Belief that has lapsed doesn't come back: somebody else may have had the lock meanwhile.
      if (world.now < holder.believedUntil) {
        holder.believedUntil = Math.max(holder.believedUntil, until);
      }
    }
    this.#holders.delete(holder);
  }

  #anyMember(): SimMember {
    return this.#cluster.world.prng.pick(this.#cluster.members);
  }
}

function wasFenced({ succeeded, results = [] }: Answer): boolean {
  const [nested] = results;
  return succeeded === false && nested?.kind === "txn" && !nested.succeeded;
}

/** Writes the register unless it has seen a higher token; ';' lies behind the ':' after a token. */
function guarded(token: number, step: number): TxnRequest {
  const text = String(token).padStart(TOKEN_DIGITS, "0");
  const register = { key: REGISTER, end: undefined };
  const write = { kind: "put", key: REGISTER, value: `${text}:${step}`, lease: 0n } as const;
  return {
    kind: "txn",
    compares: [{ ...register, target: "version", result: "equal", operand: 0 }],
    success: [write],
    failure: [
      {
        kind: "txn",
        compares: [{ ...register, target: "value", result: "less", operand: `${text};` }],
        success: [write],
        failure: [{ kind: "range", ...register }],
      },
    ],
  };
}
