/**
 * A cluster as a replica's feed sees it, over one store in memory, whose answers a test can hold back, bend and
 * break. `openSource` is what a replica is given; every link that it opens is counted.
 */
import { RpcError, rpcError } from "../../shared/api/errors.ts";
import { MemoryBackend } from "../../shared/backend/memory-backend.ts";
import { utf8 } from "../../shared/base/bytes.ts";
import type { Caller, WatchHandle, WatchListener } from "../../shared/client/caller.ts";
import { createStore } from "../../shared/mvcc/mvcc-store.ts";
import type { MvccStore, WriteTransaction } from "../../shared/mvcc/store.ts";
import type { WatchBatch, Watcher } from "../../shared/mvcc/watch-registry.ts";
import type {
  LinkAnswerOf,
  LinkMethod,
  LinkRequest,
  LinkRequestOf,
  LinkWatchCreate,
  LinkWatchResponse,
  LinkWelcome,
} from "../../shared/wire/link.ts";

export type RangeRequest = LinkRequestOf<"range">;

export class ScriptedCluster {
  clusterId = 0xc1n;
  raftTerm = 2;
  store: MvccStore;
  #backend: MemoryBackend;
  /** Links that were opened, and the open ones. */
  opened = 0;
  readonly links = new Set<ScriptedLink>();
  /** Ranges that count one key: confirmations. Others: pages. */
  confirmations = 0;
  pages = 0;
  /** No link can be opened. */
  isDown = false;
  /** Watch responses are kept until `release`. */
  isHeld = false;
  /** Events of one response; more are sent as fragments. */
  fragmentEvents = Infinity;
  /** What becomes of a response on its way. */
  bend: (response: LinkWatchResponse) => readonly LinkWatchResponse[] = (response) => [response];
  /** Runs before a call is answered: may wait, or throw to refuse it. */
  before: (request: RangeRequest) => Promise<void> | void = () => undefined;
  /** Who asks for a confirmation while one is under way joins that one: for controls. */
  joinsUnderWay = false;
  /** Runs before an answer leaves. */
  after: (request: RangeRequest) => Promise<void> | void = () => undefined;
  /** The revision that a confirmation names. */
  confirmedRevision: () => number = () => this.store.revision;

  constructor() {
    this.#backend = new MemoryBackend();
    this.store = createStore(this.#backend);
  }

  get watches(): number {
    return this.store.watches.watcherCount;
  }

  put(key: string, value: string, lease = 0n): number {
    return this.write((txn) => txn.put(utf8(key), utf8(value), lease));
  }

  delete(key: string): number {
    return this.write((txn) => txn.delete(utf8(key)));
  }

  /** One revision; returns it. */
  write(fill: (txn: WriteTransaction) => unknown): number {
    let events: ReturnType<WriteTransaction["end"]>;
    this.#backend.apply(this.#backend.visibleIndex + 1, (writer) => {
      const txn = this.store.begin(writer);
      fill(txn);
      events = txn.end();
    });
    if (events !== undefined) this.store.watches.notify([events]);
    return this.store.revision;
  }

  compact(revision = this.store.revision): void {
    const index = this.#backend.visibleIndex;
    this.#backend.apply(index, (writer) => this.store.compact(revision, writer));
    const work = this.store.compaction();
    const everything = { rows: Infinity, bytes: Infinity };
    this.#backend.apply(index, (writer) => {
      work?.step(writer, everything);
    });
  }

  /** Sends what was held back, and holds nothing more. */
  release(): void {
    this.isHeld = false;
    for (const link of this.links) link.release();
  }

  /** Every link breaks. */
  cut(): void {
    for (const link of this.links) link.cut();
  }

  /** In the place of this cluster stands another one, empty. */
  replace(): void {
    this.cut();
    this.clusterId += 1n;
    this.#backend = new MemoryBackend();
    this.store = createStore(this.#backend);
  }

  openSource(welcomed: (welcome: LinkWelcome) => void): Caller {
    this.opened += 1;
    const link = new ScriptedLink(this, welcomed);
    this.links.add(link);
    return link;
  }
}

interface OpenWatch {
  readonly create: LinkWatchCreate;
  readonly listener: WatchListener;
  watcher: Watcher | undefined;
  held: LinkWatchResponse[];
}

class ScriptedLink implements Caller {
  readonly #cluster: ScriptedCluster;
  readonly #watches = new Set<OpenWatch>();
  readonly #broken = Promise.withResolvers<never>();
  readonly #welcomed: (welcome: LinkWelcome) => void;
  #underWay: Promise<LinkAnswerOf<"range">> | undefined;
  #isWelcomed = false;
  #isOver = false;

  constructor(cluster: ScriptedCluster, welcomed: (welcome: LinkWelcome) => void) {
    this.#cluster = cluster;
    this.#welcomed = welcomed;
    this.#broken.promise.catch(() => undefined);
  }

  async call<Method extends LinkMethod>(
    request: LinkRequestOf<Method>,
  ): Promise<LinkAnswerOf<Method>> {
    this.#open();
    const asked = request as LinkRequest;
    if (asked.method !== "range") throw new Error(`${asked.method} is not asked here`);
    const answer: unknown = await Promise.race([this.#joined(asked), this.#broken.promise]);
    return answer as LinkAnswerOf<Method>;
  }

  #joined(request: RangeRequest): Promise<LinkAnswerOf<"range">> {
    if (!this.#cluster.joinsUnderWay || !isConfirmation(request)) return this.#range(request);
    this.#underWay ??= this.#range(request).finally(() => {
      this.#underWay = undefined;
    });
    return this.#underWay;
  }

  async #range(request: RangeRequest): Promise<LinkAnswerOf<"range">> {
    const cluster = this.#cluster;
    const confirms = isConfirmation(request);
    if (confirms) cluster.confirmations += 1;
    else cluster.pages += 1;
    await cluster.before(request);
    const { store, raftTerm } = cluster;
    const revision = confirms ? cluster.confirmedRevision() : store.revision;
    const result = store.range(request.op);
    if ("code" in result) throw rpcError(result.code);
    await cluster.after(request);
    return { method: "range", header: { revision, raftTerm }, ...result };
  }

  async watch(create: LinkWatchCreate, listener: WatchListener): Promise<WatchHandle> {
    // Whoever asks hears of it later, as over a network.
    await Promise.resolve();
    this.#open();
    const { store } = this.#cluster;
    const open: OpenWatch = { create, listener, watcher: undefined, held: [] };
    this.#watches.add(open);
    this.#send(open, { created: true });
    if (create.startRevision > 0 && create.startRevision < store.compactRevision) {
      this.#send(open, { canceled: true, compactRevision: store.compactRevision });
    } else {
      open.watcher = store.watches.watch({
        key: create.key,
        rangeEnd: create.rangeEnd,
        startRevision: create.startRevision,
        filters: create,
        sink: {
          deliver: (_watcher, batch) => this.#deliver(open, batch),
          compacted: (_watcher, compactRevision) =>
            this.#send(open, { canceled: true, compactRevision }),
        },
      });
      while (store.watches.catchUp());
    }
    return {
      close: () => {
        open.watcher?.cancel();
        this.#watches.delete(open);
      },
      progress: () => this.#progress(open),
    };
  }

  release(): void {
    for (const open of this.#watches) {
      const { held } = open;
      open.held = [];
      for (const response of held) open.listener.response(response);
    }
  }

  cut(): void {
    this.#end(new RpcError("unavailable", "the link was cut"));
  }

  close(): void {
    this.#end(new RpcError("canceled", "the client was closed"));
  }

  /** The peer greets with the first frame. */
  #open(): void {
    if (this.#isOver || this.#cluster.isDown) throw new RpcError("unavailable", "no peer");
    if (this.#isWelcomed) return;
    this.#isWelcomed = true;
    const { clusterId } = this.#cluster;
    this.#welcomed({ kind: "welcome", version: 1, clusterId, memberId: 1n, appliedIndex: 1 });
    if (this.#isOver) throw new RpcError("unavailable", "the link was left");
  }

  #end(error: RpcError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cluster.links.delete(this);
    this.#broken.reject(error);
    for (const { watcher, listener } of this.#watches) {
      watcher?.cancel();
      listener.end(error);
    }
    this.#watches.clear();
  }

  #progress(open: OpenWatch): void {
    const { store } = this.#cluster;
    const isSynced = open.watcher?.synced === true && open.held.length === 0;
    if (isSynced && store.revision >= open.create.startRevision) this.#send(open, { watchId: -1n });
  }

  #deliver(open: OpenWatch, batch: WatchBatch): boolean {
    const events = batch.events.map((event) => ({ ...event, previous: undefined }));
    const size = Math.min(this.#cluster.fragmentEvents, events.length);
    for (let first = 0; first < events.length; first += size) {
      const fragment = first + size < events.length;
      this.#send(open, { events: events.slice(first, first + size), fragment });
    }
    return true;
  }

  #send(open: OpenWatch, fields: Partial<LinkWatchResponse>): void {
    const { store, raftTerm, bend, isHeld } = this.#cluster;
    const response: LinkWatchResponse = {
      header: { revision: store.revision, raftTerm },
      watchId: 0n,
      created: false,
      canceled: false,
      compactRevision: 0,
      cancelReason: "",
      fragment: false,
      events: [],
      ...fields,
    };
    for (const each of bend(response)) {
      if (isHeld) open.held.push(each);
      else open.listener.response(each);
    }
  }
}

function isConfirmation({ op }: RangeRequest): boolean {
  return op.countOnly && op.rangeEnd.length === 0;
}
