/**
 * Watch fan-out: N watchers of one key, and one writer that puts it again once every watcher has heard of its last put.
 * A call is the delivery of one event to one watcher; its time counts from the put. Each watcher must hear of each put
 * once, in order.
 */
import { GrpcConnection, type Call } from "./grpc-connection.ts";
import {
  eventRevisions,
  KEY_OFFSET,
  putTemplate,
  revisionOfReply,
  VALUE_BYTES,
  watchRequest,
  writeKey,
} from "./messages.ts";
import { Run, type LoadResult, type Window } from "./run.ts";

export interface WatchLoadOptions extends Window {
  readonly addresses: readonly string[];
  /** Watchers, each with a stream of its own. */
  readonly clients: number;
  readonly connections: number;
  readonly seed: number;
}

/** One put and how many have heard of it. */
class Round {
  startedAt = 0;
  number = 0;
  heard = 0;
  answered = false;
}

class Watcher implements Call {
  readonly path = "/etcdserverpb.Watch/Watch";
  readonly message: Buffer;
  readonly unary = false;
  readonly #run: Run;
  readonly #round: Round;
  readonly #next: () => void;
  #created = false;
  #events = 0;
  #lastRevision = 0;

  constructor(run: Run, round: Round, key: Uint8Array, next: () => void) {
    this.#run = run;
    this.#round = round;
    this.#next = next;
    this.message = watchRequest(key);
  }

  onMessage(source: Buffer, start: number, end: number): void {
    const round = this.#round;
    const revisions = eventRevisions(source, start, end);
    if (!this.#created) {
      this.#created = true;
      if (revisions.length > 0) this.#run.fail("events came before the watch was confirmed");
      round.heard += 1;
      this.#next();
      return;
    }
    for (const revision of revisions) {
      this.#events += 1;
      if (revision <= this.#lastRevision || this.#events !== round.number) {
        this.#run.fail(`event ${this.#events} of revision ${revision} at put ${round.number}`);
      }
      this.#lastRevision = revision;
      round.heard += 1;
      this.#run.done(round.startedAt);
    }
    this.#next();
  }

  onEnd(status: number, text: string): void {
    if (!this.#run.stopping) this.#run.fail(`a watch ended: status ${status} ${text}`);
  }
}

class Writer implements Call {
  readonly path = "/etcdserverpb.KV/Put";
  readonly message: Buffer;
  readonly unary = true;
  readonly #run: Run;
  readonly #round: Round;
  readonly #connection: GrpcConnection;
  readonly #watchers: number;

  constructor(options: {
    run: Run;
    round: Round;
    connection: GrpcConnection;
    message: Buffer;
    watchers: number;
  }) {
    this.message = options.message;
    this.#run = options.run;
    this.#round = options.round;
    this.#connection = options.connection;
    this.#watchers = options.watchers;
  }

  /** Puts again once the last put is answered and heard by all. */
  readonly next = (): void => {
    const round = this.#round;
    if (round.heard < this.#watchers || (round.number > 0 && !round.answered)) return;
    if (this.#run.stopping) return this.#run.clientEnded();
    round.heard = 0;
    round.answered = false;
    round.number += 1;
    round.startedAt = performance.now();
    this.#connection.start(this);
    this.#connection.flush();
  };

  onMessage(source: Buffer, start: number, end: number): void {
    if (revisionOfReply(source, start, end) === 0) this.#run.fail("a put has no revision");
  }

  onEnd(status: number, text: string): void {
    this.#round.answered = true;
    if (status === 0) return this.next();
    this.#run.fail(`a put failed: status ${status} ${text}`);
    this.#run.clientEnded();
  }
}

export async function runWatch(options: WatchLoadOptions): Promise<LoadResult> {
  const { addresses, clients, connections } = options;
  const run = new Run(options);
  const round = new Round();
  const message = putTemplate(new Uint8Array(VALUE_BYTES).fill(7));
  writeKey(message, KEY_OFFSET, options.seed, 0);
  const key = message.subarray(KEY_OFFSET, KEY_OFFSET + 16);
  const writing = await GrpcConnection.open(addresses[0] as string);
  const opened = [writing];
  const ended = new Promise<void>((resolve) => {
    run.finished = resolve;
  });
  run.active = 1;
  const writer = new Writer({ run, round, connection: writing, message, watchers: clients });
  for (let index = 0; index < connections; index += 1) {
    opened.push(await GrpcConnection.open(addresses[index % addresses.length] as string));
  }
  for (let index = 0; index < clients; index += 1) {
    const connection = opened[1 + (index % connections)] as GrpcConnection;
    connection.start(new Watcher(run, round, key, writer.next));
  }
  for (const connection of opened) connection.flush();
  await run.measure(options);
  run.stopping = true;
  await ended;
  for (const connection of opened) connection.close();
  return run.result();
}
