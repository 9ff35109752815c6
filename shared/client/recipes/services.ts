/**
 * Which processes offer a service, and which of them to ask. Keys and values are those of etcd's
 * `naming/endpoints`, so that gRPC's resolvers in Go see the same addresses.
 *
 *   await using registration = await register(store, "api", { address: "10.0.0.7:8080" });
 *
 *   const services = new Services(store, "api");
 *   await services.ready;
 *   const answer = await services.use((endpoint) => fetch(`http://${endpoint.address}/`));
 */
import { RpcError } from "../../api/errors.ts";
import * as LIMITS from "../../base/link-limits.ts";
import { defaultPlatform, pause } from "../platform.ts";
import type { Store } from "../store.ts";
import { json } from "../values.ts";
import type { Entry } from "../values.ts";
import { LiveRange } from "./live.ts";
import { openSession } from "./session.ts";
import type { AnyStore, Session, SessionOptions } from "./session.ts";
import type { WaitOptions } from "./waiting-line.ts";

export interface ServiceEndpoint {
  readonly address: string;
  readonly metadata?: unknown;
}

/** etcd's form of it. `Op` 0 is "add". */
interface StoredEndpoint {
  readonly Op: 0;
  readonly Addr: string;
  readonly Metadata?: unknown;
}

export interface Registration extends AsyncDisposable {
  /** Takes the endpoint away. */
  unregister(): Promise<void>;
}

/**
 * Offers an endpoint until `unregister`: under a lease, and under a new one whenever that is lost.
 * Rejects when the first registration fails.
 */
export async function register(
  anyStore: AnyStore,
  service: string,
  endpoint: ServiceEndpoint,
  options: SessionOptions = {},
): Promise<Registration> {
  const store = anyStore.as(json<StoredEndpoint>());
  const stopped = new AbortController();
  const { address, metadata } = endpoint;
  const stored: StoredEndpoint = {
    Op: 0,
    Addr: address,
    ...(metadata === undefined ? {} : { Metadata: metadata }),
  };
  const offer = async (): Promise<Session> => {
    const session = await openSession(store, options);
    await store.put(`${service}/${address}`, stored, { lease: session.lease });
    return session;
  };
  let session = await offer();
  const staying = (async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await Promise.race([session.lost, aborted(stopped.signal)]);
      if (stopped.signal.aborted) return;
      try {
        session = await offer();
      } catch {
        await pause(LIMITS.clientBackoffMillisecondsMax, stopped.signal);
      }
    }
  })();
  const unregister = async (): Promise<void> => {
    stopped.abort();
    await staying;
    await session.close();
  };
  return { unregister, [Symbol.asyncDispose]: unregister };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** How one of several is chosen. */
export type Balance =
  /** One after the other. */
  | "roundRobin"
  /** Of two drawn at random, the one with fewer calls under way. */
  | "leastBusy";

export class Services implements AsyncIterable<readonly ServiceEndpoint[]> {
  readonly ready: Promise<void>;
  readonly #live: LiveRange<StoredEndpoint>;
  readonly #balance: Balance;
  readonly #restMilliseconds: number;
  readonly #platform = defaultPlatform();
  readonly #busy = new Map<string, number>();
  /** Addresses that failed, and until when they rest. */
  readonly #resting = new Map<string, number>();
  #turn = 0;

  constructor(
    anyStore: AnyStore,
    service: string,
    options: WaitOptions & {
      readonly balance?: Balance | undefined;
      /** How long an endpoint that failed is passed over, while there are others. */
      readonly restMilliseconds?: number | undefined;
    } = {},
  ) {
    const store: Store<StoredEndpoint> = anyStore.as(json<StoredEndpoint>());
    this.#live = new LiveRange(store, { prefix: `${service}/` }, options);
    this.#balance = options.balance ?? "roundRobin";
    this.#restMilliseconds = options.restMilliseconds ?? LIMITS.serviceRestMilliseconds;
    this.ready = this.#live.ready;
  }

  /** All that are offered now. */
  get current(): readonly ServiceEndpoint[] {
    return [...this.#live.current.values()].map(endpointOf);
  }

  close(): void {
    this.#live.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<readonly ServiceEndpoint[], void, void> {
    for await (const entries of this.#live) yield [...entries.values()].map(endpointOf);
  }

  /** The next endpoint to ask; undefined: none is offered. */
  pick(): ServiceEndpoint | undefined {
    const all = this.current;
    const now = this.#platform.now();
    const rested = all.filter(({ address }) => (this.#resting.get(address) ?? 0) <= now);
    const usable = rested.length > 0 ? rested : all;
    if (this.#balance === "roundRobin") return usable[this.#turn++ % Math.max(1, usable.length)];
    const draw = (): ServiceEndpoint | undefined =>
      usable[Math.floor(this.#platform.random() * usable.length)];
    const [one, other] = [draw(), draw()];
    if (one === undefined || other === undefined) return one;
    return this.#busyWith(other) < this.#busyWith(one) ? other : one;
  }

  /** Calls one of them; one that throws rests, and the error is the caller's. */
  async use<Result>(call: (endpoint: ServiceEndpoint) => Promise<Result>): Promise<Result> {
    const endpoint = this.pick();
    if (endpoint === undefined) throw new RpcError("unavailable", "nobody offers the service");
    const { address } = endpoint;
    this.#busy.set(address, this.#busyWith(endpoint) + 1);
    try {
      const result = await call(endpoint);
      this.#resting.delete(address);
      return result;
    } catch (error) {
      this.#resting.set(address, this.#platform.now() + this.#restMilliseconds);
      throw error;
    } finally {
      const busy = this.#busyWith(endpoint) - 1;
      if (busy > 0) this.#busy.set(address, busy);
      else this.#busy.delete(address);
      this.#forget();
    }
  }

  #busyWith({ address }: ServiceEndpoint): number {
    return this.#busy.get(address) ?? 0;
  }

  /** Of addresses that are offered no more nothing is kept. */
  #forget(): void {
    const offered = new Set(this.current.map(({ address }) => address));
    for (const address of this.#resting.keys()) {
      if (!offered.has(address)) this.#resting.delete(address);
    }
  }
}

function endpointOf({ value }: Entry<StoredEndpoint>): ServiceEndpoint {
  const { Addr: address, Metadata: metadata } = value;
  return metadata === undefined ? { address } : { address, metadata };
}
