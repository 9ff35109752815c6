/**
 * One client's watch stream: etcd's rules for ids, order of answers, cancellation and progress. It holds
 * no events: while its sink is full its watchers lag, and the store's history serves them afterwards.
 */
import { errorText } from "../../api/errors.ts";
import type { ErrorCode, RpcError } from "../../api/errors.ts";
import { compareBytes } from "../../base/bytes.ts";
import type { Bytes } from "../../base/bytes.ts";
import { LIMITS } from "../../base/limits.ts";
import { FIRST_KEY } from "../../mvcc/types.ts";
import type { WatchBatch, Watcher, WatcherSink } from "../../mvcc/watch-registry.ts";
import type { WatchCreate, WatchResponse, WatchSink, WatchStream } from "../services.ts";
import type { WatchContext } from "./watch-context.ts";
import { sharedEvents, splitEvents } from "./watch-events.ts";

/** What a stream needs of the service that opened it. */
export interface StreamOwner {
  readonly context: WatchContext;
  /** A watcher lags, or its sink has room again. */
  catchUpSoon(): void;
  closed(stream: PeerWatchStream): void;
}

interface ActiveWatch {
  readonly id: bigint;
  readonly request: WatchCreate;
  /** Set right after the created response was sent. */
  watcher: Watcher | undefined;
  /** No event was sent since the last round of progress. */
  quiet: boolean;
}

export class PeerWatchStream implements WatchStream {
  readonly #owner: StreamOwner;
  readonly #sink: WatchSink;
  readonly #watches = new Map<bigint, ActiveWatch>();
  readonly requireLeader: boolean;
  /** When its watchers are due to be told of progress. */
  progressDue: number;
  #nextId = 0n;
  #full = false;
  #closed = false;

  constructor(
    owner: StreamOwner,
    sink: WatchSink,
    options: { readonly requireLeader: boolean; readonly progressDue: number },
  ) {
    this.#owner = owner;
    this.#sink = sink;
    this.requireLeader = options.requireLeader;
    this.progressDue = options.progressDue;
  }

  create(request: WatchCreate): void {
    if (this.#closed) return;
    const key = request.key.length === 0 ? FIRST_KEY : request.key;
    const refusal = this.#refusal(key, request);
    if (refusal !== undefined) {
      this.#control({
        watchId: -1n,
        created: true,
        canceled: true,
        cancelReason: errorText(refusal),
      });
      return;
    }
    const id = request.watchId === 0n ? this.#freeId() : request.watchId;
    const watch: ActiveWatch = { id, request, watcher: undefined, quiet: true };
    this.#watches.set(id, watch);
    this.#control({ watchId: id, created: true });
    const { watches, compactRevision } = this.#owner.context.state.store;
    if (request.startRevision > 0 && request.startRevision < compactRevision) {
      // In the same turn, so that a client that reads both knows before it says that it watches.
      this.#compacted(watch, compactRevision);
      return;
    }
    watch.watcher = watches.watch({
      key,
      rangeEnd: request.rangeEnd,
      startRevision: request.startRevision,
      filters: { noPut: request.noPut, noDelete: request.noDelete },
      sink: this.#watcherSink(watch),
    });
    if (!watch.watcher.synced) this.#owner.catchUpSoon();
  }

  cancel(watchId: bigint): void {
    const watch = this.#watches.get(watchId);
    if (watch === undefined) return;
    this.#watches.delete(watchId);
    watch.watcher?.cancel();
    this.#control({ watchId, canceled: true });
  }

  /** Answered only if every watcher has been shown all there is. */
  progress(): void {
    if (this.#closed || this.#watches.size === 0) return;
    for (const watch of this.#watches.values()) if (!this.#upToDate(watch)) return;
    this.#control({ watchId: -1n });
  }

  resume(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#owner.catchUpSoon();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { watcher } of this.#watches.values()) watcher?.cancel();
    this.#watches.clear();
    this.#owner.closed(this);
  }

  /** Ends it from this side. */
  end(error: RpcError): void {
    if (this.#closed) return;
    this.close();
    this.#sink.end(error);
  }

  /** Tells watchers that asked for it how far they are, unless events told them. */
  reportProgress(): void {
    for (const watch of this.#watches.values()) {
      if (!watch.request.progressNotify) continue;
      if (watch.quiet && !this.#full && this.#upToDate(watch)) this.#control({ watchId: watch.id });
      watch.quiet = true;
    }
  }

  #upToDate({ watcher, request }: ActiveWatch): boolean {
    if (watcher === undefined || !watcher.synced) return false;
    return this.#owner.context.state.store.revision >= request.startRevision;
  }

  #refusal(key: Bytes, request: WatchCreate): ErrorCode | undefined {
    const { rangeEnd } = request;
    if (request.startRevision < 0) return "compacted";
    const open = rangeEnd.length === 0 || (rangeEnd.length === 1 && rangeEnd[0] === 0);
    if (!open && compareBytes(key, rangeEnd) >= 0) return "watchRangeEmpty";
    return this.#watches.has(request.watchId) && request.watchId !== 0n
      ? "watchIdTaken"
      : undefined;
  }

  #freeId(): bigint {
    while (this.#watches.has(this.#nextId)) this.#nextId += 1n;
    this.#nextId += 1n;
    return this.#nextId - 1n;
  }

  #watcherSink(watch: ActiveWatch): WatcherSink {
    return {
      deliver: (_watcher, batch) => this.#deliver(watch, batch),
      compacted: (_watcher, compactRevision) => this.#compacted(watch, compactRevision),
    };
  }

  #compacted({ id }: ActiveWatch, compactRevision: number): void {
    this.#watches.delete(id);
    this.#control({ watchId: id, canceled: true, compactRevision, revision: 0 });
  }

  #deliver(watch: ActiveWatch, batch: WatchBatch): boolean {
    if (!this.#full && this.#sink.isCrowded?.() === true) this.#full = true;
    if (this.#full) return false;
    watch.quiet = false;
    const { context } = this.#owner;
    const { previousKv, fragment } = watch.request;
    const shared = sharedEvents(batch, { previousKv, registry: context.state.store.watches });
    const answer = { watchId: watch.id, revision: batch.headerRevision };
    const bytesMax = context.config.requestBytesMax + LIMITS.requestOverheadBytes;
    const portions = fragment ? splitEvents(shared.events, bytesMax) : [shared.events];
    if (portions.length === 1) {
      this.#send({ ...answer, events: shared.events, encoded: shared.encoded });
      return true;
    }
    for (const [position, events] of portions.entries()) {
      this.#send({ ...answer, events, fragment: position < portions.length - 1 });
    }
    return true;
  }

  #control(fields: ResponseFields): void {
    if (!this.#closed) this.#send(fields);
  }

  #send(fields: ResponseFields): void {
    const taken = this.#sink.send({
      header: this.#owner.context.header(fields.revision),
      watchId: fields.watchId,
      created: fields.created ?? false,
      canceled: fields.canceled ?? false,
      compactRevision: fields.compactRevision ?? 0,
      cancelReason: fields.cancelReason ?? "",
      fragment: fields.fragment ?? false,
      events: fields.events ?? [],
      encoded: fields.encoded ?? new Map(),
    });
    if (!taken) this.#full = true;
  }
}

type ResponseFields = Pick<WatchResponse, "watchId"> &
  Partial<Omit<WatchResponse, "header" | "watchId">> & { readonly revision?: number };
