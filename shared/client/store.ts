/**
 * The client that apps hold: keys and values, transactions, watches and leases, seen through a
 * namespace and a codec. A `Store` is a view: `namespace` and `as` make others over the same
 * connection. Every failure is an `RpcError` that says whether the call had an effect (`outcome`)
 * and may be repeated (`retryable`).
 */
import { RpcError } from "../api/errors.ts";
import { LINK_LIMITS as LIMITS } from "../base/link-limits.ts";
import type { LinkAnswerOf, LinkKeyValue, LinkMember } from "../wire/link.ts";
import type { CallOptions, Caller } from "./caller.ts";
import { keyAfter } from "./keys.ts";
import type { Key, Selector } from "./keys.ts";
import type { Lease, LeaseKeeper } from "./lease.ts";
import { putOp, rangeOp, resultOf, txnOp } from "./operations.ts";
import type {
  Condition,
  Operation,
  OperationResult,
  PutOptions,
  RangeOptions,
  Transaction,
  View,
} from "./operations.ts";
import type { ClientPlatform } from "./platform.ts";
import { Entry } from "./values.ts";
import type { Codec } from "./values.ts";
import { Watch } from "./watch.ts";
import type { WatchOptions } from "./watch.ts";

export interface ReadOptions extends CallOptions, RangeOptions {
  /** Answer from the peer's own state, however old, without asking the cluster. */
  readonly serializable?: boolean | undefined;
}

export interface Listing<Value> {
  readonly entries: readonly Entry<Value>[];
  /** Keys of the whole range, whatever the limit. */
  readonly count: number;
  readonly more: boolean;
  /** The store's revision when it was read: where a watch takes over is one after it. */
  readonly revision: number;
}

export interface TxnResult<Value> {
  readonly succeeded: boolean;
  readonly results: readonly OperationResult<Value>[];
  readonly revision: number;
}

/** What all views of a client share. */
export interface ClientCore {
  readonly caller: Caller;
  readonly platform: ClientPlatform;
  readonly leases: LeaseKeeper;
}

export class Store<Value> implements AsyncDisposable {
  readonly #core: ClientCore;
  readonly #view: View<Value>;

  constructor(core: ClientCore, view: View<Value>) {
    this.#core = core;
    this.#view = view;
  }

  /** The part of the store whose keys start with `prefix`, which this view adds and hides. */
  namespace(prefix: Key): Store<Value> {
    const { space, codec } = this.#view;
    return new Store(this.#core, { space: space.within(prefix), codec });
  }

  /** The same keys with values of another kind: `store.as(json<Config>())`. */
  as<Other>(codec: Codec<Other>): Store<Other> {
    return new Store(this.#core, { space: this.#view.space, codec });
  }

  async get(key: Key, options: ReadOptions = {}): Promise<Entry<Value> | undefined> {
    const { entries } = await this.#range(key, { ...options, limit: 1 });
    return entries[0];
  }

  /** All entries of a range at one revision; without a limit, in pages. */
  async list(selector: Selector, options: ReadOptions = {}): Promise<Listing<Value>> {
    if (options.limit !== undefined || options.sort !== undefined || options.countOnly === true) {
      return this.#range(selector, options);
    }
    const entries: Entry<Value>[] = [];
    for await (const page of this.#pages(selector, options)) {
      entries.push(...page.entries);
      if (!page.more) return { ...page, entries, count: entries.length };
    }
    throw new RpcError("internal", "a listing has a last page");
  }

  /** The entries of a range at one revision, as they come. */
  async *entries(
    selector: Selector,
    options: ReadOptions = {},
  ): AsyncGenerator<Entry<Value>, void, void> {
    for await (const page of this.#pages(selector, options)) yield* page.entries;
  }

  async count(selector: Selector, options: ReadOptions = {}): Promise<number> {
    const { count } = await this.#range(selector, { ...options, countOnly: true });
    return count;
  }

  async put(
    key: Key,
    value: Value,
    options: PutOptions & CallOptions = {},
  ): Promise<{ readonly revision: number; readonly previous: Entry<Value> | undefined }> {
    const op = putOp(this.#view, key, value, options);
    const answer = await this.#core.caller.call({ method: "put", op }, options);
    const previous = answer.previous === undefined ? undefined : this.#entry(answer.previous);
    return { revision: answer.header.revision, previous };
  }

  async delete(
    selector: Selector,
    options: CallOptions & { readonly previous?: boolean | undefined } = {},
  ): Promise<{
    readonly deleted: number;
    readonly revision: number;
    readonly previous: readonly Entry<Value>[];
  }> {
    const previousKv = options.previous ?? false;
    const range = this.#view.space.range(selector);
    const op = { kind: "deleteRange", ...range, previousKv } as const;
    const answer = await this.#core.caller.call({ method: "deleteRange", op }, options);
    const previous = answer.previous.map((kv) => this.#entry(kv));
    return { deleted: answer.deleted, revision: answer.header.revision, previous };
  }

  /**
   * Commits at once when given a transaction, else begins one:
   * `store.txn().if(...).do(...).else(...).commit()`.
   */
  txn(): TxnBuilder<Value>;
  txn(transaction: Transaction<Value>, options?: CallOptions): Promise<TxnResult<Value>>;
  txn(
    transaction?: Transaction<Value>,
    options: CallOptions = {},
  ): TxnBuilder<Value> | Promise<TxnResult<Value>> {
    if (transaction === undefined) return new TxnBuilder((built, how) => this.#commit(built, how));
    return this.#commit(transaction, options);
  }

  /**
   * Changes of a range, from now on or from a revision: `for await (const event of store.watch({
   * prefix: "a/" }))`.
   */
  watch(selector: Selector, options: WatchOptions = {}): Watch<Value> {
    return new Watch(this.#core.caller, this.#view, this.#view.space.range(selector), options);
  }

  /** A lease of so many seconds that is kept alive until it is closed, revoked or lost. */
  lease(ttlSeconds: number, options: { readonly id?: bigint } = {}): Promise<Lease> {
    return this.#core.leases.grant({ ttlSeconds, id: options.id });
  }

  /** Gives up history before this revision. `physical`: wait until the space is free. */
  async compact(
    revision: number,
    options: CallOptions & { physical?: boolean } = {},
  ): Promise<void> {
    const physical = options.physical ?? false;
    await this.#core.caller.call({ method: "compact", revision, physical }, options);
  }

  async members(options: CallOptions = {}): Promise<readonly LinkMember[]> {
    const request = { method: "memberList", linearizable: true } as const;
    return (await this.#core.caller.call(request, options)).members;
  }

  /** What the connected peer says of itself. */
  status(options: CallOptions = {}): Promise<LinkAnswerOf<"status">> {
    return this.#core.caller.call({ method: "status" }, options);
  }

  /** Closes the connection under all views. Leases are no longer renewed and expire by themselves. */
  close(): void {
    this.#core.leases.close();
    this.#core.caller.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  async #commit(transaction: Transaction<Value>, options: CallOptions): Promise<TxnResult<Value>> {
    const op = txnOp(this.#view, transaction);
    const request = { method: "txn", op, serializable: false } as const;
    const answer = await this.#core.caller.call(request, options);
    const results = answer.results.map((result) => resultOf(this.#view, result));
    return { succeeded: answer.succeeded, results, revision: answer.header.revision };
  }

  async #range(selector: Selector, options: ReadOptions): Promise<Listing<Value>> {
    const op = rangeOp(this.#view, selector, options);
    const serializable = options.serializable ?? false;
    const answer = await this.#core.caller.call({ method: "range", op, serializable }, options);
    const entries = answer.kvs.map((kv) => this.#entry(kv));
    const { count, more } = answer;
    return { entries, count, more, revision: answer.header.revision };
  }

  /** The first page fixes the revision of the others. */
  async *#pages(
    selector: Selector,
    options: ReadOptions,
  ): AsyncGenerator<Listing<Value>, void, void> {
    const limit = LIMITS.clientPageKeys;
    let op = rangeOp(this.#view, selector, { ...options, limit });
    const serializable = options.serializable ?? false;
    let first: number | undefined;
    for (;;) {
      const answer = await this.#core.caller.call({ method: "range", op, serializable }, options);
      first ??= answer.header.revision;
      const entries = answer.kvs.map((kv) => this.#entry(kv));
      yield { entries, count: answer.count, more: answer.more, revision: first };
      const last = answer.kvs.at(-1);
      if (!answer.more || last === undefined) return;
      op = { ...op, key: keyAfter(last.key), revision: options.revision ?? first };
    }
  }

  #entry(kv: LinkKeyValue): Entry<Value> {
    return new Entry(kv, this.#view.space, this.#view.codec);
  }
}

/**
 * A transaction in steps. The branch is called `do`, not `then`: an object with a `then` is taken
 * for a promise by `await`.
 */
export class TxnBuilder<Value> {
  readonly #commit: (
    transaction: Transaction<Value>,
    options: CallOptions,
  ) => Promise<TxnResult<Value>>;
  readonly #if: Condition[] = [];
  readonly #do: Operation<Value>[] = [];
  readonly #else: Operation<Value>[] = [];

  constructor(
    commit: (transaction: Transaction<Value>, how: CallOptions) => Promise<TxnResult<Value>>,
  ) {
    this.#commit = commit;
  }

  if(...conditions: readonly Condition[]): this {
    this.#if.push(...conditions);
    return this;
  }

  do(...operations: readonly Operation<Value>[]): this {
    this.#do.push(...operations);
    return this;
  }

  else(...operations: readonly Operation<Value>[]): this {
    this.#else.push(...operations);
    return this;
  }

  commit(options: CallOptions = {}): Promise<TxnResult<Value>> {
    return this.#commit({ if: this.#if, do: this.#do, else: this.#else }, options);
  }
}
