/**
 * A plain model of the multi-version store: the list of all changes ever made. Slow and obvious; it says what the store
 * should answer. The hash follows etcd's key index literally: generations of a key, each ended by a tombstone.
 */
import { type Bytes, compareBytes, concatBytes, hexOf, utf8 } from "../../../shared/base/bytes.ts";
import { crc32c } from "../../../shared/base/crc32c.ts";
import {
  encodeBucketKey,
  encodeKeyValueProto,
  encodeTombstoneProto,
} from "../../../shared/mvcc/key-value-proto.ts";
import type { Event, KeyValue, RangeQuery, RangeResult } from "../../../shared/mvcc/types.ts";

export interface ModelChange extends Event {
  readonly main: number;
  readonly sub: number;
}

export function isInRange(key: Bytes, from: Bytes, rangeEnd: Bytes): boolean {
  if (rangeEnd.length === 0) return compareBytes(key, from) === 0;
  if (compareBytes(key, from) < 0) return false;
  return (rangeEnd.length === 1 && rangeEnd[0] === 0) || compareBytes(key, rangeEnd) < 0;
}

export class Model {
  revision = 1;
  compactRevision = -1;
  readonly changes: ModelChange[] = [];

  /** Adds one revision's changes. */
  add(events: readonly Event[]): void {
    this.revision += 1;
    for (const [sub, event] of events.entries()) {
      this.changes.push({ ...event, main: this.revision, sub });
    }
  }

  /** Keys that exist at the revision, in order. */
  at(revision: number): KeyValue[] {
    const newest = new Map<string, ModelChange>();
    for (const change of this.changes) {
      if (change.main <= revision) newest.set(hexOf(change.kv.key), change);
    }
    const alive = [...newest.values()].filter((change) => change.type === "put");
    return alive.map(({ kv }) => kv).sort((a, b) => compareBytes(a.key, b.key));
  }

  get(key: Bytes, revision: number): KeyValue | undefined {
    return this.at(revision).find((kv) => compareBytes(kv.key, key) === 0);
  }

  range(query: RangeQuery): RangeResult | "compacted" | "futureRev" {
    const revision = query.revision <= 0 ? this.revision : query.revision;
    if (revision > this.revision) return "futureRev";
    if (revision < this.compactRevision) return "compacted";
    const all = this.at(revision).filter((kv) => isInRange(kv.key, query.key, query.rangeEnd));
    if (query.countOnly) return { kvs: [], count: all.length, more: false };
    const bounds = [
      [query.minModRevision, query.maxModRevision, "modRevision"],
      [query.minCreateRevision, query.maxCreateRevision, "createRevision"],
    ] as const;
    let kvs = all;
    for (const [low, high, field] of bounds) {
      kvs = kvs.filter(
        (kv) => (low === 0 || kv[field] >= low) && (high === 0 || kv[field] <= high),
      );
    }
    const filtered = bounds.some(([low, high]) => low !== 0 || high !== 0);
    const quirk = query.sortOrder === "none" && query.sortTarget !== "key";
    if (quirk && !filtered && query.limit > 0) kvs = kvs.slice(0, query.limit + 1);
    const sign = query.sortOrder === "descend" ? -1 : 1;
    const compare = (a: KeyValue, b: KeyValue): number => {
      switch (query.sortTarget) {
        case "key":
          return compareBytes(a.key, b.key);
        case "value":
          return compareBytes(a.value, b.value);
        case "version":
          return a.version - b.version;
        case "create":
          return a.createRevision - b.createRevision;
        case "mod":
          return a.modRevision - b.modRevision;
      }
    };
    kvs = [...kvs].sort((a, b) => sign * compare(a, b));
    const more = query.limit > 0 && kvs.length > query.limit;
    if (more) kvs = kvs.slice(0, query.limit);
    if (query.keysOnly) {
      const lease = (kv: KeyValue) => (query.sortTarget === "value" ? kv.lease : 0n);
      kvs = kvs.map((kv) => ({ ...kv, value: new Uint8Array(0), lease: lease(kv) }));
    }
    return { kvs, count: all.length, more };
  }

  /** The changes of a key in generations: each but the last ends with a tombstone (the last may be empty). */
  #generations(key: string): ModelChange[][] {
    const generations: ModelChange[][] = [[]];
    for (const change of this.changes) {
      if (hexOf(change.kv.key) !== key) continue;
      generations.at(-1)?.push(change);
      if (change.type === "delete") generations.push([]);
    }
    return generations;
  }

  /** etcd's keyIndex.keep for all keys, or keyIndex.compact where `tombstones` are kept. */
  kept(revision: number, tombstones: boolean): Set<ModelChange> {
    const kept = new Set<ModelChange>();
    for (const key of new Set(this.changes.map((change) => hexOf(change.kv.key)))) {
      const generations = this.#generations(key);
      const found =
        generations.slice(0, -1).find((changes) => (changes.at(-1)?.main ?? 0) >= revision) ??
        generations.at(-1);
      const newest = found?.findLast((change) => change.main <= revision);
      if (newest === undefined || (newest.type === "delete" && !tombstones)) continue;
      kept.add(newest);
    }
    return kept;
  }

  /** Changes that are in the store once the compaction is done. */
  stored(): ModelChange[] {
    const kept = this.kept(this.compactRevision, true);
    return this.changes.filter((change) => change.main > this.compactRevision || kept.has(change));
  }

  hash(revision: number): number {
    const keep = this.kept(revision, false);
    const parts: Bytes[] = [utf8("key")];
    for (const change of this.stored()) {
      const { main, sub, type, kv } = change;
      if (main > revision) continue;
      if (main <= this.compactRevision && keep.size > 0 && !keep.has(change)) continue;
      const tombstone = type === "delete";
      if (main === this.compactRevision && tombstone) continue;
      parts.push(encodeBucketKey({ main, sub, tombstone }));
      parts.push(tombstone ? encodeTombstoneProto(kv.key) : encodeKeyValueProto(kv));
    }
    return crc32c(concatBytes(...parts));
  }
}
