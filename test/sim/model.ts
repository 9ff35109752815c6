/** The store as its documentation describes it, as plainly as can be: what the checker compares answers with. */
import type { ObservedEvent, ObservedKv, Request } from "./history.ts";
import { inSpan } from "./history.ts";

/** Never changed: each write makes a new one. */
export class Model {
  readonly revision: number;
  readonly #kvs: ReadonlyMap<string, ObservedKv>;

  constructor(revision = 1, kvs: ReadonlyMap<string, ObservedKv> = new Map()) {
    this.revision = revision;
    this.#kvs = kvs;
  }

  get(key: string): ObservedKv | undefined {
    return this.#kvs.get(key);
  }

  range(span: { key: string; end: string | undefined }): ObservedKv[] {
    const found = [...this.#kvs.values()].filter((kv) => inSpan(kv.key, span));
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Keys that hold this lease. */
  attached(lease: bigint): string[] {
    return [...this.#kvs.values()].filter((kv) => kv.lease === lease).map((kv) => kv.key);
  }

  /** What a request does here; `undefined` when it writes nothing. */
  write(request: Request): { readonly next: Model; readonly events: ObservedEvent[] } | undefined {
    switch (request.kind) {
      case "range":
      case "grant":
      case "compact":
        return undefined;
      case "put":
        return this.#commit([this.#put(request.key, request.value, request.lease)]);
      case "putAll":
        return this.#commit(request.keys.map((key) => this.#put(key, request.value, 0n)));
      case "swap":
        if ((this.get(request.key)?.modRevision ?? 0) !== request.expected) return undefined;
        return this.#commit([this.#put(request.key, request.value, 0n)]);
      case "delete":
        return this.#commit(this.range(request).map((kv) => this.#delete(kv.key)));
      case "revoke":
        return this.revoke(request.lease);
    }
  }

  /** A lease's end, by a request or by expiry. */
  revoke(lease: bigint): { readonly next: Model; readonly events: ObservedEvent[] } | undefined {
    return this.#commit(
      this.attached(lease)
        .sort()
        .map((key) => this.#delete(key)),
    );
  }

  #put(key: string, value: string, lease: bigint): ObservedEvent {
    const previous = this.get(key);
    const revision = this.revision + 1;
    const createRevision = previous?.createRevision ?? revision;
    const version = (previous?.version ?? 0) + 1;
    const kv = { key, value, createRevision, modRevision: revision, version, lease };
    return { type: "put", kv };
  }

  #delete(key: string): ObservedEvent {
    const modRevision = this.revision + 1;
    const kv = { key, value: "", createRevision: 0, modRevision, version: 0, lease: 0n };
    return { type: "delete", kv };
  }

  #commit(events: ObservedEvent[]): { next: Model; events: ObservedEvent[] } | undefined {
    if (events.length === 0) return undefined;
    const kvs = new Map(this.#kvs);
    for (const { type, kv } of events) {
      if (type === "put") kvs.set(kv.key, kv);
      else kvs.delete(kv.key);
    }
    return { next: new Model(this.revision + 1, kvs), events };
  }
}

export function sameKv(a: ObservedKv, b: ObservedKv): boolean {
  return (
    a.key === b.key &&
    a.value === b.value &&
    a.createRevision === b.createRevision &&
    a.modRevision === b.modRevision &&
    a.version === b.version &&
    a.lease === b.lease
  );
}

export function sameKvs(a: readonly ObservedKv[], b: readonly ObservedKv[]): boolean {
  return a.length === b.length && a.every((kv, at) => sameKv(kv, b[at] as ObservedKv));
}

export function sameEvents(a: readonly ObservedEvent[], b: readonly ObservedEvent[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ type, kv }, at) => {
      const other = b[at] as ObservedEvent;
      if (type !== other.type) return false;
      if (type === "put") return sameKv(kv, other.kv);
      return kv.key === other.kv.key && kv.modRevision === other.kv.modRevision;
    })
  );
}
