/**
 * A transaction in steps, typed: what `commit` answers follows from the operations that were given.
 *
 *   const { succeeded, results } = await store
 *     .txn()
 *     .if(key("a").version.equals(0))
 *     .do(put("a", "1"))
 *     .else(get("a"))
 *     .commit();
 *   if (!succeeded) console.log(results[0].entry?.value);
 *
 * The branch is called `do`, not `then`: an object with a `then` is taken for a promise by `await`.
 */
import type { CallOptions } from "./caller.ts";
import type { Condition, Operation, ResultsOf, Transaction } from "./operations.ts";

type Operations<Value> = readonly Operation<Value>[];

/** What a transaction answers; `succeeded` tells which branch was done. */
export type TxnResult<
  Value,
  Do extends Operations<Value> = Operations<Value>,
  Else extends Operations<Value> = Operations<Value>,
> =
  | {
      readonly succeeded: true;
      readonly results: ResultsOf<Do, Value>;
      readonly revision: number;
    }
  | {
      readonly succeeded: false;
      readonly results: ResultsOf<Else, Value>;
      readonly revision: number;
    };

type Commit<Value> = (
  transaction: Transaction<Value>,
  options: CallOptions,
) => Promise<TxnResult<Value>>;

export class TxnBuilder<
  Value,
  Do extends Operations<Value> = readonly [],
  Else extends Operations<Value> = readonly [],
> {
  readonly #commit: Commit<Value>;
  readonly #if: Condition[] = [];
  readonly #do: Operation<Value>[] = [];
  readonly #else: Operation<Value>[] = [];

  constructor(commit: Commit<Value>) {
    this.#commit = commit;
  }

  /** All of them must hold, those of earlier calls too. */
  if(...conditions: readonly Condition[]): this {
    this.#if.push(...conditions);
    return this;
  }

  /** Done when the conditions hold. */
  do<More extends Operations<Value>>(
    ...operations: More
  ): TxnBuilder<Value, readonly [...Do, ...More], Else> {
    this.#do.push(...operations);
    return this as unknown as TxnBuilder<Value, readonly [...Do, ...More], Else>;
  }

  /** Done when one of them doesn't hold. */
  else<More extends Operations<Value>>(
    ...operations: More
  ): TxnBuilder<Value, Do, readonly [...Else, ...More]> {
    this.#else.push(...operations);
    return this as unknown as TxnBuilder<Value, Do, readonly [...Else, ...More]>;
  }

  commit(options: CallOptions = {}): Promise<TxnResult<Value, Do, Else>> {
    const transaction = { if: this.#if, do: this.#do, else: this.#else };
    return this.#commit(transaction, options) as Promise<TxnResult<Value, Do, Else>>;
  }
}
