/**
 * A replica: a copy of one range of keys, near those who read it, fed by one watch. It offers a peer's services, as
 * far as they read the range - `kv.range` and watches - so that doors serve a replica as they serve a peer. What it
 * can't answer right it refuses, and whoever asked goes to the peers: a range that isn't its own, a revision that it
 * doesn't hold, a state that isn't copied yet, writes and all else.
 *
 * Promises
 * - A linearizable answer is no older than its request: `read-points.ts`.
 * - Session and bounded answers are as new as they must be, or wait for a round; a serializable one says its age.
 * - A watch sees each revision once and in order from where it was begun, or hears that it was compacted, or ends.
 * - A restart needs only the storage; the newest incarnation alone answers (`incarnation.ts`).
 */
import { RpcError, rpcError } from "../api/errors.ts";
import type { Backend } from "../backend/backend.ts";
import { compareBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { LIMITS } from "../base/limits.ts";
import type { Caller } from "../client/caller.ts";
import { ReplicaStore } from "../mvcc/replica-store.ts";
import type { RangeQuery } from "../mvcc/types.ts";
import { readRange } from "../peer/service/range-reader.ts";
import { WatchStreams } from "../peer/service/watch-service.ts";
import type { WatchContext } from "../peer/service/watch-context.ts";
import type {
  CallContext,
  Header,
  RangeAnswer,
  ReadLevel,
  Services,
  WatchCreate,
  WatchSink,
  WatchStream,
} from "../peer/services.ts";
import type { LinkWelcome } from "../wire/link.ts";
import { ReplicaFeed } from "./feed.ts";
import { Incarnation } from "./incarnation.ts";
import { ReadPoints } from "./read-points.ts";
import { readOnlyServices } from "./read-only-services.ts";
import type { ReplicaHost, ReplicaTiming } from "./replica-host.ts";

export interface ReplicaOptions {
  /** The range that it follows, in etcd's convention. */
  readonly key: Bytes;
  readonly rangeEnd: Bytes;
  readonly backend: Backend;
  readonly host: ReplicaHost;
  readonly timing: ReplicaTiming;
  /** Of this start: no other one has it. */
  readonly incarnation: bigint;
  /** Events that stay readable, at least; tests have fewer. */
  readonly historyEvents?: number;
  /** See `FeedOptions`. */
  openSource(welcomed: (welcome: LinkWelcome) => void): Caller;
  /** The storage failed, or another incarnation has it: this one must end. */
  fatal(error: unknown): void;
}

/** How it stands, for operators and tests. */
export interface ReplicaStatus {
  readonly state: ReplicaFeed["state"];
  /** 0: nothing was copied yet. */
  readonly revision: number;
  readonly compactRevision: number;
  readonly watchers: number;
  readonly copies: number;
}

/** A read that names no time waits so long. */
const READ_MILLISECONDS = 5000;
/** Watchers that ask for progress hear of it so often, as at peers. */
const PROGRESS_MILLISECONDS = 600_000;
const TICK_MILLISECONDS = 1000;

export class Replica implements WatchContext {
  readonly services: Services;
  readonly host: ReplicaHost;
  readonly state: { readonly store: ReplicaStore; generation: number };
  readonly config = {
    requestBytesMax: LIMITS.requestBytesMax,
    progressNotifyMilliseconds: PROGRESS_MILLISECONDS,
    tickMilliseconds: TICK_MILLISECONDS,
    electionTicks: LIMITS.electionTicks,
  };
  /** Leaders are the peers' matter. */
  readonly consensus = { leaderlessMilliseconds: (): number => 0 };
  readonly #options: ReplicaOptions;
  readonly #incarnation: Incarnation;
  readonly #feed: ReplicaFeed;
  readonly #points: ReadPoints;
  #streams: WatchStreams;
  #cancelTick: (() => void) | undefined;

  /** Takes the storage over; follows nothing until `start`. */
  constructor(options: ReplicaOptions) {
    this.#options = options;
    const { key, rangeEnd, backend, host, timing } = options;
    this.host = host;
    this.#incarnation = new Incarnation(backend, options.incarnation);
    const { historyEvents } = options;
    const store = new ReplicaStore(backend, historyEvents === undefined ? {} : { historyEvents });
    this.state = { store, generation: 0 };
    this.#streams = new WatchStreams(this, Number(options.incarnation & 0xffffn));
    this.#feed = new ReplicaFeed(
      {
        key,
        rangeEnd,
        backend,
        store,
        host,
        timing,
        openSource: (welcomed) => options.openSource(welcomed),
        guard: () => this.#incarnation.check(),
        also: (writer) => this.#incarnation.write(writer),
      },
      {
        advanced: (toHistory) => {
          if (toHistory) this.#streams.catchUpSoon();
          else this.#streams.applied();
          this.#points.reached();
        },
        following: () => this.#points.flushSoon(),
        silent: () => this.#prove(),
        replaced: (compacted) => this.#replaced(compacted),
        broken: (error) => this.#broken(error),
      },
    );
    const source = {
      confirm: () => this.#feed.confirm(),
      askProgress: () => this.#feed.askProgress(),
      wentBack: (confirmed: number, seen: number) =>
        this.#feed.lose(`the cluster is at revision ${confirmed}, and was at ${seen}`),
    };
    this.#points = new ReadPoints(host, source, () => store.revision);
    this.services = readOnlyServices({
      range: (query, level, call) => this.#range(query, level, call),
      openWatch: (sink, call) => this.#openWatch(sink, call),
    });
  }

  /** Undefined: nothing was copied yet, so no link can be served. */
  get clusterId(): bigint | undefined {
    return this.#feed.clusterId;
  }

  get incarnation(): bigint {
    return this.#options.incarnation;
  }

  get status(): ReplicaStatus {
    const { revision, compactRevision, watches } = this.state.store;
    const { state, copies } = this.#feed;
    return { state, revision, compactRevision, watchers: watches.watcherCount, copies };
  }

  /** Follows the cluster, until `stop`. */
  start(): void {
    this.#feed.start();
    if (this.#cancelTick === undefined) this.#tickLater();
  }

  /** Follows no more; what is here can still be read, with its age. */
  stop(): void {
    this.#feed.stop();
    this.#cancelTick?.();
    this.#cancelTick = undefined;
  }

  header(revision = this.state.store.revision): Header {
    const { clusterId = 0n, incarnation } = this;
    return { clusterId, memberId: incarnation, revision, raftTerm: this.#feed.raftTerm };
  }

  checkLeader(): void {
    // A link that is followed has one: the feed asks for it.
  }

  #range(query: RangeQuery, level: ReadLevel, call: CallContext): Promise<RangeAnswer> {
    return new Promise((resolve, reject) => {
      this.#checkFollowed(query);
      // A revision to come is waited for, as a session's is.
      const atLeastRevision = Math.max(level.fresh?.atLeastRevision ?? 0, query.revision);
      const fresh = { ...level.fresh, atLeastRevision };
      const serve = (age: number | undefined): void => {
        try {
          resolve(this.#read(query, age));
        } catch (error) {
          reject(error);
        }
      };
      if (level.serializable && this.#isFresh(fresh)) {
        return serve(this.#points.ageMilliseconds());
      }
      const confirmed = (): void => {
        if (this.state.store.revision < atLeastRevision) reject(rpcError("futureRev"));
        else serve(0);
      };
      const milliseconds = Math.min(
        call.timeoutMilliseconds ?? READ_MILLISECONDS,
        READ_MILLISECONDS,
      );
      this.#points.join({ confirmed, failed: reject }, milliseconds);
    });
  }

  #read(
    query: RangeQuery,
    ageMilliseconds: number | undefined,
  ): RangeAnswer | Promise<RangeAnswer> {
    this.#guard();
    const header = this.header();
    const found = readRange(query, this.state, this.host);
    if (found instanceof Promise) {
      return found.then((result) => {
        this.#guard();
        return { header, ...result, ageMilliseconds };
      });
    }
    return { header, ...found, ageMilliseconds };
  }

  #isFresh({ atLeastRevision = 0, maxAgeMilliseconds }: NonNullable<ReadLevel["fresh"]>): boolean {
    if (this.state.store.revision < atLeastRevision) return false;
    if (maxAgeMilliseconds === undefined) return true;
    const age = this.#points.ageMilliseconds();
    return age !== undefined && age < maxAgeMilliseconds;
  }

  #openWatch(sink: WatchSink, call: CallContext): WatchStream {
    let stream: WatchStream;
    try {
      stream = this.#streams.open(sink, call);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      sink.end(error);
      return { create() {}, cancel() {}, progress() {}, resume() {}, close() {} };
    }
    return {
      create: (request) => {
        try {
          this.#checkWatch(request);
          stream.create(request);
        } catch (error) {
          if (!(error instanceof RpcError)) throw error;
          stream.close();
          sink.end(error);
        }
      },
      cancel: (id) => stream.cancel(id),
      progress: () => stream.progress(),
      resume: () => stream.resume(),
      close: () => stream.close(),
    };
  }

  /** What lies before history is the peers' to show: they may have it still. */
  #checkWatch(request: WatchCreate): void {
    this.#checkFollowed(request);
    this.#guard();
    const { startRevision } = request;
    const { watchFloor } = this.state.store;
    if (startRevision === 0 || startRevision >= watchFloor) return;
    throw notHere(`revisions below ${watchFloor} are not held here`);
  }

  #checkFollowed({ key, rangeEnd }: { readonly key: Bytes; readonly rangeEnd: Bytes }): void {
    if (!this.state.store.isCopied) throw notHere("the range is not copied yet");
    if (!this.#isWithin(key, rangeEnd)) throw notHere("the range is not followed here");
  }

  #isWithin(key: Bytes, rangeEnd: Bytes): boolean {
    const own = this.#options;
    if (compareBytes(key, own.key) < 0) return false;
    if (isOpen(own.rangeEnd)) return true;
    if (rangeEnd.length === 0) return compareBytes(key, own.rangeEnd) < 0;
    return !isOpen(rangeEnd) && compareBytes(rangeEnd, own.rangeEnd) <= 0;
  }

  /** A round for its own sake: shows that the link is alive, and how fresh the state is. */
  #prove(): void {
    const nobody = { confirmed: (): void => undefined, failed: (): void => undefined };
    this.#points.join(nobody, this.#options.timing.silenceMillisecondsMax);
  }

  #replaced(compacted: boolean): void {
    this.state.generation += 1;
    this.#points.failAll();
    if (compacted) {
      this.#streams.catchUpSoon();
      return;
    }
    // The peers may have what watchers need next: they are to begin anew, here or there.
    this.#streams.stop();
    this.#streams = new WatchStreams(this, this.state.generation);
  }

  #guard(): void {
    try {
      this.#incarnation.check();
    } catch (error) {
      this.#broken(error);
      throw rpcError("stopped", { cause: error });
    }
  }

  #broken(error: unknown): void {
    this.stop();
    this.#points.failAll();
    this.#streams.stop();
    this.#options.fatal(error);
  }

  #tickLater(): void {
    this.#cancelTick = this.host.schedule(TICK_MILLISECONDS, () => {
      this.#streams.ticked(this.host.now());
      this.#tickLater();
    });
  }
}

function isOpen(rangeEnd: Bytes): boolean {
  return rangeEnd.length === 1 && rangeEnd[0] === 0;
}

/** A refusal that isn't worth repeating here: the peers are to be asked. */
function notHere(text: string): RpcError {
  return new RpcError("failedPrecondition", `the replica can't answer: ${text}`);
}
