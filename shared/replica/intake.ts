/**
 * What comes over the upstream watch, into the store. Each response is one batch of the backend: events and
 * watermark become durable together. A revision that comes in fragments lies below the watermark's surface until its
 * last one.
 *
 * Nothing is trusted to be in order: what is known already is passed over, and what doesn't continue the state of its
 * key means that something was lost, so that the range must be copied anew.
 */
import { LIMITS } from "../base/limits.ts";
import type { Backend } from "../backend/backend.ts";
import type { ReplicaStore } from "../mvcc/replica-store.ts";
import type { Event, RevisionEvents } from "../mvcc/types.ts";
import type { LinkEvent, LinkWatchResponse } from "../wire/link.ts";

export type Taken =
  /** `toHistory`: watchers are to read it from there. */
  | { readonly kind: "taken"; readonly toHistory: boolean }
  /** The watch is over; another one may begin at the watermark. */
  | { readonly kind: "ended"; readonly reason: string }
  /** The state can't be continued. `compacted`: because the source itself has given up what follows. */
  | { readonly kind: "lost"; readonly reason: string; readonly compacted: boolean };

const TAKEN: Taken = { kind: "taken", toHistory: false };

export class Intake {
  readonly #backend: Backend;
  readonly #store: ReplicaStore;
  readonly #noteMilliseconds: number;
  #notedAt = 0;
  /** Fragments were added whose watermark is yet to come. */
  #isPartial = false;

  constructor(backend: Backend, store: ReplicaStore, noteMilliseconds: number) {
    this.#backend = backend;
    this.#store = store;
    this.#noteMilliseconds = noteMilliseconds;
  }

  /** A watch begins behind the watermark. */
  begin(now: number): void {
    this.#isPartial = false;
    this.#notedAt = now;
    this.#store.beginFeed();
  }

  take(response: LinkWatchResponse, now: number): Taken {
    if (response.canceled) return endOf(response);
    if (response.created) return TAKEN;
    if (response.events.length > 0) return this.#takeEvents(response, now);
    // How far the source is says nothing while a part of it is missing here.
    if (!this.#isPartial) this.#advance(response.header.revision, now);
    return TAKEN;
  }

  /** Removes some of what compaction owes; true while it owes more. */
  compact(): boolean {
    const store = this.#store;
    if (!store.owesCompaction) return false;
    const budget = { rows: LIMITS.compactionRowsPerStep, bytes: LIMITS.stretchBytesMax };
    this.#backend.apply(this.#backend.visibleIndex, (writer) => store.compactStep(writer, budget));
    return store.owesCompaction;
  }

  #takeEvents({ events, fragment }: LinkWatchResponse, now: number): Taken {
    const store = this.#store;
    const last = (events.at(-1) as LinkEvent).kv.modRevision;
    const index = Math.max(this.#backend.visibleIndex, store.revision);
    const added: Event[] = [];
    let lost: LinkEvent | undefined;
    this.#backend.apply(index, (writer) => {
      for (const { type, kv } of events) {
        const event = { type, kv };
        const fit = store.add(event, writer);
        if (fit === "new") added.push(event);
        else if (fit === "gap") {
          lost = { type, kv, previous: undefined };
          return;
        }
      }
      if (!fragment) store.seal(last, writer);
    });
    if (lost !== undefined) {
      const { type, kv } = lost;
      const reason = `a ${type} at revision ${kv.modRevision} continues nothing`;
      return { kind: "lost", reason, compacted: false };
    }
    if (fragment) {
      this.#isPartial = true;
      return TAKEN;
    }
    this.#notedAt = now;
    if (!this.#isPartial) {
      store.watches.notify(byRevision(added));
      return TAKEN;
    }
    // What came in parts may be larger than memory likes: watchers read it from history.
    this.#isPartial = false;
    store.watches.reload();
    return { kind: "taken", toHistory: true };
  }

  #advance(revision: number, now: number): void {
    const store = this.#store;
    store.advance(revision);
    if (now >= this.#notedAt && now - this.#notedAt < this.#noteMilliseconds) return;
    this.#notedAt = now;
    if (store.unnoted === 0) return;
    const index = Math.max(this.#backend.visibleIndex, store.revision);
    this.#backend.apply(index, (writer) => store.note(writer));
  }
}

function endOf({ compactRevision, cancelReason }: LinkWatchResponse): Taken {
  if (compactRevision > 0) {
    const reason = `the source has compacted up to revision ${compactRevision}`;
    return { kind: "lost", reason, compacted: true };
  }
  return { kind: "ended", reason: cancelReason === "" ? "the watch was cancelled" : cancelReason };
}

function byRevision(events: readonly Event[]): RevisionEvents[] {
  const revisions: { revision: number; events: Event[] }[] = [];
  for (const event of events) {
    const { modRevision } = event.kv;
    const last = revisions.at(-1);
    if (last?.revision === modRevision) last.events.push(event);
    else revisions.push({ revision: modRevision, events: [event] });
  }
  return revisions;
}
