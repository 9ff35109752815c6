/**
 * Random requests over a few keys, so that they meet: reads with every option, writes, deletes, nested transactions,
 * leases and compactions. Revisions lie around the newest one, some of them compacted or not there yet.
 */
import { Prng } from "../../shared/base/prng.ts";
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
} from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import type {
  DeleteInit,
  EtcdClient,
  PutInit,
  RangeInit,
  TxnInit,
} from "../support/etcd-client.ts";

const KEYS = ["a", "b", "ba", "bb", "c", "c/1", "c/2", "d", "\0", "zz"];
const LEASES = [11n, 12n, 13n, 99n];
const SORT_ORDERS = [
  RangeRequest_SortOrder.NONE,
  RangeRequest_SortOrder.ASCEND,
  RangeRequest_SortOrder.DESCEND,
];
const SORT_TARGETS = [
  RangeRequest_SortTarget.KEY,
  RangeRequest_SortTarget.VERSION,
  RangeRequest_SortTarget.CREATE,
  RangeRequest_SortTarget.MOD,
  RangeRequest_SortTarget.VALUE,
];
const RESULTS = [
  Compare_CompareResult.EQUAL,
  Compare_CompareResult.GREATER,
  Compare_CompareResult.LESS,
  Compare_CompareResult.NOT_EQUAL,
];
const NOTHING = new Uint8Array();
const encoder = new TextEncoder();

export interface RandomRequest {
  readonly name: string;
  readonly request: unknown;
  readonly call: (client: EtcdClient) => Promise<unknown>;
}

type OpInit = NonNullable<TxnInit["success"]>[number];
type CompareInit = NonNullable<TxnInit["compare"]>[number];

export class RandomRequests {
  readonly #prng: Prng;
  /** The newest revision that an answer named. */
  revision = 1;

  constructor(seed: number) {
    this.#prng = new Prng(seed);
  }

  next(): RandomRequest {
    const kind = this.#prng.below(100);
    if (kind < 28) return requestOf("put", this.#put(), (c, r) => c.put(r));
    if (kind < 50) return requestOf("range", this.#range(), (c, r) => c.range(r));
    if (kind < 60) return requestOf("deleteRange", this.#delete(), (c, r) => c.deleteRange(r));
    if (kind < 90) return requestOf("txn", this.#txn(2), (c, r) => c.txn(r));
    if (kind < 93) {
      // So long that none ends during a run.
      const grant = { ID: this.#pick(LEASES), TTL: 5000n };
      return requestOf("leaseGrant", grant, (c, r) => c.leaseGrant(r));
    }
    if (kind < 95) return requestOf("leaseRevoke", this.#pick(LEASES), (c, r) => c.leaseRevoke(r));
    if (kind < 98) return requestOf("leaseKeys", this.#pick(LEASES), leaseKeys);
    const revision = BigInt(Math.max(0, this.revision - this.#prng.below(12) + 1));
    return requestOf("compact", { revision, physical: true }, (c, r) => c.compact(r));
  }

  #range(): RangeInit {
    return {
      key: this.#key(),
      rangeEnd: this.#rangeEnd(),
      limit: this.#rarely(3) ? BigInt(this.#prng.below(5) - 1) : 0n,
      revision: this.#rarely(3) ? this.#revisionNearby() : 0n,
      sortOrder: this.#rarely(3) ? this.#pick(SORT_ORDERS) : RangeRequest_SortOrder.NONE,
      sortTarget: this.#rarely(3) ? this.#pick(SORT_TARGETS) : RangeRequest_SortTarget.KEY,
      serializable: this.#rarely(2),
      countOnly: this.#rarely(6),
      minModRevision: this.#bound(),
      maxModRevision: this.#bound(),
      minCreateRevision: this.#bound(),
      maxCreateRevision: this.#bound(),
    };
  }

  #put(): PutInit {
    return {
      ...this.#nestedPut(),
      lease: this.#rarely(4) ? this.#pick(LEASES) : 0n,
      ignoreValue: this.#rarely(12),
      ignoreLease: this.#rarely(12),
    };
  }

  /**
   * One that can't be refused at apply: of two refusals within a transaction older etcds tell another one first, and
   * one that keeps the value of a key that the transaction deletes ends etcd.
   */
  #nestedPut(): PutInit {
    const value = this.#rarely(20) ? NOTHING : this.#value();
    return { key: this.#key(), value, prevKv: this.#rarely(3) };
  }

  #delete(): DeleteInit {
    const rangeEnd = this.#rarely(4) ? this.#rangeEnd() : NOTHING;
    return { key: this.#key(), rangeEnd, prevKv: this.#rarely(2) };
  }

  #txn(depth: number): TxnInit {
    return {
      compare: this.#some(3, () => this.#compare()),
      success: this.#some(4, () => this.#op(depth)),
      failure: this.#some(4, () => this.#op(depth)),
    };
  }

  #op(depth: number): OpInit {
    const kind = this.#prng.below(depth > 0 ? 10 : 9);
    if (kind < 3) return { request: { case: "requestRange", value: this.#range() } };
    if (kind < 7) return { request: { case: "requestPut", value: this.#nestedPut() } };
    if (kind < 9) return { request: { case: "requestDeleteRange", value: this.#delete() } };
    return { request: { case: "requestTxn", value: this.#txn(depth - 1) } };
  }

  /** Now and then with another field of the union than its target's, which then counts as zero. */
  #compare(): CompareInit {
    const revision = this.#rarely(2) ? 0n : this.#revisionNearby();
    const fields = [
      [Compare_CompareTarget.VERSION, { case: "version", value: BigInt(this.#prng.below(4)) }],
      [Compare_CompareTarget.CREATE, { case: "createRevision", value: revision }],
      [Compare_CompareTarget.MOD, { case: "modRevision", value: revision }],
      [Compare_CompareTarget.VALUE, { case: "value", value: this.#value() }],
      [Compare_CompareTarget.LEASE, { case: "lease", value: this.#pick(LEASES) }],
    ] as const;
    const [target, own] = this.#pick(fields);
    const targetUnion = this.#rarely(12) ? this.#pick(fields)[1] : own;
    const rangeEnd = this.#rarely(4) ? this.#rangeEnd() : NOTHING;
    return { target, result: this.#pick(RESULTS), key: this.#key(), rangeEnd, targetUnion };
  }

  #key(): Uint8Array {
    return this.#rarely(60) ? NOTHING : encoder.encode(this.#pick(KEYS));
  }

  #rangeEnd(): Uint8Array {
    const kind = this.#prng.below(10);
    if (kind < 5) return NOTHING;
    return kind < 7 ? Uint8Array.of(0) : encoder.encode(this.#pick(KEYS));
  }

  #value(): Uint8Array {
    return encoder.encode(`v${this.#prng.below(5)}`);
  }

  #revisionNearby(): bigint {
    return BigInt(Math.max(0, this.revision - this.#prng.below(30) + 2));
  }

  #bound(): bigint {
    return this.#rarely(8) ? this.#revisionNearby() : 0n;
  }

  #rarely(oneOf: number): boolean {
    return this.#prng.below(oneOf) === 0;
  }

  #pick<Item>(from: readonly Item[]): Item {
    return from[this.#prng.below(from.length)] as Item;
  }

  #some<Item>(below: number, make: () => Item): Item[] {
    return Array.from({ length: this.#prng.below(below) }, make);
  }
}

function requestOf<Request>(
  name: string,
  request: Request,
  call: (client: EtcdClient, request: Request) => Promise<unknown>,
): RandomRequest {
  return { name, request, call: (client) => call(client, request) };
}

/** What is left of its time differs; the order of its keys isn't promised. */
async function leaseKeys(client: EtcdClient, ID: bigint): Promise<unknown> {
  const { grantedTTL, keys } = await client.leaseTimeToLive({ ID, keys: true });
  return { grantedTTL, keys: keys.map((key) => Buffer.from(key).toString("latin1")).toSorted() };
}
