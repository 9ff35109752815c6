/**
 * Ranges of any size without a long stretch: point reads at once, others by a cursor at a pinned
 * revision, in steps between which the host serves other input.
 */
import { rpcError } from "../../api/errors.ts";
import { LIMITS } from "../../base/limits.ts";
import type { Cursor, MvccStore } from "../../mvcc/store.ts";
import type { RangeQuery, RangeResult } from "../../mvcc/types.ts";
import type { Host } from "../host.ts";

/** What is read, of a peer or of a replica. */
export interface ReadableState {
  readonly store: Pick<MvccStore, "get" | "range" | "openRange">;
  /** Another one: the state was replaced. */
  readonly generation: number;
}

type Deferring = Pick<Host, "defer">;

const STEP = { rows: LIMITS.stretchRowsMax, bytes: LIMITS.stretchBytesMax } as const;
const NOTHING: RangeResult = { kvs: [], count: 0, more: false };

/**
 * The result at once where that is cheap or fits one step; else a promise. Throws `RpcError` for
 * refused revisions.
 */
export function readRange(
  query: RangeQuery,
  state: ReadableState,
  host: Deferring,
): RangeResult | Promise<RangeResult> {
  const { store } = state;
  if (isPlainPoint(query)) {
    const kv = store.get(query.key);
    return kv === undefined ? NOTHING : { kvs: [kv], count: 1, more: false };
  }
  if (query.rangeEnd.length === 0) {
    const result = store.range(query);
    if ("code" in result) throw rpcError(result.code);
    return result;
  }
  const cursor = store.openRange(query);
  if ("code" in cursor) throw rpcError(cursor.code);
  return runCursor(cursor, state, host);
}

/** Steps a cursor to its end and closes it. Fails if the state is replaced in the meantime. */
export function runCursor<Result>(
  cursor: Cursor<Result>,
  state: ReadableState,
  host: Deferring,
): Result | Promise<Result> {
  if (cursor.advance(STEP)) return finish(cursor);
  const { generation } = state;
  return new Promise((resolve, reject) => {
    const step = (): void => {
      try {
        if (state.generation !== generation) throw rpcError("leaderChanged");
        if (cursor.advance(STEP)) resolve(finish(cursor));
        else host.defer(step);
      } catch (error) {
        cursor.close();
        reject(error);
      }
    };
    host.defer(step);
  });
}

function finish<Result>(cursor: Cursor<Result>): Result {
  const result = cursor.result();
  cursor.close();
  return result;
}

/** The newest value of one key, unfiltered and whole. */
function isPlainPoint(query: RangeQuery): boolean {
  return (
    query.rangeEnd.length === 0 &&
    query.revision <= 0 &&
    !query.keysOnly &&
    !query.countOnly &&
    query.minModRevision === 0 &&
    query.maxModRevision === 0 &&
    query.minCreateRevision === 0 &&
    query.maxCreateRevision === 0
  );
}
