/**
 * Watchers that see all: one on every start of a peer, from the first revision on, and the history
 * that they must agree upon: each revision once, in order, without gaps, the same everywhere.
 */
import { EMPTY, textOf } from "../../shared/base/bytes.ts";
import type { Peer } from "../../shared/peer/peer.ts";
import type { CallContext, WatchedEvent, WatchResponse } from "../../shared/peer/services.ts";
import { watchRequest } from "../support/watch-request.ts";
import type { ObservedEvent, ObservedKv } from "./history.ts";
import { sameEvents } from "./model.ts";
import type { SimCluster } from "./sim-cluster.ts";
import type { World } from "./world.ts";

export const ANY_CALL: CallContext = {
  timeoutMilliseconds: undefined,
  requireLeader: false,
  onCancel: () => {},
};

export const WATCH_ALL = watchRequest({
  key: Uint8Array.of(0),
  rangeEnd: Uint8Array.of(0),
  startRevision: 1,
});

export function observedKv(kv: WatchedEvent["kv"]): ObservedKv {
  const { createRevision, modRevision, version, lease } = kv;
  return {
    key: textOf(kv.key),
    value: textOf(kv.value ?? EMPTY),
    createRevision,
    modRevision,
    version,
    lease,
  };
}

export function observedEvents(response: WatchResponse): ObservedEvent[] {
  return response.events.map(({ type, kv }) => ({ type, kv: observedKv(kv) }));
}

/** Events by revision; a response holds whole revisions. */
export function byRevision(events: readonly ObservedEvent[]): Map<number, ObservedEvent[]> {
  const revisions = new Map<number, ObservedEvent[]>();
  for (const event of events) {
    const list = revisions.get(event.kv.modRevision);
    if (list === undefined) revisions.set(event.kv.modRevision, [event]);
    else list.push(event);
  }
  return revisions;
}

export class EventHistory {
  /** What each revision changed, in the order of the first report. */
  readonly events = new Map<number, readonly ObservedEvent[]>();
  /** Called for each revision when it is first seen by anyone. */
  seen: (events: readonly ObservedEvent[]) => void = () => {};
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** Watches everything on this peer for as long as it runs. */
  observe(cluster: SimCluster, name: string, peer: Peer): void {
    let next = 2;
    // A watch for the compacted revision itself would do too, but its deletions are gone.
    const alive = (): boolean => cluster.members.some((member) => member.peer === peer);
    const stream = peer.services.watch.open(
      {
        send: (response) => {
          if (!alive()) return true;
          if (response.canceled) {
            const compacted = response.compactRevision;
            if (compacted < next) {
              this.#world.fail(`${name}: watch from ${next} cancelled, compacted at ${compacted}`);
            }
            next = compacted + 1;
            stream.create({ ...WATCH_ALL, startRevision: next });
            return true;
          }
          for (const [revision, events] of byRevision(observedEvents(response))) {
            if (revision !== next) {
              this.#world.fail(`${name}: watched ${revision} where ${next} was due`);
            }
            next = revision + 1;
            this.#take(name, revision, events);
          }
          return true;
        },
        end: (error) => {
          if (alive()) this.#world.note(`${name}: watch ended: ${error.message}`);
        },
      },
      ANY_CALL,
    );
    stream.create(WATCH_ALL);
  }

  #take(name: string, revision: number, events: readonly ObservedEvent[]): void {
    const known = this.events.get(revision);
    if (known === undefined) {
      this.events.set(revision, events);
      this.#world.note(`revision ${revision}: ${show(events)}`);
      this.seen(events);
    } else if (!sameEvents(known, events)) {
      this.#world.fail(
        `${name}: revision ${revision} is ${show(events)}, elsewhere ${show(known)}`,
      );
    }
  }
}

function show(events: readonly ObservedEvent[]): string {
  return events.map(({ type, kv }) => `${type} ${kv.key}=${kv.value.slice(0, 9)}`).join(", ");
}
