/**
 * One of several Node processes, of which one does the work: `node elected-worker.ts NAME URL...`.
 * Whoever leads writes down each piece of work with its fencing token, and stops the moment its
 * leadership may be over; when it dies, another takes over where it left off.
 */
import { setTimeout as pause } from "node:timers/promises";
import { Election, connect, json, key, put } from "../../shared/client/index.ts";

const [name = "", ...endpoints] = process.argv.slice(2);
const store = connect({ endpoints }).namespace("elected/");
const election = new Election(store, "leader", { ttl: 2 });

interface Progress {
  readonly done: number;
  readonly by: string;
  readonly token: number;
}
const progress = store.as(json<Progress>());

for (;;) {
  const leadership = await election.campaign(name);
  console.log(`${name} leads with token ${leadership.token}`);
  while (!leadership.signal.aborted) {
    const last = await progress.get("progress");
    const next = { done: (last?.value.done ?? 0) + 1, by: name, token: leadership.token };
    // Only whoever leads writes: the key of its candidacy must be there still.
    await progress.txn({
      if: [key(leadership.key).createRevision.equals(leadership.token)],
      do: [put("progress", next)],
    });
    await pause(50);
  }
}
