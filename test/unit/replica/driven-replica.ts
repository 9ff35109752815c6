/** A replica on a clock that the test moves, with what the tests ask of it. */
import { MemoryBackend } from "../../../shared/backend/memory-backend.ts";
import type { Backend } from "../../../shared/backend/backend.ts";
import { EMPTY, prefixEnd, textOf, utf8 } from "../../../shared/base/bytes.ts";
import { wholeRange } from "../../../shared/mvcc/types.ts";
import type { RangeQuery } from "../../../shared/mvcc/types.ts";
import type { RangeAnswer, ReadLevel, WatchResponse } from "../../../shared/peer/services.ts";
import { Replica } from "../../../shared/replica/replica.ts";
import type { ReplicaOptions } from "../../../shared/replica/replica.ts";
import { ManualClock } from "../../support/clocks.ts";
import { PATIENT_CALL } from "../../support/in-process-cluster.ts";
import { ScriptedCluster } from "../../support/scripted-cluster.ts";
import { watchRequest } from "../../support/watch-request.ts";

export const PREFIX = "p/";
export const LINEARIZABLE: ReadLevel = { serializable: false };
export const SERIALIZABLE: ReadLevel = { serializable: true };

/** Ends of the range that replicas of these tests follow. */
export const FOLLOWED = { key: utf8(PREFIX), rangeEnd: prefixEnd(utf8(PREFIX)) as Uint8Array };

let incarnations = 1n;

export interface Driven {
  readonly clock: ManualClock;
  readonly cluster: ScriptedCluster;
  readonly backend: Backend;
  readonly replica: Replica;
  /** What it told its host as fatal. */
  readonly fatal: unknown[];
  readonly reports: string[];
  /** Milliseconds that the wall clock is apart from the test's. */
  clockOffset: number;
}

/** Starts one; `until` it is copied unless the cluster is held or down. */
export function startReplica(parts: Partial<ReplicaOptions> & Partial<Driven> = {}): Driven {
  const { clock = new ManualClock(), cluster = new ScriptedCluster() } = parts;
  const backend = parts.backend ?? new MemoryBackend();
  const fatal: unknown[] = [];
  const reports: string[] = [];
  const driven = { clock, cluster, backend, fatal, reports, clockOffset: 0 } as {
    -readonly [Name in keyof Driven]: Driven[Name];
  };
  driven.replica = new Replica({
    ...FOLLOWED,
    backend,
    host: {
      now: () => clock.now() + driven.clockOffset,
      random: () => 0.5,
      schedule: (milliseconds, callback) => clock.schedule(milliseconds, callback),
      defer: (callback) => clock.defer(callback),
      report: (_level, message, fields) => reports.push(`${message} ${JSON.stringify(fields)}`),
    },
    timing: { askMilliseconds: 5000, silenceMillisecondsMax: 15_000, noteMilliseconds: 30_000 },
    incarnation: incarnations++,
    openSource: parts.openSource ?? ((welcomed) => cluster.openSource(welcomed)),
    fatal: (error) => fatal.push(error),
    ...(parts.historyEvents === undefined ? {} : { historyEvents: parts.historyEvents }),
  });
  driven.replica.start();
  return driven;
}

/** Until it has all that the cluster has. */
export async function caughtUp({ clock, replica, cluster }: Driven): Promise<void> {
  await clock.until(() => replica.status.state === "following");
  const reached = read({ replica }, {}, LINEARIZABLE);
  let done = false;
  void reached.then(
    () => (done = true),
    () => (done = true),
  );
  await clock.until(() => done);
  await reached;
  if (replica.status.revision < cluster.store.revision) throw new Error("not caught up");
}

export function read(
  { replica }: Pick<Driven, "replica">,
  query: Partial<RangeQuery> = {},
  level: ReadLevel = SERIALIZABLE,
  timeoutMilliseconds?: number,
): Promise<RangeAnswer> {
  const call = { ...PATIENT_CALL, timeoutMilliseconds };
  const { key, rangeEnd } = FOLLOWED;
  return replica.services.kv.range({ ...wholeRange(key, rangeEnd), ...query }, level, call);
}

export function point(key: string): Pick<RangeQuery, "key" | "rangeEnd"> {
  return { key: utf8(key), rangeEnd: EMPTY };
}

/** What the answer says of keys: "key=value@modRevision". */
export function shown({ kvs }: Pick<RangeAnswer, "kvs">): string[] {
  return kvs.map(({ key, value, modRevision }) => `${textOf(key)}=${textOf(value)}@${modRevision}`);
}

/** The settled result of a promise that time must drive. */
export async function driven<Value>(clock: ManualClock, promise: Promise<Value>): Promise<Value> {
  let isDone = false;
  const settled = (): void => {
    isDone = true;
  };
  promise.then(settled, settled);
  await clock.until(() => isDone);
  return promise;
}

/** A watcher of the replica, with what it was sent. */
export class Watching {
  readonly events: string[] = [];
  readonly revisions: number[] = [];
  compactedAt: number | undefined;
  endedBy: string | undefined;
  isFull = false;
  readonly #stream;

  constructor({ replica }: Driven, startRevision = 0, range = FOLLOWED) {
    this.#stream = replica.services.watch.open(
      {
        send: (response) => this.#take(response),
        end: (error) => {
          this.endedBy = error.message;
        },
      },
      PATIENT_CALL,
    );
    this.#stream.create(watchRequest({ ...range, startRevision }));
  }

  resume(): void {
    this.isFull = false;
    this.#stream.resume();
  }

  close(): void {
    this.#stream.close();
  }

  #take(response: WatchResponse): boolean {
    if (response.canceled) this.compactedAt = response.compactRevision;
    for (const { type, kv } of response.events) {
      const value = type === "put" ? `=${textOf(kv.value)}` : " deleted";
      this.events.push(`${textOf(kv.key)}${value}@${kv.modRevision}`);
      this.revisions.push(kv.modRevision);
    }
    return !this.isFull;
  }
}
