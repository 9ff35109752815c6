/**
 * The client that apps hold: keys and values, transactions, watches and leases, seen through a
 * namespace and a codec. A `Store` is a view: `namespace` and `as` make others over the same
 * connection. Every failure is an `RpcError` that says whether the call had an effect (`outcome`)
 * and may be repeated (`retryable`).
 */
import * as LIMITS from "../base/link-limits.ts";
import type { RangeOp } from "../wire/command.ts";
import type { LinkAnswerOf, LinkKeyValue, LinkMember } from "../wire/link.ts";
import type { CallOptions, Caller } from "./caller.ts";
import { SessionMark, readLevel } from "./consistency.ts";
import type { Consistency } from "./consistency.ts";
import { keyAfter } from "./keys.ts";
import type { Key, Selector } from "./keys.ts";
import type { Lease, LeaseKeeper, LeaseOptions } from "./lease.ts";
import { putOp, rangeOp, resultOf, txnOp } from "./operations.ts";
import type { Operation, PutOptions, RangeOptions, Transaction, View } from "./operations.ts";
import type { ClientPlatform } from "./platform.ts";
import { TxnBuilder } from "./txn.ts";
import type { TxnResult } from "./txn.ts";
import { Entry } from "./values.ts";
import type { Codec } from "./values.ts";
import { Watch } from "./watch.ts";
import type { WatchOptions } from "./watch.ts";

export interface ReadOptions extends CallOptions, RangeOptions {
  /** How fresh the answer must be; linearizable by default. */
  readonly consistency?: Consistency | undefined;
  /** The same as `consistency: "serializable"`. */
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

/** What all views of a client share. */
export interface ClientCore {
  readonly caller: Caller;
  readonly platform: ClientPlatform;
  readonly leases: LeaseKeeper;
  readonly session?: SessionMark | undefined;
}

export class Store<Value> implements AsyncDisposable {
  readonly #core: ClientCore & { readonly session: SessionMark };
  readonly #view: View<Value>;

  constructor(core: ClientCore, view: View<Value>) {
    this.#core = { ...core, session: core.session ?? new SessionMark() };
    this.#view = view;
  }

  /**
   * What this client has seen, as text. Whoever is given it by `observe` and reads with
   * `consistency: "session"` sees at least as much.
   */
  get sessionToken(): string {
    return this.#core.session.token;
  }

  /** From here on session reads see at least what the token's client had seen. */
  observe(sessionToken: string): void {
    this.#core.session.join(sessionToken);
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
    let revision = 0;
    for await (const page of this.#pages(selector, options)) {
      entries.push(...page.entries);
      ({ revision } = page);
    }
    return { entries, count: entries.length, more: false, revision };
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
    this.#core.session.saw(answer.header.revision);
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
    this.#core.session.saw(answer.header.revision);
    const previous = answer.previous.map((kv) => this.#entry(kv));
    return { deleted: answer.deleted, revision: answer.header.revision, previous };
  }

  /**
   * Commits at once when given a transaction, else begins one:
   * `store.txn().if(...).do(...).else(...).commit()`.
   */
  txn(): TxnBuilder<Value>;
  txn<
    const Do extends readonly Operation<Value>[] = readonly [],
    const Else extends readonly Operation<Value>[] = readonly [],
  >(
    transaction: Transaction<Value, Do, Else>,
    options?: CallOptions,
  ): Promise<TxnResult<Value, Do, Else>>;
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

  /**
   * A lease that is kept alive until it is closed, revoked or lost: `lease(10)`, or
   * `await using lease = await store.lease({ ttl: 10 })`, which revokes it at the scope's end.
   */
  lease(options: number | LeaseOptions): Promise<Lease> {
    return this.#core.leases.grant(typeof options === "number" ? { ttl: options } : options);
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

  /** Closes the connection under all views, and its leases as `Lease.close` does. */
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
    const { revision } = answer.header;
    this.#core.session.saw(revision);
    const results = answer.results.map((result) => resultOf(this.#view, result));
    return { succeeded: answer.succeeded, results, revision };
  }

  async #range(selector: Selector, options: ReadOptions): Promise<Listing<Value>> {
    const answer = await this.#read(rangeOp(this.#view, selector, options), options);
    const entries = answer.kvs.map((kv) => this.#entry(kv));
    const { count, more } = answer;
    return { entries, count, more, revision: answer.header.revision };
  }

  /** Reads as fresh as `options` asks: a peer whose state is too old asks the cluster. */
  async #read(op: RangeOp, options: ReadOptions): Promise<LinkAnswerOf<"range">> {
    const { caller, session } = this.#core;
    const consistency = options.serializable === true ? "serializable" : options.consistency;
    const level = readLevel(consistency ?? "linearizable", session);
    const answer = await caller.call({ method: "range", op, ...level }, options);
    session.saw(answer.header.revision);
    return answer;
  }

  /** The first page fixes the revision of the others. */
  async *#pages(
    selector: Selector,
    options: ReadOptions,
  ): AsyncGenerator<Listing<Value>, void, void> {
    const limit = LIMITS.clientPageKeys;
    let op = rangeOp(this.#view, selector, { ...options, limit });
    let how = options;
    let first: number | undefined;
    for (;;) {
      const answer = await this.#read(op, how);
      first ??= answer.header.revision;
      const entries = answer.kvs.map((kv) => this.#entry(kv));
      yield { entries, count: answer.count, more: answer.more, revision: first };
      const last = answer.kvs.at(-1);
      if (!answer.more || last === undefined) return;
      op = { ...op, key: keyAfter(last.key), revision: options.revision ?? first };
      // Another peer may be asked for the next page, and must have that revision.
      how = { ...options, consistency: "linearizable", serializable: false };
    }
  }

  #entry(kv: LinkKeyValue): Entry<Value> {
    return new Entry(kv, this.#view.space, this.#view.codec);
  }
}
