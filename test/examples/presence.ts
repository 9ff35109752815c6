/**
 * Who is here: a list that every page shows and is on. Each page holds a key under a lease; when it
 * is closed, or its laptop is shut, the lease runs out and the name is gone from all lists.
 */
import { LiveRange, openSession } from "../../shared/client/index.ts";
import type { Store } from "../../shared/client/index.ts";

export interface Presence {
  /** Says goodbye: the name is gone at once. */
  leave(): Promise<void>;
}

/** Joins `room` as `name`; `show` gets the names, sorted, now and after each change. */
export async function joinRoom(
  store: Store<string>,
  options: { room: string; name: string; show: (names: readonly string[]) => void; ttl?: number },
): Promise<Presence> {
  const { name, show, ttl = 5 } = options;
  const room = store.namespace(`presence/${options.room}/`);
  const session = await openSession(room, { ttl });
  await room.put(session.name, name, { lease: session.lease });
  const live = new LiveRange(room, { all: true });
  const showing = (async () => {
    for await (const entries of live) {
      show([...entries.values()].map((entry) => entry.value).sort());
    }
  })();
  return {
    async leave() {
      live.close();
      await showing;
      await session.close();
    },
  };
}
