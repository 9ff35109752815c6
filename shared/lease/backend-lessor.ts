/**
 * Leases over a backend, with the leader's clock in memory. This file owns the table `lease`:
 *
 *     01 | id, 8 bytes                ->  time to live in seconds, 8 bytes
 *     02 | id, 8 bytes | key          ->  nothing: the key is attached to the lease
 *
 * Ids are signed and stand big-endian with their sign bit turned over, so that rows sort by id; a lease's keys sort
 * as keys. In memory is one record for each lease, none for keys: a start reads the leases alone.
 *
 * Expiry is lazy. Each lease of a leader has a deadline, and stands once in a queue, at a time that is never behind
 * any deadline it may have: a renewal only writes the new deadline. A lease that comes up early goes back, at its
 * deadline but at most its time to live from then (a renewal may bring a deadline forward that a promotion had put
 * off). So a lease costs O(log n) once per time to live, however often it is renewed, and the search for expired ones
 * doesn't depend on how many there are. Revoked leases are dropped when they come up, or all at once when they
 * outnumber the live ones.
 */
import { assert } from "../base/assert.ts";
import { type Bytes, compareBytes, EMPTY, readUint64, writeUint64 } from "../base/bytes.ts";
import { Heap } from "../base/heap.ts";
import { LIMITS } from "../base/limits.ts";
import type { Backend, BatchWriter } from "../backend/backend.ts";
import type { Lease, Lessor } from "./lessor.ts";

const TAG_LEASE = 1;
const TAG_ATTACHMENT = 2;
/** Behind all rows of leases. */
const TAG_END = 3;
/** A queue below this isn't worth sweeping. */
const QUEUE_SWEPT_FROM = 1024;
const ID_BYTES = 8;
const ROW_HEAD_BYTES = 1 + ID_BYTES;

export function createLessor(backend: Backend): Lessor {
  return new BackendLessor(backend);
}

class LeaseRecord implements Lease {
  readonly id: bigint;
  readonly ttlSeconds: number;
  /** When the leader lets it expire; meaningless elsewhere. */
  deadline = 0;
  revoked = false;

  constructor(id: bigint, ttlSeconds: number) {
    this.id = id;
    this.ttlSeconds = ttlSeconds;
  }
}

class BackendLessor implements Lessor {
  readonly #backend: Backend;
  readonly #leases = new Map<bigint, LeaseRecord>();
  /** Empty where this peer doesn't lead. */
  readonly #queue = new Heap<LeaseRecord>();
  /** Records in the queue that were revoked. */
  #revokedInQueue = 0;
  #leads = false;

  constructor(backend: Backend) {
    this.#backend = backend;
    this.#load();
  }

  get leaseCount(): number {
    return this.#leases.size;
  }

  grant(
    lease: Lease,
    writer: BatchWriter,
    now: number,
  ): { readonly code: "leaseExist" } | undefined {
    assert(lease.id !== 0n && lease.ttlSeconds > 0, "the caller has checked id and ttl");
    if (this.#leases.has(lease.id)) return { code: "leaseExist" };
    const record = new LeaseRecord(lease.id, lease.ttlSeconds);
    this.#leases.set(record.id, record);
    const row = new Uint8Array(8);
    writeUint64(row, 0, record.ttlSeconds);
    writer.put("lease", leaseRow(TAG_LEASE, record.id), row);
    if (this.#leads) {
      record.deadline = now + record.ttlSeconds * 1000;
      this.#queue.push(record.deadline, record);
    }
    return undefined;
  }

  revoke(id: bigint, writer: BatchWriter): readonly Bytes[] | { readonly code: "leaseNotFound" } {
    const record = this.#leases.get(id);
    if (record === undefined) return { code: "leaseNotFound" };
    const keys = this.attachedKeys(id);
    for (const key of keys) writer.delete("lease", attachmentRow(id, key));
    writer.delete("lease", leaseRow(TAG_LEASE, id));
    this.#leases.delete(id);
    record.revoked = true;
    if (this.#leads) this.#noteRevoked();
    return keys;
  }

  reattach(key: Bytes, previous: bigint, next: bigint, writer: BatchWriter): void {
    if (previous === next) return;
    if (previous !== 0n) writer.delete("lease", attachmentRow(previous, key));
    if (next === 0n) return;
    assert(this.#leases.has(next), "a key is attached to a lease that exists");
    writer.put("lease", attachmentRow(next, key), EMPTY);
  }

  lookup(id: bigint): Lease | undefined {
    return this.#leases.get(id);
  }

  list(): readonly Lease[] {
    const leases = [...this.#leases.values()];
    const byId = (a: Lease, b: Lease) => (a.id < b.id ? -1 : 1);
    return leases.sort(this.#leads ? (a, b) => a.deadline - b.deadline || byId(a, b) : byId);
  }

  attachedKeys(id: bigint): readonly Bytes[] {
    const keys: Bytes[] = [];
    const start = leaseRow(TAG_ATTACHMENT, id);
    this.#backend.scan("lease", { start, keysOnly: true }, (row) => {
      if (row.length < ROW_HEAD_BYTES || !startsWith(row, start)) return false;
      keys.push(row.subarray(ROW_HEAD_BYTES));
      return true;
    });
    return keys;
  }

  promote(options: { readonly now: number; readonly extendMilliseconds: number }): void {
    this.#leads = true;
    const records = [...this.#leases.values()];
    for (const record of records) {
      record.deadline = options.now + options.extendMilliseconds + record.ttlSeconds * 1000;
    }
    if (records.length >= LIMITS.leasesSpreadFrom) spreadDeadlines(records);
    this.#fillQueue(options.now);
  }

  demote(): void {
    this.#leads = false;
    this.#clearQueue();
  }

  renew(id: bigint, now: number): number | undefined {
    const record = this.#leases.get(id);
    if (!this.#leads || record === undefined || record.deadline <= now) return undefined;
    record.deadline = now + record.ttlSeconds * 1000;
    return record.ttlSeconds;
  }

  remaining(id: bigint, now: number): number | undefined {
    const record = this.#leases.get(id);
    return this.#leads && record !== undefined ? record.deadline - now : undefined;
  }

  expired(options: {
    readonly now: number;
    readonly countMax: number;
    readonly retryMilliseconds: number;
  }): readonly bigint[] {
    const { now, countMax, retryMilliseconds } = options;
    assert(retryMilliseconds > 0, "a lease isn't reported twice at once");
    const ids: bigint[] = [];
    let looks = LIMITS.leaseLooksPerPassMax;
    while (ids.length < countMax && this.#queue.first <= now && looks > 0) {
      looks -= 1;
      const record = this.#queue.peek() as LeaseRecord;
      if (record.revoked) {
        this.#queue.pop();
        this.#revokedInQueue -= 1;
      } else if (record.deadline > now) {
        this.#queue.replaceFirst(Math.min(record.deadline, now + record.ttlSeconds * 1000));
      } else {
        this.#queue.replaceFirst(now + retryMilliseconds);
        ids.push(record.id);
      }
    }
    return ids;
  }

  reload(now: number): void {
    this.#load();
    if (this.#leads) this.promote({ now, extendMilliseconds: 0 });
  }

  #load(): void {
    this.#leases.clear();
    const range = { start: Uint8Array.of(TAG_LEASE), end: Uint8Array.of(TAG_ATTACHMENT) };
    this.#backend.scan("lease", range, (row, value) => {
      assert(row.length === ROW_HEAD_BYTES && value.length === 8, "a lease's row is whole");
      const id = readId(row);
      this.#leases.set(id, new LeaseRecord(id, readUint64(value, 0)));
      return true;
    });
    const behind = { start: Uint8Array.of(TAG_END) };
    this.#backend.scan("lease", behind, (row) => {
      assert(false, `the table lease has a row of a format that is unknown: ${row[0]}`);
    });
    this.#clearQueue();
  }

  #clearQueue(): void {
    this.#queue.clear();
    this.#revokedInQueue = 0;
  }

  /** Builds the leader's queue anew. */
  #fillQueue(now: number): void {
    this.#clearQueue();
    for (const record of this.#leases.values()) {
      const place = Math.min(record.deadline, now + record.ttlSeconds * 1000);
      this.#queue.push(place, record);
    }
  }

  #noteRevoked(): void {
    this.#revokedInQueue += 1;
    const { size } = this.#queue;
    assert(this.#revokedInQueue <= size, "each revoked lease of a leader stands in the queue");
    if (size < QUEUE_SWEPT_FROM || this.#revokedInQueue * 2 < size) return;
    this.#queue.retain((record) => !record.revoked);
    this.#revokedInQueue = 0;
  }
}

/**
 * Leases that were promoted together would expire together: later ones are put off so that no second has more than
 * `leaseExpiriesPerSecond` of them (etcd: Promote in lease/lessor.go, three quarters of the rate of revokes).
 */
function spreadDeadlines(records: LeaseRecord[]): void {
  records.sort((a, b) => a.deadline - b.deadline || (a.id < b.id ? -1 : 1));
  const perSecond = LIMITS.leaseExpiriesPerSecond;
  for (let at = perSecond; at < records.length; at += 1) {
    const record = records[at] as LeaseRecord;
    const before = records[at - perSecond] as LeaseRecord;
    record.deadline = Math.max(record.deadline, before.deadline + 1000);
  }
}

function writeId(row: Bytes, id: bigint): void {
  let rest = BigInt.asUintN(64, id) ^ (1n << 63n);
  for (let offset = ID_BYTES; offset >= 1; offset -= 1) {
    row[offset] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}

function readId(row: Bytes): bigint {
  let id = 0n;
  for (let offset = 1; offset <= ID_BYTES; offset += 1) id = (id << 8n) | BigInt(row[offset] ?? 0);
  return BigInt.asIntN(64, id ^ (1n << 63n));
}

function leaseRow(tag: number, id: bigint): Bytes {
  const row = new Uint8Array(ROW_HEAD_BYTES);
  row[0] = tag;
  writeId(row, id);
  return row;
}

function attachmentRow(id: bigint, key: Bytes): Bytes {
  const row = new Uint8Array(ROW_HEAD_BYTES + key.length);
  row[0] = TAG_ATTACHMENT;
  writeId(row, id);
  row.set(key, ROW_HEAD_BYTES);
  return row;
}

function startsWith(row: Bytes, head: Bytes): boolean {
  return compareBytes(row.subarray(0, head.length), head) === 0;
}
