/**
 * What the API suite needs of a target, and what it gives to its tests. Every test gets a client and a key prefix of
 * its own, so that tests share one running target; within a target they run one after the other, so a test may count
 * revisions. `test/known-differences.txt` turns a listed test into one that must fail.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { errorCodeOf, rpcError, RpcError, type ErrorCode } from "../../shared/api/errors.ts";
import type { ResponseHeader } from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { prefixEnd, textOf, utf8, type Bytes } from "../../shared/base/bytes.ts";
import {
  EtcdClient,
  type DeleteInit,
  type PutInit,
  type RangeInit,
} from "../support/etcd-client.ts";
import { knownDifferences } from "../support/known-differences.ts";
import type { RpcChannel } from "../support/rpc-channel.ts";

/** How often a target must be told to notify quiet watchers (etcd: --watch-progress-notify-interval). */
export const PROGRESS_NOTIFY = "200ms";

/** A running target of the suite. */
export interface Target {
  /** The member that the tests talk to. */
  readonly channel: RpcChannel;
  /** Every member, that one included; cluster tests use them all. */
  readonly members: readonly RpcChannel[];
  /** `host:port` of the members that speak gRPC, for tests of the transport itself. */
  readonly addresses: readonly string[];
  stop(): Promise<void>;
}

export interface TargetOptions {
  /** As `known-differences.txt` names it. */
  readonly label: string;
  /** What carries the calls, if it is not gRPC: differences may be its own. */
  readonly door?: string;
  readonly members: number;
  start(): Promise<Target>;
}

/** How the reason of a difference begins that doesn't show in every run; such a test is skipped on that target. */
const SOMETIMES = "sometimes: ";

/** What one test works with. Short names mean keys: `put("a", "1")` writes `<prefix>a`. */
export class Case {
  readonly target: Target;
  readonly client: EtcdClient;
  readonly prefix: string;
  #cleanups: (() => Promise<unknown> | void)[] = [];

  constructor(target: Target, prefix: string) {
    this.target = target;
    this.client = new EtcdClient(target.channel);
    this.prefix = prefix;
  }

  key(name: string): Bytes {
    return utf8(this.prefix + name);
  }

  /** The range of every key of this test. */
  get everything(): { key: Bytes; rangeEnd: Bytes } {
    return { key: utf8(this.prefix), rangeEnd: endOf(this.prefix) };
  }

  put(name: string, value: string, options: PutInit = {}) {
    return this.client.put({ key: this.key(name), value: utf8(value), ...options });
  }

  range(name: string, options: RangeInit = {}) {
    return this.client.range({ key: this.key(name), ...options });
  }

  list(options: RangeInit = {}) {
    return this.client.range({ ...this.everything, ...options });
  }

  deleteRange(name: string, options: DeleteInit = {}) {
    return this.client.deleteRange({ key: this.key(name), ...options });
  }

  /** The short names and values of the keys that a range returned. */
  pairs(response: { kvs: readonly { key: Bytes; value: Bytes }[] }): [string, string][] {
    return response.kvs.map((kv) => [this.nameOf(kv.key), textOf(kv.value)]);
  }

  names(response: { kvs: readonly { key: Bytes }[] }): string[] {
    return response.kvs.map((kv) => this.nameOf(kv.key));
  }

  nameOf(key: Bytes): string {
    const text = textOf(key);
    return text.startsWith(this.prefix) ? text.slice(this.prefix.length) : text;
  }

  /** The store's current revision. */
  async revision(): Promise<bigint> {
    return revisionOf(await this.client.range({ key: this.key("none"), countOnly: true }));
  }

  /** A lease that ends with the test. */
  async grant(ttlSeconds = 600): Promise<bigint> {
    const granted = await this.client.leaseGrant({ TTL: BigInt(ttlSeconds) });
    this.later(() => this.client.leaseRevoke(granted.ID).catch(() => undefined));
    return granted.ID;
  }

  /** A watch stream that ends with the test. */
  watch() {
    const stream = this.client.watch();
    this.later(() => stream.cancel());
    return stream;
  }

  later(cleanup: () => Promise<unknown> | void): void {
    this.#cleanups.push(cleanup);
  }

  async finish(): Promise<void> {
    for (const cleanup of this.#cleanups.reverse()) await cleanup();
  }
}

function endOf(prefix: string): Bytes {
  const end = prefixEnd(utf8(prefix));
  if (end === undefined) throw new Error(`no range: ${prefix}`);
  return end;
}

/** The header of a response, which must be there. */
export function headerOf(response: { header?: ResponseHeader | undefined }): ResponseHeader {
  if (response.header === undefined) throw new Error("the response has no header");
  return response.header;
}

export function revisionOf(response: { header?: ResponseHeader | undefined }): bigint {
  return headerOf(response).revision;
}

/** The only item, or the first of those expected to be there. */
export function first<Item>(items: readonly Item[]): Item {
  const item = items[0];
  if (item === undefined) throw new Error("nothing there");
  return item;
}

/** Asserts that the call is refused with this entry of the error table: its status and its text. */
export async function expectRefused(call: Promise<unknown>, code: ErrorCode): Promise<void> {
  const error = await failureOf(call);
  expect(errorCodeOf(error.message) ?? error.message).toBe(code);
  expect(error.status).toBe(rpcError(code).status);
}

/** The error of a call that must fail. */
export async function failureOf(call: Promise<unknown>): Promise<RpcError> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome === undefined) throw new Error("the call succeeded");
  if (!(outcome instanceof RpcError)) throw outcome;
  return outcome;
}

export type ApiTest = (name: string, body: (c: Case) => Promise<void>) => void;
export type ApiSuite = (test: ApiTest, options: TargetOptions) => void;

/** Runs the suites on one target. */
export function runApiSuites(options: TargetOptions, suites: readonly ApiSuite[]): void {
  const differences = knownDifferences(options.label, options.members, options.door);
  const names = new Set<string>();
  let target: Target | undefined;
  let counter = 0;

  describe(options.label, () => {
    beforeAll(async () => {
      target = await options.start();
    });
    afterAll(async () => {
      await target?.stop();
    });

    const apiTest: ApiTest = (name, body) => {
      if (names.has(name)) throw new Error(`two tests named "${name}"`);
      names.add(name);
      const runOne = async () => {
        if (target === undefined) throw new Error("the target didn't start");
        counter += 1;
        const one = new Case(target, `t${counter}/`);
        try {
          await body(one);
        } finally {
          await one.finish();
        }
      };
      const reason = differences.get(name);
      const unsteady = reason?.startsWith(SOMETIMES) ?? false;
      test(name, { skip: unsteady, fails: reason !== undefined && !unsteady }, runOne);
    };
    for (const suite of suites) suite(apiTest, options);

    // Doors that can't carry all suites have lines of their own at most.
    if (options.door !== undefined) return;
    test("every known difference of this target names a test", () => {
      expect([...differences.keys()].filter((name) => !names.has(name))).toEqual([]);
    });
  });
}
