/**
 * RangeStream: a range in chunks that all see the first chunk's revision. Chunks begin with few
 * keys and grow or shrink towards the request limit; only the last one carries header, count and
 * more.
 *
 * As in etcd, a target without an order passes, and each chunk is sorted by it. etcd then goes on behind the key that
 * the sorting put last, so that keys come twice or never; here each comes once, whatever the target.
 */
import { rpcError } from "../../api/errors.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import { sortKeyValues, withoutValue } from "../../mvcc/range-work.ts";
import type { KeyValue, RangeQuery } from "../../mvcc/types.ts";
import type { CallContext, RangeAnswer } from "../services.ts";
import type { ServiceContext } from "./context.ts";
import { readRange } from "./range-reader.ts";

export interface RangeChunk {
  readonly kvs: readonly KeyValue[];
  readonly last: RangeAnswer | undefined;
}

export async function* streamRange(
  context: ServiceContext,
  query: RangeQuery,
  options: { readonly serializable: boolean },
  call: CallContext,
): AsyncGenerator<RangeChunk, void, undefined> {
  checkStreamable(query);
  const { host, state } = context;
  const { store } = state;
  const caller = { left: false };
  call.onCancel(() => {
    caller.left = true;
  });
  let chunkKeys: number = LIMITS.rangeStreamFirstKeys;
  let sent = 0;
  let start: Bytes = query.key;
  let count: number | undefined;
  const first = await context.atReadPoint(options, call, () => {
    const revision = query.revision > 0 ? query.revision : store.revision;
    const header = context.header();
    return { header, revision };
  });
  while (!caller.left) {
    const left = query.limit > 0 ? query.limit - sent : Number.POSITIVE_INFINITY;
    const limit = Math.min(left, chunkKeys);
    const page = { ...query, key: start, limit, revision: first.revision };
    // What surely comes last is what Range answers.
    const byKey = query.sortTarget === "key" || limit === left;
    const read = byKey ? page : { ...page, sortTarget: "key" as const, keysOnly: false };
    const found = await readRange(read, state, host);
    count ??= found.count;
    sent += found.kvs.length;
    const kvs = byKey ? found.kvs : sortedChunk(found.kvs, query);
    const exhausted = !found.more || sent >= count || query.countOnly;
    if (exhausted || found.kvs.length >= left) {
      const more = query.limit > 0 && count > query.limit && !query.countOnly;
      const last: RangeAnswer = { header: first.header, kvs, count, more };
      yield { kvs, last };
      return;
    }
    yield { kvs, last: undefined };
    start = after((found.kvs[found.kvs.length - 1] as KeyValue).key);
    chunkKeys = nextChunkKeys(chunkKeys, found.kvs, context.config.requestBytesMax);
  }
}

function checkStreamable(query: RangeQuery): void {
  const { sortOrder, sortTarget } = query;
  const natural = sortOrder === "none" || (sortOrder === "ascend" && sortTarget === "key");
  if (!natural) throw rpcError("rangeStreamSort");
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = query;
  if (minModRevision + maxModRevision + minCreateRevision + maxCreateRevision !== 0) {
    throw rpcError("rangeStreamFilter");
  }
}

function sortedChunk(kvs: readonly KeyValue[], query: RangeQuery): readonly KeyValue[] {
  const { sortTarget, keysOnly } = query;
  const sorted = [...kvs];
  sortKeyValues(sorted, sortTarget, false);
  return keysOnly ? sorted.map((kv) => withoutValue(kv, sortTarget)) : sorted;
}

/** Doubles or halves, so that a chunk comes near to the request limit and stays below it. */
function nextChunkKeys(keys: number, kvs: readonly KeyValue[], bytesMax: number): number {
  let bytes = 0;
  for (const kv of kvs) bytes += kv.key.length + kv.value.length;
  if (bytes * 2 <= bytesMax) return keys * 2;
  return bytes > bytesMax ? Math.max(1, Math.floor(keys / 2)) : keys;
}

/** The first key after this one. */
function after(key: Bytes): Bytes {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}
