/**
 * What watchers are sent, made once for all of them: the events of a batch with or without the previous key-values,
 * and the places at which a response that is too large is split.
 */
import type { Event } from "../../mvcc/types.ts";
import type { WatchBatch, WatchRegistry } from "../../mvcc/watch-registry.ts";
import type { WatchedEvent } from "../services.ts";

export interface SharedEvents {
  readonly events: readonly WatchedEvent[];
  readonly encoded: Map<string, unknown>;
}

const PLAIN = "peer.plain";
const WITH_PREVIOUS = "peer.withPrevious";

/** The events as responses carry them; the same object for all watchers that want them alike. */
export function sharedEvents(
  batch: WatchBatch,
  options: { readonly previousKv: boolean; readonly registry: WatchRegistry },
): SharedEvents {
  const slot = options.previousKv ? WITH_PREVIOUS : PLAIN;
  const known = batch.encoded.get(slot) as SharedEvents | undefined;
  if (known !== undefined) return known;
  const events = batch.events.map((event): WatchedEvent => {
    const { type, kv } = event;
    const previous = options.previousKv ? previousOf(event, options.registry) : undefined;
    return { type, kv, previous };
  });
  const shared: SharedEvents = { events, encoded: new Map() };
  batch.encoded.set(slot, shared);
  return shared;
}

/** What the key was before; nothing for a creation. */
function previousOf({ type, kv }: Event, registry: WatchRegistry): WatchedEvent["previous"] {
  if (type === "put" && kv.createRevision === kv.modRevision) return undefined;
  return registry.previous(kv.key, kv.modRevision);
}

/** Numbers, tags and lengths of one key-value in protobuf, at most. */
const OVERHEAD_BYTES = 64;

/** Protobuf bytes of one event, at most a few too many. */
function eventBytes({ kv, previous }: WatchedEvent): number {
  const own = OVERHEAD_BYTES + kv.key.length + kv.value.length;
  return previous === undefined
    ? own
    : own + OVERHEAD_BYTES + previous.key.length + previous.value.length;
}

/** The events in portions that stay below `bytesMax`, or hold one event. */
export function splitEvents(
  events: readonly WatchedEvent[],
  bytesMax: number,
): (readonly WatchedEvent[])[] {
  const portions: WatchedEvent[][] = [];
  let portion: WatchedEvent[] = [];
  let bytes = 0;
  for (const event of events) {
    const size = eventBytes(event);
    if (portion.length > 0 && bytes + size >= bytesMax) {
      portions.push(portion);
      portion = [];
      bytes = 0;
    }
    portion.push(event);
    bytes += size;
  }
  portions.push(portion);
  return portions;
}
