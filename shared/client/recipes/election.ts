/**
 * One leader among many candidates, in one line with etcd's `concurrency.Election` and `etcdctl
 * elect`.
 *
 *   const election = new Election(store, "schedulers");
 *   await using leadership = await election.campaign("node-7");
 *   await schedule({ fencingToken: leadership.token, signal: leadership.signal });
 */
import { RpcError } from "../../api/errors.ts";
import { key as keyIs, put } from "../operations.ts";
import type { Entry } from "../values.ts";
import { CompactedError } from "../watch.ts";
import type { AnyStore, HoldOptions } from "./session.ts";
import { throwIfAborted } from "./signals.ts";
import { Line } from "./waiting-line.ts";
import type { Holding, WaitOptions } from "./waiting-line.ts";

export interface Leader {
  readonly key: string;
  /** What it proclaims. */
  readonly value: string;
  /** Its fencing token. */
  readonly token: number;
  /** The revision of its last proclamation. */
  readonly revision: number;
}

export interface Leadership extends Holding {
  /** Says something else, as long as it leads; refused with "aborted" afterwards. */
  proclaim(value: string): Promise<void>;
  /** The same as `release`. */
  resign(): Promise<void>;
}

export class Election {
  readonly #line: Line;

  constructor(store: AnyStore, name: string, options: HoldOptions = {}) {
    this.#line = new Line(store, name, options);
  }

  /** Stands for election with `value`, and waits until it leads. */
  async campaign(value: string, options: WaitOptions = {}): Promise<Leadership> {
    const { store } = this.#line;
    const place = await this.#line.pass(options, value);
    const { key, token, session } = place;
    const release = (): Promise<void> => place.release();
    return {
      key,
      token,
      signal: place.signal,
      release,
      resign: release,
      [Symbol.asyncDispose]: release,
      async proclaim(said) {
        const { succeeded } = await store.txn({
          if: [keyIs(key).createRevision.equals(token)],
          do: [put(key, said, { lease: session.lease })],
        });
        if (!succeeded) throw new RpcError("aborted", `${key} does not lead any more`);
      },
    };
  }

  /** Who leads now; undefined: nobody stands. */
  async leader(options: WaitOptions = {}): Promise<Leader | undefined> {
    return (await this.#first(options)).leader;
  }

  /** Each leader and each of its proclamations, from the present one on, until the signal aborts. */
  async *observe(options: WaitOptions = {}): AsyncGenerator<Leader, void, void> {
    const { signal } = options;
    let told: Leader | undefined;
    for (;;) {
      if (signal?.aborted === true) return;
      const { leader, revision } = await this.#first(options);
      if (leader !== undefined && leader.revision !== told?.revision) {
        told = leader;
        yield leader;
      }
      // Of those that wait nothing is told: only a change of the leader's key, or a first one, counts.
      const selector = leader === undefined ? { prefix: this.#line.prefix } : leader.key;
      try {
        const watch = this.#line.store.watch(selector, { fromRevision: revision + 1, signal });
        for await (const event of watch) {
          if (event.type === "delete" || leader === undefined) break;
          told = leaderOf(event.entry);
          yield told;
        }
      } catch (error) {
        if (!(error instanceof CompactedError)) throw error;
      }
    }
  }

  async #first(options: WaitOptions): Promise<{ leader: Leader | undefined; revision: number }> {
    throwIfAborted(options.signal);
    const { entries, revision } = await this.#line.first(options);
    const [entry] = entries;
    return { leader: entry === undefined ? undefined : leaderOf(entry), revision };
  }
}

function leaderOf(entry: Entry<string>): Leader {
  const { key, value, createRevision, modRevision } = entry;
  return { key, value, token: createRevision, revision: modRevision };
}
