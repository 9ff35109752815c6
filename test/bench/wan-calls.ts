/**
 * The calls that are measured over a distance, each checked. What they need (values, revisions to
 * compare with, leases) is put in place by a client beside the members.
 */
import { utf8 } from "../../shared/base/bytes.ts";
import { EtcdClient } from "../support/etcd-client.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";
import { LEVELS } from "./wan-doors.ts";
import type { Door, Level } from "./wan-doors.ts";

export const OPERATIONS = [
  ...LEVELS.map((level) => `get, ${level}` as const),
  "put",
  "compare-and-set",
  "keepalive",
  "watch event",
] as const;
export type Operation = (typeof OPERATIONS)[number];

/** Makes the call of this number; rejects when its answer isn't the right one. */
export type Call = (number: number) => Promise<void>;

const VALUE = "v".repeat(256);
export const READ_KEY = "wan/read";
/** Longer than all of a run. */
const TTL_SECONDS = 1200n;
const EVENT_MILLISECONDS_MAX = 30_000;

/** A client beside the members. */
export class Near {
  readonly #client: EtcdClient;

  constructor(address: string) {
    this.#client = new EtcdClient(new GrpcChannel(address));
  }

  /** The revision that the put made. */
  async put(key: string, bytes = VALUE.length): Promise<number> {
    const value = bytes === VALUE.length ? VALUE : "v".repeat(bytes);
    const { header } = await this.#client.put({ key: utf8(key), value: utf8(value) });
    return Number(header?.revision);
  }

  async grant(): Promise<bigint> {
    return (await this.#client.leaseGrant({ TTL: TTL_SECONDS })).ID;
  }

  close(): void {
    this.#client.close();
  }
}

function check(right: boolean, what: string): void {
  if (!right) throw new Error(`a wrong answer to a ${what}`);
}

const all = <Thing>(count: number, make: (number: number) => Promise<Thing>): Promise<Thing[]> =>
  Promise.all(Array.from({ length: count }, (_, number) => make(number)));

/**
 * Makes `count` calls of an operation possible. `name` is a key prefix of this use alone. Undefined:
 * the door has no such operation.
 */
export async function prepareCalls(
  { door, near }: { readonly door: Door; readonly near: Near },
  operation: Operation,
  { name, count }: { readonly name: string; readonly count: number },
): Promise<Call | undefined> {
  const keyOf = (number: number): string => `wan/${name}/${number}`;
  switch (operation) {
    case "put":
      return (number) => door.put(keyOf(number), VALUE);
    case "compare-and-set": {
      const revisions = await all(count, (number) => near.put(keyOf(number)));
      return async (number) => {
        const swapped = await door.swap(keyOf(number), revisions[number] ?? 0, VALUE);
        check(swapped, operation);
      };
    }
    case "keepalive": {
      const leases = await all(count, () => near.grant());
      return async (number) => check((await door.renew(leases[number] ?? 0n)) > 0, operation);
    }
    case "watch event": {
      const heard = heardOf(await door.watch(`wan/${name}/`));
      return async (number) => {
        const event = heard(keyOf(number));
        await near.put(keyOf(number));
        await event;
      };
    }
    default: {
      const level = operation.slice("get, ".length) as Level;
      if (!door.levels.includes(level)) return undefined;
      await near.put(READ_KEY);
      // From here on the door's session and its replica know of the key, too.
      await door.get(READ_KEY, "linearizable");
      return async () => check((await door.get(READ_KEY, level)) === VALUE, operation);
    }
  }
}

/** Waits for one key among those that come. */
function heardOf(keys: AsyncIterable<string>): (key: string) => Promise<void> {
  const waiting = new Map<string, () => void>();
  const read = async (): Promise<void> => {
    for await (const key of keys) waiting.get(key)?.();
  };
  // It ends when the door closes; an event that doesn't come fails its own call.
  read().catch(() => undefined);
  return (key) =>
    new Promise((resolve, reject) => {
      const late = (): void => reject(new Error(`no event of ${key} came`));
      const timer = setTimeout(late, EVENT_MILLISECONDS_MAX);
      waiting.set(key, () => {
        clearTimeout(timer);
        waiting.delete(key);
        resolve();
      });
    });
}
