/** node-runner/link: WebSocket and POST on a real server, with what must not get in. */
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { attachLink } from "../../../node-runner/link/link-door.ts";
import type { LinkDoor, LinkDoorOptions } from "../../../node-runner/link/link-door.ts";
import { LIMITS } from "../../../shared/base/limits.ts";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../../../shared/wire/link-codec.ts";
import type { LinkCallFrame } from "../../../shared/wire/link.ts";
import { MemoryServices } from "../../support/memory-services.ts";

const hello = (token = ""): LinkCallFrame => ({ kind: "hello", version: 1, role: "client", token });
const status: LinkCallFrame = {
  kind: "call",
  id: 1,
  timeoutMilliseconds: 0,
  requireLeader: false,
  request: { method: "status" },
};
const batchOf = (...frames: LinkCallFrame[]) => joinFrames(frames.map(encodeCallFrame));

let server: Server;
let door: LinkDoor;
let port: number;

async function listen(options: Partial<LinkDoorOptions> = {}): Promise<void> {
  server = createServer();
  door = attachLink(server, new MemoryServices(), {
    clusterId: 1n,
    memberId: 2n,
    secret: undefined,
    knowsCallers: false,
    origins: ["https://app.example"],
    ...options,
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
}

beforeEach(() => listen());
afterEach(async () => {
  door.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const post = (body: string | Uint8Array, headers: Record<string, string> = {}) =>
  fetch(`http://127.0.0.1:${port}/link`, {
    method: "POST",
    body: typeof body === "string" ? body : Uint8Array.from(body),
    headers: { "content-type": "application/cbor", ...headers },
  });

/** What a WebSocket handshake ends in: "open", or the refusal's HTTP status. */
function handshake(headers: Record<string, string>): Promise<string | number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/link`, { headers });
    socket.on("open", () => {
      resolve("open");
      socket.terminate();
    });
    socket.on("unexpected-response", (_request, response) => resolve(response.statusCode ?? 0));
    socket.on("error", (error) => reject(error));
  });
}

test("a POST of one batch is answered with one batch", async () => {
  const response = await post(batchOf(hello(), status));
  expect(response.status).toBe(200);
  const frames = decodeReplyBatch(new Uint8Array(await response.arrayBuffer()));
  expect(frames.map((frame) => frame.kind)).toEqual(["welcome", "result"]);
});

test("a WebSocket carries frames, and text or broken frames close it alone", async () => {
  const closeOf = async (message: string | Uint8Array): Promise<number> => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/link`);
    await new Promise((resolve) => socket.on("open", resolve));
    socket.send(message);
    return new Promise((resolve) => socket.on("close", resolve));
  };
  expect(await closeOf("text")).toBe(1002);
  expect(await closeOf(Uint8Array.of(0xff))).toBe(1002);
  expect(await closeOf(new Uint8Array(LIMITS.frameBytesMax + 1))).toBe(1009);
  expect((await post(batchOf(hello(), status))).status).toBe(200);
});

test("raw bytes that break the WebSocket protocol cut that connection alone", async () => {
  const socket = connect(port, "127.0.0.1");
  socket.write(
    "GET /link HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  await new Promise((resolve) => socket.once("data", resolve));
  socket.write(Uint8Array.of(0xf2, 0x01, 0xff));
  await new Promise((resolve) => socket.once("close", resolve));
  expect((await post(batchOf(hello(), status))).status).toBe(200);
});

test.each([
  ["an origin that is not listed", { origin: "https://evil.example" }, 403],
  [
    "a name that was rebound to loopback",
    { host: "evil.example", origin: "http://evil.example" },
    403,
  ],
  ["a listed origin", { origin: "https://app.example" }, "open"],
  ["no origin", {}, "open"],
])("an upgrade with %s ends in %o", async (_name, headers, outcome) => {
  expect(await handshake(headers as Record<string, string>)).toBe(outcome);
});

test.each([
  ["no CBOR", () => post("zzz"), 400],
  ["another content type", () => post("x", { "content-type": "text/plain" }), 415],
  ["too large a body", () => post(new Uint8Array(LIMITS.frameBytesMax + 1)), 413],
  ["GET", () => fetch(`http://127.0.0.1:${port}/link`), 405],
  ["a foreign origin", () => post("x", { origin: "https://evil.example" }), 403],
])("%s is refused with problem JSON", async (_name, ask, code) => {
  const response = await ask();
  expect(response.status).toBe(code);
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  const problem = (await response.json()) as { title: string };
  expect(problem.title).not.toBe("");
});

test("with a secret, the hello must show it", async () => {
  door.close();
  server.close();
  await listen({ secret: "open sesame" });
  const kinds = async (token: string) => {
    const response = await post(batchOf(hello(token), status));
    return decodeReplyBatch(new Uint8Array(await response.arrayBuffer())).map(({ kind }) => kind);
  };
  expect(await kinds("open sesame")).toEqual(["welcome", "result"]);
  expect(await kinds("wrong")).toEqual(["bye"]);
});
