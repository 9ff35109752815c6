/**
 * The edge's app on Node with thousands of readers of server-sent events that stop reading, beside
 * some that read: run by `slow-readers.test.ts` as a program, so that its memory is the edge's.
 * Prints one line of JSON, a `SlowReadersReport`.
 */
import { createApp } from "../../worker/app.ts";
import { configOf } from "../../worker/config.ts";
import { EventSourceReader } from "./event-source.ts";

export interface SlowReadersTask {
  readonly peer: string;
  readonly slow: number;
  readonly healthy: number;
  readonly writes: number;
  readonly valueBytes: number;
}

export interface SlowReadersReport {
  /** Memory beyond what the open watches took, at most. */
  readonly grownMib: number;
  /** What the edge held for its readers when all was written, and for how many. */
  readonly heldMib: number;
  readonly waiting: number;
  /** Revisions of the writes, those that each healthy reader saw, and those of some slow ones. */
  readonly written: readonly number[];
  readonly healthy: readonly (readonly number[])[];
  readonly resumed: readonly (readonly number[])[];
}

const WAVE = 100;
const { gc } = globalThis as { gc?: () => void };
const task = JSON.parse(process.env["SLOW_READERS"] ?? "") as SlowReadersTask;
const env = { QUORATE_PEERS: task.peer, QUORATE_TIMEOUT_MS: "60000" };
const app = createApp();

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await app.fetch(new Request(`http://127.0.0.1:8787${path}`, init), env);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response;
}

const watch = (id?: string): Promise<Response> =>
  ask("/watch?prefix=slow/", id === undefined ? {} : { headers: { "last-event-id": id } });

/** A reader that reads no further than to "ready", and stands there. */
interface Stopped {
  readonly body: ReadableStreamDefaultReader<Uint8Array>;
  readonly id: string;
}

async function stopped(): Promise<Stopped> {
  const { body } = await watch();
  if (body === null) throw new Error("a watch has a body");
  const reader = body.getReader();
  let text = "";
  while (!text.includes("event: ready")) {
    const { value } = await reader.read();
    text += new TextDecoder().decode(value);
  }
  return { body: reader, id: /id: (\S+)/.exec(text)?.[1] ?? "" };
}

/** Reads on where it stands, and resumes by id whenever the stream ends. */
async function readOn({ body, id }: Stopped): Promise<number[]> {
  const revisions: number[] = [];
  const rest = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const { done, value } = await body.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
  let lastId = id;
  let events = new EventSourceReader(new Response(rest));
  while (revisions.length < task.writes) {
    // A stream that is cut ends like one that ends.
    const event = await events.next().catch(() => undefined);
    lastId = event?.id ?? lastId;
    if (event?.event === "put") revisions.push(Number(event.data["revision"]));
    if (event === undefined) events = new EventSourceReader(await watch(lastId));
  }
  await events.close();
  return revisions;
}

async function healthyReader(): Promise<{ seen: Promise<number[]> }> {
  const events = new EventSourceReader(await watch());
  await events.take(1);
  const seen = async (): Promise<number[]> => {
    const taken = await events.take(task.writes);
    await events.close();
    return taken.map(({ data }) => Number(data["revision"]));
  };
  return { seen: seen() };
}

const MIB = 1024 * 1024;
const slow: Stopped[] = [];
while (slow.length < task.slow) {
  slow.push(...(await Promise.all(Array.from({ length: WAVE }, stopped))));
}
const healthy = await Promise.all(Array.from({ length: task.healthy }, healthyReader));
gc?.();
const before = process.memoryUsage().rss;
let most = before;
const value = "x".repeat(task.valueBytes);
const written: number[] = [];
for (let each = 0; each < task.writes; each += 1) {
  const answer = await ask(`/kv/slow/${each}`, { method: "PUT", body: value });
  written.push(((await answer.json()) as { revision: number }).revision);
  most = Math.max(most, process.memoryUsage().rss);
}
const seen = await Promise.all(healthy.map((reader) => reader.seen));
most = Math.max(most, process.memoryUsage().rss);
const { readers } = configOf(env);
const { bytes, waiting } = readers;
// The first ones were ended first; the last may have been left alone.
const some = [slow.at(0), slow.at(task.slow / 2), slow.at(-1)].filter((one) => one !== undefined);
const rest = await Promise.all(some.map(readOn));
const report: SlowReadersReport = {
  grownMib: Math.round((most - before) / MIB),
  heldMib: Math.round(bytes / MIB),
  waiting,
  written,
  healthy: seen,
  resumed: rest,
};
console.log(`report ${JSON.stringify(report)} end`);
process.exit(0);
