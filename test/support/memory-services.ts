/**
 * A peer's services over one small map: what the tests of links, client and edge speak to when a
 * cluster would tell them no more. Keeps whole history; leases have ttls but never expire by
 * themselves (`expire` does it). `fault` lets a test refuse, delay or lose a call by its method.
 */
import { errorText, rpcError } from "../../shared/api/errors.ts";
import { EMPTY, compareBytes, equalBytes, hexOf } from "../../shared/base/bytes.ts";
import type { Bytes } from "../../shared/base/bytes.ts";
import type { KeyValue, RangeQuery, RangeResult } from "../../shared/mvcc/types.ts";
import type {
  CallContext,
  Header,
  OpResult,
  Services,
  WatchCreate,
  WatchSink,
  WatchStream,
  WatchedEvent,
} from "../../shared/peer/services.ts";
import type { Compare, DeleteRangeOp, Op, PutOp, TxnOp } from "../../shared/wire/command.ts";

interface Revision {
  readonly revision: number;
  readonly events: readonly WatchedEvent[];
}

interface Watcher {
  readonly create: WatchCreate;
  readonly id: bigint;
  next: number;
}

export interface Fault {
  /** Runs before the call has an effect: throw to refuse it. */
  before?(method: string, call: CallContext): Promise<void> | void;
  /** Runs after it had its effect: throw to lose the answer. */
  after?(method: string): Promise<void> | void;
}

function inRange(key: Bytes, from: Bytes, end: Bytes): boolean {
  if (end.length === 0) return equalBytes(key, from);
  if (compareBytes(key, from) < 0) return false;
  return (end.length === 1 && end[0] === 0) || compareBytes(key, end) < 0;
}

export class MemoryServices implements Services {
  readonly clusterId = 0xc1n;
  readonly memberId: bigint;
  fault: Fault = {};
  readonly calls: string[] = [];
  /** Sizes of the keepalive batches that came. */
  readonly keepAliveBatches: number[] = [];
  revision = 1;
  compacted = -1;
  openStreams = 0;
  appliedIndex = 10;
  /** Ignores the identities of writes: for negative controls. */
  forgetful = false;
  readonly #written = new Map<string, unknown>();
  readonly #keys = new Map<string, KeyValue>();
  readonly #history: Revision[] = [];
  readonly #leases = new Map<bigint, number>();
  #nextLease = 1000n;
  readonly #streams = new Set<() => void>();

  constructor(memberId = 0xa1n) {
    this.memberId = memberId;
  }

  get leaseIds(): bigint[] {
    return [...this.#leases.keys()];
  }

  get header(): Header {
    const { clusterId, memberId, revision } = this;
    return { clusterId, memberId, revision, raftTerm: 2 };
  }

  async #run<T>(method: string, call: CallContext, body: () => T): Promise<T> {
    this.calls.push(method);
    await this.fault.before?.(method, call);
    const result = this.#once(call, body);
    await this.fault.after?.(method);
    return result;
  }

  /** Writes with an identity take effect once, as a peer's write table makes it. */
  #once<T>({ identity }: CallContext, body: () => T): T {
    if (identity === undefined || this.forgetful) return body();
    const name = `${hexOf(identity.client)}:${identity.sequence}`;
    if (!this.#written.has(name)) this.#written.set(name, body());
    return this.#written.get(name) as T;
  }

  readonly kv: Services["kv"] = {
    range: (query, _options, call) =>
      this.#run("range", call, () => ({ header: this.header, ...this.#range(query) })),
    async *rangeStream() {
      yield* [];
      throw rpcError("unknownMethod");
    },
    put: (op, call) =>
      this.#run("put", call, () => {
        const result = this.#write((events, revision) => this.#put(op, events, revision));
        return { header: this.header, previous: op.previousKv ? result.previous : undefined };
      }),
    deleteRange: (op, call) =>
      this.#run("deleteRange", call, () => {
        const gone = this.#write((events, revision) => this.#delete(op, events, revision));
        const previous = op.previousKv ? gone : [];
        return { header: this.header, deleted: gone.length, previous };
      }),
    txn: (op, _options, call) =>
      this.#run("txn", call, () => {
        const outcome = this.#write((events, revision) => this.#txn(op, events, revision));
        return { header: this.header, ...outcome };
      }),
    compact: ({ revision }, call) =>
      this.#run("compact", call, () => {
        if (revision <= this.compacted) throw rpcError("compacted");
        if (revision > this.revision) throw rpcError("futureRev");
        this.compacted = revision;
        return { header: this.header };
      }),
  };

  readonly lease: Services["lease"] = {
    grant: ({ id, ttlSeconds }, call) =>
      this.#run("leaseGrant", call, () => {
        const chosen = id === 0n ? this.#nextLease++ : id;
        if (this.#leases.has(chosen)) throw rpcError("leaseExist");
        this.#leases.set(chosen, Number(ttlSeconds));
        return { header: this.header, id: chosen, ttlSeconds: Number(ttlSeconds) };
      }),
    revoke: (id, call) =>
      this.#run("leaseRevoke", call, () => {
        if (!this.#leases.has(id)) throw rpcError("leaseNotFound");
        this.expire(id);
        return { header: this.header };
      }),
    keepAlive: (ids, call) =>
      this.#run("leaseKeepAlive", call, () => {
        this.keepAliveBatches.push(ids.length);
        const ttlSeconds = ids.map((id) => this.#leases.get(id) ?? 0);
        return { header: this.header, ttlSeconds };
      }),
    timeToLive: ({ id }, call) =>
      this.#run("leaseTimeToLive", call, () => {
        const ttl = this.#leases.get(id);
        const keys = [...this.#keys.values()].filter((kv) => kv.lease === id).map((kv) => kv.key);
        const shared = { header: this.header, keys };
        return { ...shared, ttlSeconds: ttl ?? -1, grantedTtlSeconds: ttl ?? 0 };
      }),
    leases: (call) =>
      this.#run("leases", call, () => ({ header: this.header, ids: [...this.#leases.keys()] })),
  };

  readonly cluster: Services["cluster"] = {
    isLearner: () => false,
    memberAdd: () => Promise.reject(rpcError("unknownMethod")),
    memberRemove: () => Promise.reject(rpcError("unknownMethod")),
    memberUpdate: () => Promise.reject(rpcError("unknownMethod")),
    memberPromote: () => Promise.reject(rpcError("unknownMethod")),
    memberChange: () => Promise.reject(rpcError("unknownMethod")),
    memberList: (_options, call) =>
      this.#run("memberList", call, () => ({
        header: this.header,
        members: [
          {
            id: this.memberId,
            name: "memory",
            peerUrls: ["http://127.0.0.1:2380"],
            clientUrls: ["http://127.0.0.1:2379"],
            isLearner: false,
          },
        ],
      })),
  };

  readonly maintenance: Services["maintenance"] = {
    status: (call) =>
      this.#run("status", call, () => ({
        header: this.header,
        leader: this.memberId,
        raftIndex: this.revision,
        raftTerm: 2,
        raftAppliedIndex: this.appliedIndex,
        dbSize: 4096,
        dbSizeInUse: 4096,
        dbSizeQuota: 1 << 30,
        isLearner: false,
        errors: [],
        alarms: [],
      })),
    alarm: () => Promise.reject(rpcError("unknownMethod")),
    hashKv: () => Promise.reject(rpcError("unknownMethod")),
    hash: () => Promise.reject(rpcError("unknownMethod")),
    defragment: () => Promise.reject(rpcError("unknownMethod")),
    downgrade: () => Promise.reject(rpcError("unknownMethod")),
    snapshot: () => {
      throw rpcError("unknownMethod");
    },
    moveLeader: () => Promise.reject(rpcError("unknownMethod")),
  };

  readonly watch: Services["watch"] = {
    open: (sink, call) => {
      this.calls.push("watch");
      return this.#openStream(sink, call);
    },
  };

  /** The lease and its keys are gone. */
  expire(id: bigint): void {
    this.#leases.delete(id);
    const attached = [...this.#keys.values()].filter((kv) => kv.lease === id);
    this.#write((events, revision) => {
      for (const { key } of attached) {
        const op = { kind: "deleteRange", key, rangeEnd: EMPTY, previousKv: false } as const;
        this.#delete(op, events, revision);
      }
    });
  }

  #write<T>(body: (events: WatchedEvent[], revision: number) => T): T {
    const events: WatchedEvent[] = [];
    const result = body(events, this.revision + 1);
    if (events.length > 0) {
      this.revision += 1;
      this.#history.push({ revision: this.revision, events });
      for (const pump of this.#streams) pump();
    }
    return result;
  }

  #range(query: RangeQuery): RangeResult {
    if (query.revision > this.revision) throw rpcError("futureRev");
    if (query.revision > 0 && query.revision < this.compacted) throw rpcError("compacted");
    const all = [...this.#at(query.revision).values()]
      .filter((kv) => inRange(kv.key, query.key, query.rangeEnd))
      .sort((a, b) => compareBytes(a.key, b.key));
    if (query.sortOrder === "descend") all.reverse();
    const limit = query.limit > 0 ? query.limit : all.length;
    const kvs = query.countOnly ? [] : all.slice(0, limit);
    return {
      kvs: query.keysOnly ? kvs.map((kv) => ({ ...kv, value: EMPTY })) : kvs,
      count: all.length,
      more: !query.countOnly && all.length > limit,
    };
  }

  #at(revision: number): Map<string, KeyValue> {
    if (revision <= 0 || revision === this.revision) return this.#keys;
    const state = new Map<string, KeyValue>();
    for (const past of this.#history.filter((each) => each.revision <= revision)) {
      for (const { type, kv } of past.events) {
        if (type === "put") state.set(hexOf(kv.key), kv);
        else state.delete(hexOf(kv.key));
      }
    }
    return state;
  }

  #put(op: PutOp, events: WatchedEvent[], revision: number): { previous: KeyValue | undefined } {
    if (op.key.length === 0) throw rpcError("emptyKey");
    if (op.lease !== 0n && !this.#leases.has(op.lease)) throw rpcError("leaseNotFound");
    const previous = this.#keys.get(hexOf(op.key));
    const kv: KeyValue = {
      key: op.key.slice(),
      value: op.value.slice(),
      createRevision: previous?.createRevision ?? revision,
      modRevision: revision,
      version: (previous?.version ?? 0) + 1,
      lease: op.lease,
    };
    this.#keys.set(hexOf(op.key), kv);
    events.push({ type: "put", kv, previous });
    return { previous };
  }

  #delete(op: DeleteRangeOp, events: WatchedEvent[], revision: number): KeyValue[] {
    const gone = [...this.#keys.values()].filter((kv) => inRange(kv.key, op.key, op.rangeEnd));
    for (const previous of gone) {
      this.#keys.delete(hexOf(previous.key));
      const zero = { value: EMPTY, createRevision: 0, version: 0, lease: 0n };
      events.push({
        type: "delete",
        kv: { key: previous.key, modRevision: revision, ...zero },
        previous,
      });
    }
    return gone;
  }

  #txn(
    op: TxnOp,
    events: WatchedEvent[],
    revision: number,
  ): { succeeded: boolean; results: OpResult[] } {
    const succeeded = op.compares.every((compare) => this.#holds(compare));
    const run = (each: Op): OpResult => {
      switch (each.kind) {
        case "range":
          return { kind: "range", revision: this.revision, result: this.#range(each) };
        case "put":
          return { kind: "put", revision, previous: this.#put(each, events, revision).previous };
        case "deleteRange": {
          const previous = this.#delete(each, events, revision);
          return { kind: "deleteRange", revision, deleted: previous.length, previous };
        }
        case "txn":
          return { kind: "txn", ...this.#txn(each, events, revision) };
      }
    };
    return { succeeded, results: (succeeded ? op.success : op.failure).map(run) };
  }

  #holds(compare: Compare): boolean {
    const kv = this.#keys.get(hexOf(compare.key));
    if (compare.target === "value" && kv === undefined) return false;
    const actual = {
      version: BigInt(kv?.version ?? 0),
      create: BigInt(kv?.createRevision ?? 0),
      mod: BigInt(kv?.modRevision ?? 0),
      lease: kv?.lease ?? 0n,
      value: hexOf(kv?.value ?? EMPTY),
    }[compare.target];
    const operand = typeof compare.operand === "bigint" ? compare.operand : hexOf(compare.operand);
    switch (compare.result) {
      case "equal":
        return actual === operand;
      case "notEqual":
        return actual !== operand;
      case "greater":
        return actual > operand;
      case "less":
        return actual < operand;
    }
  }

  #openStream(sink: WatchSink, call: CallContext): WatchStream {
    const watchers: Watcher[] = [];
    let nextId = 0n;
    let full = false;
    this.openStreams += 1;
    const blank = { created: false, canceled: false, compactRevision: 0, cancelReason: "" };
    const say = (watchId: bigint, more: object): void => {
      const response = { header: this.header, watchId, ...blank, fragment: false, events: [] };
      if (!sink.send({ ...response, encoded: new Map(), ...more })) full = true;
    };
    const pump = (): void => {
      for (const watcher of watchers) {
        for (const past of this.#history.slice()) {
          if (full) return;
          if (past.revision < watcher.next) continue;
          watcher.next = past.revision + 1;
          const events = past.events.filter(({ type, kv }) => {
            const { key, rangeEnd, noPut, noDelete } = watcher.create;
            return !(type === "put" ? noPut : noDelete) && inRange(kv.key, key, rangeEnd);
          });
          if (events.length === 0) continue;
          say(watcher.id, { events, header: { ...this.header, revision: past.revision } });
        }
      }
    };
    const close = (): void => {
      if (this.#streams.delete(pump)) this.openStreams -= 1;
    };
    this.#streams.add(pump);
    call.onCancel(close);
    return {
      create: (create) => {
        const id = create.watchId === 0n ? nextId++ : create.watchId;
        if (create.startRevision < 0) {
          const cancelReason = errorText("compacted");
          say(-1n, { created: true, canceled: true, cancelReason });
          return;
        }
        say(id, { created: true });
        if (create.startRevision > 0 && create.startRevision <= this.compacted) {
          say(id, { canceled: true, compactRevision: this.compacted });
          return;
        }
        const next = create.startRevision > 0 ? create.startRevision : this.revision + 1;
        watchers.push({ create, id, next });
        pump();
      },
      cancel: (id) => {
        const position = watchers.findIndex((watcher) => watcher.id === id);
        if (position >= 0) watchers.splice(position, 1);
        say(id, { canceled: true });
      },
      progress: () => say(-1n, {}),
      resume: () => {
        full = false;
        pump();
      },
      close,
    };
  }
}
