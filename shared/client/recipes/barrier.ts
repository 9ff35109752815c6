/** Points at which processes wait for each other. */
import { RpcError } from "../../api/errors.ts";
import { key as keyIs, put } from "../operations.ts";
import type { Store } from "../store.ts";
import { text } from "../values.ts";
import { CompactedError } from "../watch.ts";
import { openSession } from "./session.ts";
import type { AnyStore, HoldOptions, Session } from "./session.ts";
import { throwIfAborted } from "./signals.ts";
import { Place, untilDeleted } from "./waiting-line.ts";
import type { WaitOptions } from "./waiting-line.ts";

/** Closed while its key exists; opening it lets everybody through. */
export class Barrier {
  readonly #store: Store<string>;
  readonly #key: string;

  constructor(store: AnyStore, key: string) {
    this.#store = store.as(text);
    this.#key = key;
  }

  /** Refused with "alreadyExists" while it is closed. */
  async close(options: WaitOptions = {}): Promise<void> {
    const { signal } = options;
    const create = { if: [keyIs(this.#key).isMissing()], do: [put(this.#key, "")] };
    const { succeeded } = await this.#store.txn(create, { signal });
    if (!succeeded) throw new RpcError("alreadyExists", `${this.#key} is closed already`);
  }

  async open(options: WaitOptions = {}): Promise<void> {
    await this.#store.delete(this.#key, { signal: options.signal });
  }

  /** Resolves once it is open; at once if it is. */
  async wait(options: WaitOptions = {}): Promise<void> {
    const { signal } = options;
    for (;;) {
      throwIfAborted(signal);
      const { entries, revision } = await this.#store.list(this.#key, { limit: 1, signal });
      if (entries.length === 0) return;
      await untilDeleted(this.#store, this.#key, { from: revision + 1, signal });
    }
  }
}

/**
 * A stretch that so many enter together and leave together. Who falls silent inside counts as
 * having left, once its lease has run out.
 */
export class DoubleBarrier {
  readonly #store: Store<string>;
  readonly #name: string;
  readonly #count: number;
  readonly #hold: HoldOptions;
  #inside: { readonly place: Place; readonly session: Session } | undefined;

  constructor(store: AnyStore, name: string, options: HoldOptions & { readonly count: number }) {
    const { count, ...hold } = options;
    this.#store = store.as(text);
    this.#name = name;
    this.#count = count;
    this.#hold = hold;
  }

  /** Resolves once `count` have come. One object stands for one that enters. */
  async enter(options: WaitOptions = {}): Promise<void> {
    if (this.#inside !== undefined) throw new RpcError("failedPrecondition", "entered already");
    const { signal } = options;
    const store = this.#store;
    const session =
      this.#hold.session ?? (await openSession(store, { ttl: this.#hold.ttl, signal }));
    const waiters = `${this.#name}/waiters/`;
    const ready = `${this.#name}/ready`;
    const place = await Place.take(store, waiters, { session, signal });
    this.#inside = { place, session };
    for (;;) {
      throwIfAborted(signal);
      throwIfAborted(session.signal);
      const { succeeded, results, revision } = await store.txn(
        {
          if: [keyIs(ready).exists()],
          else: [{ kind: "get", selector: { prefix: waiters }, options: { countOnly: true } }],
        },
        { signal },
      );
      if (succeeded) return;
      if (results[0].count >= this.#count) {
        await store.put(ready, "", { signal });
        return;
      }
      await untilPut(store, ready, { from: revision + 1, signal });
    }
  }

  /** Resolves once all have left. */
  async leave(options: WaitOptions = {}): Promise<void> {
    const { signal } = options;
    const inside = this.#inside;
    if (inside === undefined) throw new RpcError("failedPrecondition", "not entered");
    this.#inside = undefined;
    await inside.place.release();
    if (this.#hold.session === undefined) await inside.session.close();
    const waiters = { prefix: `${this.#name}/waiters/` };
    for (;;) {
      throwIfAborted(signal);
      const read = { countOnly: true, signal } as const;
      const { count, revision } = await this.#store.list(waiters, read);
      if (count === 0) break;
      await untilDeleted(this.#store, waiters, { from: revision + 1, signal });
    }
    // The barrier can be used again: whoever sees it empty takes the sign away.
    await this.#store.delete(`${this.#name}/ready`, { signal });
  }
}

async function untilPut(
  store: Store<string>,
  key: string,
  options: { from: number; signal: AbortSignal | undefined },
): Promise<void> {
  const { from, signal } = options;
  try {
    const watch = store.watch(key, { fromRevision: from, only: "put", signal });
    for await (const _event of watch) return;
  } catch (error) {
    if (!(error instanceof CompactedError)) throw error;
  }
}
