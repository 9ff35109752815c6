/**
 * The replica's one link to the cluster: the copy of its range, then one watch from the revision behind it. A link
 * that breaks, falls silent or speaks for another cluster is left; after a pause the next one goes on at the
 * watermark. What can't be continued (compacted at the source, an event that fits nothing, another cluster) is copied
 * anew, while the old state goes on to be read at the revisions that it has.
 */
import type { RpcError } from "../api/errors.ts";
import type { Backend, BatchWriter } from "../backend/backend.ts";
import { type Bytes, EMPTY, utf8 } from "../base/bytes.ts";
import type { Caller, WatchHandle } from "../client/caller.ts";
import { backoff } from "../client/link-caller.ts";
import type { ReplicaStore } from "../mvcc/replica-store.ts";
import { wholeRange } from "../mvcc/types.ts";
import type { LinkWatchResponse, LinkWelcome } from "../wire/link.ts";
import { copyRange } from "./copy.ts";
import { Intake } from "./intake.ts";
import type { ReplicaHost, ReplicaTiming } from "./replica-host.ts";

/** The cluster that the range was copied from, 8 bytes. */
const CLUSTER_ROW: Bytes = utf8("replica/cluster");

export interface FeedOptions {
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  readonly backend: Backend;
  readonly store: ReplicaStore;
  readonly host: ReplicaHost;
  readonly timing: ReplicaTiming;
  /** A link of its own, which `close` ends; `welcomed` is told of each peer before its first answer. */
  openSource(welcomed: (welcome: LinkWelcome) => void): Caller;
  /** Throws when another incarnation has taken the storage over. */
  guard(): void;
  /** What a new copy's store must hold beside it. */
  also(writer: BatchWriter): void;
}

export interface FeedListener {
  /** The watermark has grown, and watchers were told. `toHistory`: those that were synced lag now. */
  advanced(toHistory: boolean): void;
  /** Confirmations and progress can be asked for. */
  following(): void;
  /** Nothing was heard for a while: a round would tell whether the link is alive. */
  silent(): void;
  /**
   * Another copy stands in the place of the state. `compacted`: because the source has compacted what followed the
   * old one.
   */
  replaced(compacted: boolean): void;
  /** The storage failed, or another incarnation has it: nothing may be answered any more. */
  broken(error: unknown): void;
}

type State = "stopped" | "connecting" | "copying" | "following";

export class ReplicaFeed {
  readonly #options: FeedOptions;
  readonly #listener: FeedListener;
  readonly #intake: Intake;
  #state: State = "stopped";
  #session: Session | undefined;
  /** Why the next link begins with a copy; undefined: it need not. */
  #lost: { readonly reason: string; readonly compacted: boolean } | undefined;
  #raftTerm = 0;
  #isLooping = false;
  #isCompacting = false;
  #copies = 0;
  /** Wakes the pause between two links. */
  #hurry: (() => void) | undefined;

  constructor(options: FeedOptions, listener: FeedListener) {
    this.#options = options;
    this.#listener = listener;
    const { backend, store, timing } = options;
    this.#intake = new Intake(backend, store, timing.noteMilliseconds);
  }

  get state(): State {
    return this.#state;
  }

  /** Of the last answer that said one. */
  get raftTerm(): number {
    return this.#raftTerm;
  }

  /** Copies that were put in place since the start. */
  get copies(): number {
    return this.#copies;
  }

  /** Undefined: nothing was copied yet. */
  get clusterId(): bigint | undefined {
    const row = this.#options.backend.get("meta", CLUSTER_ROW);
    return row === undefined ? undefined : new DataView(row.buffer, row.byteOffset).getBigUint64(0);
  }

  start(): void {
    if (this.#state !== "stopped") return;
    this.#state = "connecting";
    // One that was told to stop and hasn't yet goes on.
    if (this.#isLooping) return;
    this.#isLooping = true;
    void this.#run()
      .catch((error: unknown) => this.#broken(error))
      .finally(() => {
        this.#isLooping = false;
      });
  }

  stop(): void {
    this.#state = "stopped";
    this.#session?.fail("the replica rests");
    this.#hurry?.();
  }

  /** A revision of the cluster that is confirmed after this call; undefined without a link that is followed. */
  confirm(): Promise<number> | undefined {
    const { source } = this.#followed ?? {};
    if (source === undefined) return undefined;
    const { key } = this.#options;
    const op = { kind: "range", ...wholeRange(key, EMPTY), countOnly: true } as const;
    return source
      .call(
        { method: "range", op, serializable: false },
        { timeoutMilliseconds: CONFIRM_MILLISECONDS },
      )
      .then(({ header }) => {
        if (this.#session !== undefined) this.#session.heardAt = this.#options.host.now();
        this.#raftTerm = header.raftTerm;
        return header.revision;
      });
  }

  askProgress(): void {
    this.#followed?.handle?.progress?.();
  }

  /** The state can't be continued: the next link begins with a copy. */
  lose(reason: string, compacted = false): void {
    this.#lost = { reason, compacted };
    this.#session?.fail(reason);
  }

  get #followed(): Session | undefined {
    return this.#state === "following" ? this.#session : undefined;
  }

  async #run(): Promise<void> {
    const { host } = this.#options;
    for (let attempt = 1; this.#isRunning; attempt += 1) {
      const session = new Session();
      this.#session = session;
      try {
        await this.#follow(session);
      } catch (error) {
        if (!(error instanceof LinkLost)) throw error;
        if (session.followed) attempt = 1;
        const { message } = error;
        host.report("info", "the replica's link ended", {
          reason: message,
          again: this.#isRunning,
        });
      } finally {
        session.close();
        // A copy that was cut short clears away what it began before another one begins.
        await session.copying?.catch(() => undefined);
      }
      if (!this.#isRunning) return;
      this.#state = "connecting";
      await this.#pause(backoff(attempt, host.random()));
    }
  }

  /** `stop` may come within any call. */
  get #isRunning(): boolean {
    return this.#state !== "stopped";
  }

  /** One link, from its opening to its end; always rejects: `LinkLost`, or what broke here. */
  async #follow(session: Session): Promise<never> {
    const { store, host, timing } = this.#options;
    const source = this.#options.openSource((welcome) => this.#welcomed(session, welcome));
    session.source = source;
    if (!store.isCopied || this.#lost !== undefined) {
      session.copying = this.#copy(session);
      await session.during(session.copying);
    }
    this.#intake.begin(host.now());
    session.heardAt = host.now();
    const { key, rangeEnd } = this.#options;
    const create = {
      key,
      rangeEnd,
      startRevision: store.revision + 1,
      progressNotify: true,
      noPut: false,
      noDelete: false,
      previousKv: false,
      watchId: 0n,
      fragment: true,
    };
    const listener = {
      response: (response: LinkWatchResponse) => this.#heard(session, response),
      end: (error: RpcError) => session.fail(error.message),
    };
    const opening = source.watch(create, listener);
    // One that opens too late is closed with its link.
    session.handle = await session.during(opening);
    this.#listen(session, timing);
    return session.ended;
  }

  async #copy(session: Session): Promise<void> {
    const { key, rangeEnd, backend, store, host } = this.#options;
    this.#state = "copying";
    const reason = this.#lost?.reason ?? "nothing was copied yet";
    host.report("info", "the replica copies its range", { reason });
    const revision = await copyRange(session.source as Caller, {
      key,
      rangeEnd,
      backend,
      check: () => {
        session.check();
        this.#options.guard();
      },
      also: (writer) => {
        this.#options.also(writer);
        const row = new DataView(new ArrayBuffer(8));
        row.setBigUint64(0, session.clusterId ?? 0n);
        writer.put("meta", CLUSTER_ROW, new Uint8Array(row.buffer));
      },
      switched: () => {
        const compacted = this.#lost?.compacted ?? false;
        this.#lost = undefined;
        this.#copies += 1;
        store.reload();
        this.#listener.replaced(compacted);
      },
    });
    host.report("info", "the replica's range is copied", { revision });
  }

  #welcomed(session: Session, { clusterId }: LinkWelcome): void {
    if (session.clusterId !== undefined && session.clusterId !== clusterId) {
      session.fail("the link's next peer belongs to another cluster");
      return;
    }
    session.clusterId = clusterId;
    const own = this.clusterId;
    if (own === undefined || own === clusterId || this.#lost !== undefined) return;
    this.lose(`the peers belong to cluster ${clusterId.toString(16)} now`);
  }

  #heard(session: Session, response: LinkWatchResponse): void {
    if (this.#session !== session || session.isOver) return;
    const { host, store } = this.#options;
    session.heardAt = host.now();
    this.#raftTerm = response.header.raftTerm;
    try {
      this.#options.guard();
      const before = store.revision;
      const taken = this.#intake.take(response, host.now());
      if (taken.kind === "lost") return this.lose(taken.reason, taken.compacted);
      if (taken.kind === "ended") return session.fail(taken.reason);
      if (response.created) {
        session.followed = true;
        this.#state = "following";
        this.#listener.following();
      }
      if (store.revision > before) this.#listener.advanced(taken.toHistory);
      this.#compactSoon();
    } catch (error) {
      this.#broken(error);
    }
  }

  #compactSoon(): void {
    const { host, store } = this.#options;
    if (this.#isCompacting || !store.owesCompaction) return;
    this.#isCompacting = true;
    host.defer(() => {
      this.#isCompacting = false;
      try {
        this.#options.guard();
        if (this.#intake.compact()) this.#compactSoon();
      } catch (error) {
        this.#broken(error);
      }
    });
  }

  /** A link that says nothing is asked, and left if it doesn't answer. */
  #listen(session: Session, timing: ReplicaTiming): void {
    const { host } = this.#options;
    const { askMilliseconds, silenceMillisecondsMax } = timing;
    session.cancelTimer = host.schedule(askMilliseconds, () => {
      if (session.isOver) return;
      const silence = host.now() - session.heardAt;
      // A clock that stepped back counts from now on.
      if (silence < 0) session.heardAt = host.now();
      if (silence > silenceMillisecondsMax) return session.fail("the link is silent");
      if (silence >= askMilliseconds) this.#listener.silent();
      this.#listen(session, timing);
    });
  }

  #broken(error: unknown): void {
    this.#state = "stopped";
    this.#session?.fail("the replica broke");
    this.#listener.broken(error);
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.host.schedule(milliseconds, resolve);
      this.#hurry = () => {
        cancel();
        resolve();
      };
    });
  }
}

/** How long a confirmation may take before its waiters are no longer there. */
const CONFIRM_MILLISECONDS = 2000;

/** This link can't be used any more; another one may be. */
class LinkLost extends Error {
  override readonly name = "LinkLost";
}

/** One link's life. */
class Session {
  source: Caller | undefined;
  handle: WatchHandle | undefined;
  clusterId: bigint | undefined;
  heardAt = 0;
  followed = false;
  copying: Promise<void> | undefined;
  cancelTimer: (() => void) | undefined;
  /** Rejects with `LinkLost`. */
  readonly ended: Promise<never>;
  readonly #end: (error: LinkLost) => void;
  #failure: LinkLost | undefined;

  constructor() {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    this.ended = promise;
    this.#end = reject;
  }

  get isOver(): boolean {
    return this.#failure !== undefined;
  }

  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  fail(reason: string): void {
    if (this.#failure !== undefined) return;
    this.#failure = new LinkLost(reason);
    this.#end(this.#failure);
    this.close();
  }

  /** What the link's peers refuse ends the link, not the replica. */
  async during<Value>(work: Promise<Value>): Promise<Value> {
    try {
      return await Promise.race([work, this.ended]);
    } catch (error) {
      if (isRefusal(error)) this.fail(error.message);
      this.check();
      throw error;
    }
  }

  close(): void {
    this.cancelTimer?.();
    this.handle?.close();
    this.source?.close();
  }
}

function isRefusal(error: unknown): error is RpcError {
  return error instanceof Error && error.name === "RpcError";
}
