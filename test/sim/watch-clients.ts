/**
 * Watch clients: each follows a span of keys over one stream after the other, on members picked by
 * chance, resuming behind the last revision that it saw, sometimes too full to take more. What it
 * saw must be the history: all of it from where it began, once, in order.
 */
import { utf8 } from "../../shared/base/bytes.ts";
import type { Prng } from "../../shared/base/prng.ts";
import type { WatchCreate, WatchStream } from "../../shared/peer/services.ts";
import type { KeySpan, ObservedEvent } from "./history.ts";
import { inSpan } from "./history.ts";
import { sameEvents } from "./model.ts";
import { ANY_CALL, byRevision, observedEvents, WATCH_ALL } from "./observers.ts";
import type { EventHistory } from "./observers.ts";
import type { SimCluster, SimMember } from "./sim-cluster.ts";

const SPANS: readonly KeySpan[] = [
  { key: "b", end: "e" },
  { key: "c", end: undefined },
  { key: "lease/", end: "lease0" },
];
/** How often the client says that it is full. */
const FULL = 0.1;

export class WatchClient {
  readonly span: KeySpan;
  readonly #cluster: SimCluster;
  readonly #name: string;
  readonly #prng: Prng;
  readonly #seen: ObservedEvent[] = [];
  #next = 1;
  /** Revisions that were compacted before they were seen. */
  readonly #skipped: { readonly from: number; readonly to: number }[] = [];
  #running = true;
  /** Counts the streams: what comes late from an old one is dropped, as by a client that has closed it. */
  #stream = 0;

  constructor(cluster: SimCluster, place: number) {
    this.#cluster = cluster;
    this.#name = `watcher ${place}`;
    this.#prng = cluster.world.prng.fork();
    this.span = SPANS[place % SPANS.length] as KeySpan;
  }

  /** Ends the current stream; `check` may follow. */
  stop(): void {
    this.#running = false;
  }

  async run(): Promise<void> {
    const { world } = this.#cluster;
    while (this.#running) {
      const member = this.#prng.pick(this.#cluster.members);
      const close = this.#follow(member);
      await world.sleep(this.#prng.between(500, 6000));
      close();
    }
  }

  /** Compares what was seen with the history up to the last revision seen. */
  check(history: EventHistory): void {
    const expected: ObservedEvent[] = [];
    const revisions = [...history.events.keys()].sort((a, b) => a - b);
    for (const revision of revisions) {
      if (revision >= this.#next) break;
      if (this.#skipped.some(({ from, to }) => revision >= from && revision <= to)) continue;
      const events = history.events.get(revision) ?? [];
      expected.push(...events.filter(({ kv }) => inSpan(kv.key, this.span)));
    }
    if (sameEvents(expected, this.#seen)) return;
    const at = expected.findIndex((event, place) => {
      const seen = this.#seen[place];
      return seen === undefined || !sameEvents([event], [seen]);
    });
    const where = at < 0 ? "behind the end" : `at revision ${expected[at]?.kv.modRevision}`;
    this.#cluster.world.fail(`${this.#name} saw another history, first ${where}`);
  }

  get eventsSeen(): number {
    return this.#seen.length;
  }

  #follow(member: SimMember): () => void {
    const { world } = this.#cluster;
    const { process } = member;
    this.#stream += 1;
    const own = this.#stream;
    let stream: WatchStream | undefined;
    world.schedule(1, () =>
      process?.enter(() => {
        const { peer } = member;
        if (peer === undefined || member.process !== process || own !== this.#stream) return;
        stream = peer.services.watch.open(
          {
            send: (response) => {
              if (member.process !== process || own !== this.#stream) return true;
              if (response.canceled) {
                this.#compacted(response.compactRevision);
                stream?.create(this.#request());
                return true;
              }
              this.#take(observedEvents(response));
              if (!this.#prng.chance(FULL)) return true;
              process.after(this.#prng.between(1, 300), () => stream?.resume());
              return false;
            },
            end: () => {},
          },
          ANY_CALL,
        );
        stream.create(this.#request());
      }),
    );
    return () => {
      this.#stream += 1;
      process?.enter(() => stream?.close());
    };
  }

  #request(): WatchCreate {
    return {
      ...WATCH_ALL,
      key: utf8(this.span.key),
      rangeEnd: utf8(this.span.end ?? ""),
      startRevision: this.#next,
    };
  }

  #compacted(revision: number): void {
    if (revision < this.#next) {
      const { world } = this.#cluster;
      world.fail(`${this.#name}: cancelled at ${this.#next}, compacted at ${revision}`);
    }
    this.#skipped.push({ from: this.#next, to: revision });
    this.#next = revision + 1;
  }

  #take(events: readonly ObservedEvent[]): void {
    for (const [revision, changes] of byRevision(events)) {
      if (revision < this.#next) {
        this.#cluster.world.fail(`${this.#name}: revision ${revision} came again or out of order`);
      }
      this.#seen.push(...changes);
      this.#next = revision + 1;
    }
  }
}
