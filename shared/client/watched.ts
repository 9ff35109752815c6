/**
 * A watch over a service binding as an async iterator, for the Worker that calls:
 *
 *   for await (const event of watched(env.STORE.watch({ prefix: "config/" }))) { ... }
 *
 * Leaving the loop ends the watch at the other Worker.
 */

/** What `StoreEntrypoint.watch` answers with, as far as its caller's side goes. */
export interface BoundWatch<Event> extends Partial<Disposable> {
  /** What has happened since the last call, one event at least; none: it was closed. */
  next(): PromiseLike<readonly Event[]>;
}

type EventOf<Bound> = Bound extends { next(): PromiseLike<readonly (infer Event)[]> }
  ? Event
  : never;

/** Throws what ended the watch; the last event's `id` is where another one goes on (`after`). */
export async function* watched<Bound extends BoundWatch<unknown>>(
  watch: PromiseLike<Bound>,
): AsyncGenerator<EventOf<Bound>, void, void> {
  const bound = await watch;
  try {
    for (;;) {
      const events = await bound.next();
      if (events.length === 0) return;
      yield* events as readonly EventOf<Bound>[];
    }
  } finally {
    bound[Symbol.dispose]?.();
  }
}
