/** Readers that don't keep up with their watches: bounded memory, the others served, nothing lost. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { attachLink } from "../../node-runner/link/link-door.ts";
import type { LinkDoor } from "../../node-runner/link/link-door.ts";
import { LIMITS } from "../../shared/base/limits.ts";
import { utf8 } from "../../shared/base/bytes.ts";
import { connect } from "../../shared/client/index.ts";
import { encodeCallFrame, joinFrames } from "../../shared/wire/link-codec.ts";
import { LINK_VERSION } from "../../shared/wire/link.ts";
import { createApp } from "../../worker/app.ts";
import { configOf } from "../../worker/config.ts";
import { Child } from "../support/child.ts";
import { PATIENT_CALL } from "../support/in-process-cluster.ts";
import { MemoryServices } from "../support/memory-services.ts";
import { startWorkerd } from "./edge.ts";
import type { Edge } from "./edge.ts";
import { EventSourceReader } from "./event-source.ts";
import type { SentEvent } from "./event-source.ts";
import type { SlowReadersReport, SlowReadersTask } from "./slow-readers-child.ts";

const MIB = 1024 * 1024;
const server = createServer();
const services = new MemoryServices();
let door: LinkDoor | undefined;
let peer: string;
const open: { stop(): unknown }[] = [];
/** Long enough for a machine that is busy with other things. */
const PATIENT = { timeout: 30_000 };

beforeAll(async () => {
  const { clusterId, memberId } = services;
  const rest = { secret: undefined, knowsCallers: false, origins: [] };
  door = attachLink(server, services, { clusterId, memberId, ...rest });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  peer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  door?.close();
  server.closeAllConnections();
  server.close();
});

afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each.stop();
});

async function put(key: string, bytes: number): Promise<number> {
  const value = new Uint8Array(bytes).fill(120);
  const op = { kind: "put", key: utf8(key), value, lease: 0n } as const;
  const rest = { previousKv: false, ignoreValue: false, ignoreLease: false };
  const { header } = await services.kv.put({ ...op, ...rest }, PATIENT_CALL);
  return header.revision;
}

async function startEdge(variables: Record<string, string> = {}): Promise<Edge & { url: string }> {
  const edge = await startWorkerd([peer], variables);
  open.push(edge);
  return { ...edge, url: edge.url ?? "" };
}

test("2000 readers that stop reading: memory stays bounded, others are served, nothing is lost", async () => {
  const task: SlowReadersTask = {
    peer,
    slow: 2000,
    healthy: 10,
    writes: 24,
    valueBytes: 20 * 1024,
  };
  const child = await Child.start({
    command: process.execPath,
    args: ["--expose-gc", "--no-warnings", join(import.meta.dirname, "slow-readers-child.ts")],
    env: { SLOW_READERS: JSON.stringify(task) },
    readyText: " end",
    readyMilliseconds: 200_000,
  });
  const report = JSON.parse(/report (.*) end/.exec(child.log)?.[1] ?? "") as SlowReadersReport;
  await child.ended();
  const { grownMib, heldMib, waiting, written } = report;
  const sentMib = (task.slow * task.writes * task.valueBytes) / MIB;
  console.log(
    `2000 slow readers of ${Math.round(sentMib)} MiB: the edge grew by ${grownMib} MiB, ` +
      `held ${heldMib} MiB for ${waiting} of them`,
  );
  expect(heldMib * MIB).toBeLessThanOrEqual(LIMITS.edgeReadersBytesMax);
  expect(waiting).toBeLessThan(task.slow);
  expect(grownMib).toBeLessThan(sentMib / 4);
  expect(written.length).toBe(task.writes);
  for (const seen of report.healthy) expect(seen).toEqual(written);
  expect(report.resumed).toEqual([written, written, written]);
});

test("a reader of events that stands still is told so, with the place where it goes on", async () => {
  const app = createApp();
  const env = { QUORATE_PEERS: peer, QUORATE_STALL_MS: "300" };
  const watch = async (at: object, id?: string): Promise<EventSourceReader> => {
    const headers = id === undefined ? {} : { "last-event-id": id };
    const request = new Request("http://127.0.0.1:8787/watch?prefix=stands/", { headers });
    return new EventSourceReader(await app.fetch(request, at));
  };
  const reader = await watch(env);
  const [ready] = await reader.take(1);
  const { readers } = configOf(env);
  const revisions: number[] = [];
  for (let each = 0; each < 12; each += 1) revisions.push(await put(`stands/${each}`, 10_000));
  await expect.poll(() => readers.ended, PATIENT).toBe(1);
  // What the stream had in hand when the reader stood still comes out first.
  const heard: SentEvent[] = [];
  for (;;) {
    const event = await reader.next();
    if (event?.event === "put") heard.push(event);
    else {
      const problem = { status: 503, retryable: true, outcome: "none" };
      expect(event).toMatchObject({ event: "error", data: problem });
      expect(event?.id).toBe((heard.at(-1) ?? ready)?.id);
      break;
    }
  }
  expect(await reader.next()).toBeUndefined();
  expect(heard.length).toBeLessThan(revisions.length);
  const from = (heard.at(-1) ?? ready)?.id;
  // With the time that readers usually have: this one may be held up by the machine.
  const again = await watch({ QUORATE_PEERS: peer }, from);
  await again.take(1);
  const rest = await again.take(revisions.length - heard.length);
  expect([...heard, ...rest].map(({ data }) => data["revision"])).toEqual(revisions);
  await again.close();
});

test("a WebSocket that answers no sync is closed with 1013, and resumes by id", async () => {
  const strict = await startEdge({ QUORATE_STALL_MS: "500" });
  // With the time that readers usually have: one may be held up by the machine.
  const usual = await startEdge();
  const listen = (at: { url: string }, id = ""): { messages: Message[]; socket: WebSocket } => {
    const messages: Message[] = [];
    const socket = new WebSocket(`${at.url.replace("http", "ws")}/watch?prefix=still/${id}`);
    open.push({ stop: () => socket.terminate() });
    socket.on("error", () => undefined);
    socket.on("message", (data) => {
      const message = JSON.parse((data as Buffer).toString("utf8")) as Message;
      messages.push(message);
      if (at === usual && message.event === "sync") socket.send(message.id ?? "");
    });
    return { messages, socket };
  };
  const { messages, socket } = listen(strict);
  const closed = new Promise<number>((resolve) => socket.on("close", resolve));
  await expect.poll(() => messages.length, PATIENT).toBeGreaterThan(0);
  const revisions: number[] = [];
  for (let each = 0; each < 12; each += 1) revisions.push(await put(`still/${each}`, 30_000));
  expect(await closed).toBe(1013);
  const seen = messages.filter(({ event }) => event === "put");
  expect(seen.length).toBeLessThan(revisions.length);
  expect(messages.at(-1)).toMatchObject({ event: "error", data: { status: 503, retryable: true } });
  const resumed = listen(usual, `&lastEventId=${seen.at(-1)?.id ?? ""}`);
  const rest = (): Message[] => resumed.messages.filter(({ event }) => event === "put");
  await expect.poll(() => seen.length + rest().length, PATIENT).toBe(revisions.length);
  expect([...seen, ...rest()].map(({ data }) => data?.revision)).toEqual(revisions);
});

interface Message {
  readonly event: string;
  readonly id?: string;
  readonly data?: { readonly revision?: number };
}

test("a link's client that doesn't say what has arrived is closed with 1013, the project's own goes on", async () => {
  const { url } = await startEdge();
  const store = connect({ edge: url });
  open.push({ stop: () => store.close() });
  const watch = store.watch({ prefix: "flood/" });
  await watch.ready;
  // The same link protocol, without the answers.
  const socket = new WebSocket(`${url.replace("http", "ws")}/link`);
  open.push({ stop: () => socket.terminate() });
  let received = 0;
  socket.on("error", () => undefined);
  socket.on("message", (data) => {
    received += (data as Buffer).length;
  });
  const closed = new Promise<number>((resolve) => socket.on("close", resolve));
  const greeting = { kind: "hello", version: LINK_VERSION, role: "client", token: "" } as const;
  const create = { key: utf8("flood/"), rangeEnd: utf8("flood0"), startRevision: 0 };
  const plain = { noPut: false, noDelete: false, previousKv: false, fragment: false, watchId: 0n };
  const opening = [
    greeting,
    { kind: "watchOpen", stream: 1, requireLeader: true },
    { kind: "watchCreate", stream: 1, create: { ...create, ...plain, progressNotify: false } },
  ] as const;
  socket.on("open", () => socket.send(joinFrames(opening.map(encodeCallFrame))));
  await expect.poll(() => received, PATIENT).toBeGreaterThan(0);
  await expect.poll(() => services.openStreams, PATIENT).toBeGreaterThanOrEqual(2);
  const opened = services.calls.filter((call) => call === "watch").length;
  const bytes = MIB;
  const revisions: number[] = [];
  const events = watch[Symbol.asyncIterator]();
  // One by one: the reader that keeps up has room for each.
  while (revisions.length * bytes < LIMITS.edgeReaderBytesMax + 4 * MIB) {
    revisions.push(await put("flood/key", bytes));
    const next = await events.next();
    expect(next.done === true ? undefined : next.value.revision).toBe(revisions.at(-1));
  }
  expect(await closed).toBe(1013);
  expect(received).toBeGreaterThan(LIMITS.edgeReaderBytesMax / 2);
  expect(services.calls.filter((call) => call === "watch").length).toBe(opened);
});
