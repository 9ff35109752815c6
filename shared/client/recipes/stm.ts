/**
 * Software transactional memory: a function over a snapshot of the store, committed as one
 * transaction if nothing that it has read has changed, and run again otherwise.
 *
 *   await atomically(store, async (tx) => {
 *     const balance = (await tx.get("alice")) ?? 0;
 *     tx.put("alice", balance - 10);
 *     tx.put("bob", ((await tx.get("bob")) ?? 0) + 10);
 *   });
 *
 * All reads of a run see one revision, so that the function never sees half of another's change.
 * It may run many times: what it does besides must bear that.
 */
import { RpcError } from "../../api/errors.ts";
import * as LIMITS from "../../base/link-limits.ts";
import { key as keyIs, put, remove } from "../operations.ts";
import type { Condition, Operation, PutOptions } from "../operations.ts";
import type { Store } from "../store.ts";
import type { Entry } from "../values.ts";
import { throwIfAborted } from "./signals.ts";
import type { WaitOptions } from "./waiting-line.ts";

/** The store as a run sees it. */
export class StmRun<Value> {
  readonly #store: Store<Value>;
  readonly #signal: AbortSignal | undefined;
  readonly #read = new Map<string, Entry<Value> | undefined>();
  readonly #written = new Map<string, Operation<Value> & { readonly kind: "put" | "remove" }>();
  /** Of the first read; all others see the same. */
  #revision: number | undefined;

  constructor(store: Store<Value>, signal: AbortSignal | undefined) {
    this.#store = store;
    this.#signal = signal;
  }

  /** The value, as this run has left it; undefined: no such key. */
  async get(key: string): Promise<Value | undefined> {
    const written = this.#written.get(key);
    if (written !== undefined) return written.kind === "put" ? written.value : undefined;
    return (await this.entry(key))?.value;
  }

  /** The entry as the run found it. */
  async entry(key: string): Promise<Entry<Value> | undefined> {
    if (!this.#read.has(key)) {
      const read = { limit: 1, revision: this.#revision, signal: this.#signal };
      const { entries, revision } = await this.#store.list(key, read);
      this.#revision ??= revision;
      this.#read.set(key, entries[0]);
    }
    return this.#read.get(key);
  }

  put(key: string, value: Value, options: PutOptions = {}): void {
    this.#written.set(key, put(key, value, options));
  }

  delete(key: string): void {
    this.#written.set(key, remove(key));
  }

  /** Undefined: something that was read has changed. */
  async commit(): Promise<{ readonly revision: number } | undefined> {
    if (this.#written.size === 0) return { revision: this.#revision ?? 0 };
    const conditions: Condition[] = [];
    for (const [key, entry] of this.#read) {
      conditions.push(keyIs(key).modRevision.equals(entry?.modRevision ?? 0));
    }
    // What is written unread must be as old as the snapshot, or its writer would be overwritten unseen.
    const { revision } = this;
    for (const key of this.#written.keys()) {
      if (revision !== undefined && !this.#read.has(key)) {
        conditions.push(keyIs(key).modRevision.lessThan(revision + 1));
      }
    }
    const transaction = { if: conditions, do: [...this.#written.values()] };
    const done = await this.#store.txn(transaction, { signal: this.#signal });
    return done.succeeded ? { revision: done.revision } : undefined;
  }

  /** The revision that the run sees, once it has read. */
  get revision(): number | undefined {
    return this.#revision;
  }
}

/**
 * Runs `body` until it commits; answers what the last run returned. Rejects with what `body`
 * throws, and with "aborted" when others were faster too many times.
 */
export async function atomically<Value, Result>(
  store: Store<Value>,
  body: (run: StmRun<Value>) => Result | Promise<Result>,
  options: WaitOptions = {},
): Promise<{ readonly result: Result; readonly revision: number }> {
  const { signal } = options;
  for (let attempt = 0; attempt < LIMITS.stmAttemptsMax; attempt += 1) {
    throwIfAborted(signal);
    const run = new StmRun(store, signal);
    try {
      const result = await body(run);
      const committed = await run.commit();
      if (committed !== undefined) return { result, revision: committed.revision };
    } catch (error) {
      // The snapshot was given up under the run: the next one sees a newer.
      if (!(error instanceof RpcError) || error.code !== "compacted") throw error;
    }
  }
  const text = `other writers were faster ${LIMITS.stmAttemptsMax} times`;
  throw new RpcError("aborted", text);
}
