/** Shorthand for the tests of mvcc: keys and values as text, a store with its backend, queries with etcd's defaults. */
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import type { Backend, BatchWriter } from "../../../shared/backend/backend.ts";
import { EMPTY, textOf, utf8 } from "../../../shared/base/bytes.ts";
import { createStore } from "../../../shared/mvcc/mvcc-store.ts";
import type { MvccStore, StepBudget, WriteTransaction } from "../../../shared/mvcc/store.ts";
import { OPEN_END, wholeRange } from "../../../shared/mvcc/types.ts";
import type {
  KeyValue,
  MvccRefusal,
  RangeQuery,
  RangeResult,
  RevisionEvents,
} from "../../../shared/mvcc/types.ts";

const SMALL_STEP: StepBudget = { rows: 3, bytes: 1000 };

export function query(key: string, rangeEnd = "", options: Partial<RangeQuery> = {}): RangeQuery {
  return { ...wholeRange(utf8(key), utf8(rangeEnd)), ...options };
}

/** `key=value create/mod/version` and the lease, if any. */
export function kvText(kv: KeyValue | undefined): string | undefined {
  if (kv === undefined) return undefined;
  const lease = kv.lease === 0n ? "" : ` lease ${kv.lease}`;
  const { createRevision, modRevision, version } = kv;
  return `${textOf(kv.key)}=${textOf(kv.value)} ${createRevision}/${modRevision}/${version}${lease}`;
}

export function asResult(answer: RangeResult | MvccRefusal): RangeResult {
  if ("code" in answer) throw new Error(`refused: ${answer.code}`);
  return answer;
}

/** A store on a backend, with each write as a transaction of its own. */
export class TestStore {
  readonly backend: Backend;
  readonly store: MvccStore;
  /** False: events stay in `unnotified` until `notify`. */
  notifies = true;
  unnotified: RevisionEvents[] = [];
  #index: number;

  constructor(backend: Backend = new MemoryBackend()) {
    this.backend = backend;
    this.store = createStore(backend);
    this.#index = backend.visibleIndex;
  }

  apply(fill: (writer: BatchWriter) => void): void {
    this.#index += 1;
    this.backend.apply(this.#index, fill);
  }

  write(run: (transaction: WriteTransaction) => void): RevisionEvents | undefined {
    let events: RevisionEvents | undefined;
    this.apply((writer) => {
      const transaction = this.store.begin(writer);
      run(transaction);
      events = transaction.end();
    });
    if (events !== undefined) this.unnotified.push(events);
    if (this.notifies) this.notify();
    return events;
  }

  notify(): void {
    const revisions = this.unnotified;
    this.unnotified = [];
    this.store.watches.notify(revisions);
  }

  put(key: string, value: string, lease = 0n): void {
    this.write((transaction) => transaction.put(utf8(key), utf8(value), lease));
  }

  delete(key: string): void {
    this.write((transaction) => transaction.delete(utf8(key)));
  }

  compact(revision: number): MvccRefusal | undefined {
    let refusal: MvccRefusal | undefined;
    this.apply((writer) => {
      refusal = this.store.compact(revision, writer);
    });
    return refusal;
  }

  /** Removes all that is owed, in steps. */
  finishCompaction(budget: StepBudget = SMALL_STEP): void {
    while (this.stepCompaction(budget));
  }

  /** One step; true when more is owed. */
  stepCompaction(budget: StepBudget = SMALL_STEP): boolean {
    const compaction = this.store.compaction();
    if (compaction === undefined) return false;
    let done = false;
    this.apply((writer) => {
      done = compaction.step(writer, budget);
    });
    return !done;
  }

  compactFully(revision: number): void {
    const refusal = this.compact(revision);
    if (refusal !== undefined) throw new Error(`refused: ${refusal.code}`);
    this.finishCompaction();
  }

  texts(key: string, rangeEnd = "", options: Partial<RangeQuery> = {}): (string | undefined)[] {
    return asResult(this.store.range(query(key, rangeEnd, options))).kvs.map(kvText);
  }

  hash(revision = 0, budget: StepBudget = SMALL_STEP): number {
    const cursor = this.store.openHash(revision);
    if ("code" in cursor) throw new Error(`refused: ${cursor.code}`);
    while (!cursor.advance(budget));
    const { hash } = cursor.result();
    cursor.close();
    return hash;
  }
}

export { EMPTY, OPEN_END, textOf, utf8 };
