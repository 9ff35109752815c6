/**
 * WebSockets of etcd's JSON gateway at the edge in workerd: who may open one, what passes, and what
 * a client hears when its peer dies. The calls themselves are `api.test.ts`'s.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { ClientOptions } from "ws";
import { startQuorate } from "../support/cluster.ts";
import type { Cluster } from "../support/cluster.ts";
import { base64 } from "../support/json-api.ts";
import { PATIENT, startWorkerd } from "./edge.ts";
import type { Edge } from "./edge.ts";
import { urlsOf } from "./proxy-suite.ts";

const SECRET = "s3cret";
const LISTED = "https://app.example";

let cluster: Cluster;
let edge: Edge;
let guarded: Edge;

beforeAll(async () => {
  // The edge shows the peers its secret, so that they need the same.
  cluster = await startQuorate({ members: 3, env: { QUORATE_SECRET: SECRET } });
  edge = await startWorkerd(urlsOf(cluster), PATIENT);
  guarded = await startWorkerd(urlsOf(cluster), {
    QUORATE_SECRET: SECRET,
    QUORATE_ORIGINS: LISTED,
    ...PATIENT,
  });
});

afterAll(async () => {
  await Promise.all([edge?.stop(), guarded?.stop()]);
  await cluster?.stop();
});

interface Handshake extends ClientOptions {
  readonly path?: string;
  readonly protocols?: string[];
}

function open(at: Edge, options: Handshake = {}): WebSocket {
  const url = `${(at.url ?? "").replace("http", "ws")}${options.path ?? "/v3/watch"}`;
  const socket = new WebSocket(url, options.protocols ?? [], options);
  socket.on("error", () => undefined);
  return socket;
}

/** How a handshake ends: the subprotocol, or the HTTP status of its refusal. */
function handshake(at: Edge, options: Handshake = {}): Promise<string | number | undefined> {
  const socket = open(at, options);
  return new Promise((resolve) => {
    socket.on("open", () => {
      resolve(socket.protocol);
      socket.terminate();
    });
    socket.on("unexpected-response", (request, response) => {
      resolve(response.statusCode);
      request.destroy();
    });
  });
}

test("without a secret loopback may open one, pages of other origins may not", async () => {
  expect(await handshake(edge)).toBe("");
  expect(await handshake(edge, { origin: edge.url ?? "" })).toBe("");
  expect(await handshake(edge, { origin: "https://evil.example" })).toBe(403);
  expect(await handshake(edge, { headers: { host: "edge.example.com" } })).toBe(403);
});

test("with a secret, whoever shows it: in a header, or as pages can, in the subprotocols", async () => {
  const shown = { headers: { authorization: `Bearer ${SECRET}` } };
  expect(await handshake(guarded)).toBe(401);
  expect(await handshake(guarded, { headers: { authorization: "Bearer s3cres" } })).toBe(401);
  expect(await handshake(guarded, { protocols: ["Bearer", "s3cres"] })).toBe(401);
  expect(await handshake(guarded, shown)).toBe("");
  expect(await handshake(guarded, { protocols: ["Bearer", SECRET] })).toBe("Bearer");
  expect(await handshake(guarded, { ...shown, origin: "https://evil.example" })).toBe(403);
  const page = { protocols: ["Bearer", SECRET], origin: LISTED };
  expect(await handshake(guarded, page)).toBe("Bearer");
});

test("no peer in reach is a plain 503", async () => {
  const alone = await startWorkerd(["http://127.0.0.1:9"], { QUORATE_TIMEOUT_MS: "500" });
  try {
    expect(await handshake(alone)).toBe(503);
  } finally {
    await alone.stop();
  }
});

test("a call with one answer is answered, and its connection closes", async () => {
  const socket = open(edge, { path: "/v3/kv/put" });
  socket.on("open", () => socket.send(JSON.stringify({ key: base64("k"), value: base64("v") })));
  const frames: string[] = [];
  socket.on("message", (data) => frames.push((data as Buffer).toString("utf8")));
  const code = await new Promise((resolve) => socket.on("close", resolve));
  expect(frames.map((frame) => JSON.parse(frame) as unknown)).toMatchObject([
    { header: { revision: expect.stringMatching(/^\d+$/) as unknown } },
  ]);
  expect(code).toBe(1000);
});

test("when its peer dies a watch closes; the next one is taken by a peer that lives", async () => {
  const watch = (): Promise<WebSocket> =>
    new Promise((resolve, reject) => {
      const socket = open(edge);
      socket.on("open", () => {
        socket.send(JSON.stringify({ create_request: { key: base64("w") } }));
      });
      socket.once("message", () => resolve(socket));
      socket.once("close", () => reject(new Error("closed before it was created")));
    });
  const watched = async (): Promise<WebSocket> => {
    let socket: WebSocket | undefined;
    // On a machine that stands still for a while a peer that lives may be passed over, too.
    const tried = async (): Promise<string> => {
      socket = await watch();
      return "created";
    };
    await expect.poll(tried, { timeout: 60_000 }).toBe("created");
    return socket as WebSocket;
  };
  for (const member of cluster.members) {
    const socket = await watched();
    const closed = new Promise<number>((resolve) => socket.on("close", resolve));
    await member.kill();
    // The edge stays with the peer that answered last: it is this one, or the watch goes on.
    const outcome = await Promise.race([
      closed,
      new Promise<string>((resolve) => setTimeout(() => resolve("goes on"), 1000)),
    ]);
    expect([1000, 1006, 1012, "goes on"]).toContain(outcome);
    const next = await watched();
    next.terminate();
    socket.terminate();
    await member.start();
  }
});
