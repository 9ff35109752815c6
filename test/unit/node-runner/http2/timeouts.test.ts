/** What a connection may leave unfinished, and for how long. The server's sweep is driven by hand. */
import { Socket } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Http2Connection } from "../../../../node-runner/http2/connection.ts";
import { ERROR, FLAG, FRAME, PREFACE } from "../../../../node-runner/http2/protocol.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { startEchoServer, type EchoServer } from "../grpc/echo-server.ts";
import { GET, RawClient, block, call, frame } from "./raw-client.ts";

let server: EchoServer;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  server = await startEchoServer({ http2: { keepaliveSeconds: 30, keepaliveTimeoutSeconds: 20 } });
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  vi.useRealTimers();
});

const HANDSHAKE = LIMITS.http2HandshakeSeconds;

/** Lets the sweep see `seconds` pass. */
function pass(seconds: number): void {
  vi.advanceTimersByTime(seconds * 1000);
}

/** Proves that everything sent on other connections before has been read. */
async function settle(): Promise<void> {
  const other = await RawClient.open(server.port);
  await other.settled("settled");
  other.close();
}

test("a client that sends nothing is disconnected", async () => {
  const client = await RawClient.bare(server.port);
  await settle();
  pass(HANDSHAKE - 1);
  expect(client.isClosed).toBe(false);
  pass(3);
  await client.ended();
});

test("a preface that stops half-way ends the connection", async () => {
  const client = await RawClient.bare(server.port);
  client.send(PREFACE.subarray(0, 10));
  await client.next(({ type }) => type === FRAME.settings);
  pass(HANDSHAKE + 1);
  expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
  await client.ended();
});

test("a header block that stops half-way ends the connection; a quiet one may stay", async () => {
  const client = await RawClient.open(server.port);
  const quiet = await RawClient.open(server.port);
  await client.settled("open");
  pass(HANDSHAKE - 1);
  client.send(frame(FRAME.headers, FLAG.endStream, 1, block(GET)));
  await quiet.settled("quiet");
  await settle();
  pass(HANDSHAKE + 1);
  expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
  quiet.send(call(1));
  expect(await quiet.grpcStatus(1)).toBe("0");
  quiet.close();
});

test("an idle connection is pinged; it stays if it answers and ends if it doesn't", async () => {
  const client = await RawClient.open(server.port);
  await client.settled("open");
  const isPing = ({ type, flags }: { type: number; flags: number }): boolean =>
    type === FRAME.ping && flags === 0;
  pass(30);
  const ping = await client.next(isPing);
  client.send(frame(FRAME.ping, FLAG.ack, 0, ping.payload));
  await client.settled("answered");
  pass(49);
  client.send(call(1));
  expect(await client.grpcStatus(1)).toBe("0");
  expect(client.frames.filter(isPing)).toHaveLength(2);
  pass(50);
  await client.ended();
});

test("a failed connection whose client doesn't close is destroyed", async () => {
  const client = await RawClient.open(server.port);
  client.socket.allowHalfOpen = true;
  client.send(frame(FRAME.data, 0, 0));
  await client.goaway();
  expect(server.server.connectionCount).toBe(1);
  pass(LIMITS.http2LingerSeconds + 1);
  expect(server.server.connectionCount).toBe(0);
  client.close();
});

test("budgets of floods come back with time", async () => {
  const client = await RawClient.open(server.port);
  const pings = Array.from({ length: LIMITS.http2PingsBurst - 10 }, () =>
    frame(FRAME.ping, 0, 0, Buffer.alloc(8)),
  );
  client.send(...pings);
  await client.settled("spent");
  pass(1);
  client.send(...pings.slice(0, LIMITS.http2PingsPerSecond));
  await client.settled("more");
  expect(client.of(FRAME.goaway)).toHaveLength(0);
  client.send(...pings.slice(0, 20));
  expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
});

test("unfinished messages are bounded for all connections together", () => {
  const held = { bytes: 0 };
  const connections = Array.from({ length: 6 }, () => {
    return new Http2Connection(new Socket(), {
      onStream: () => ({ onData() {}, onEnd() {}, onWritable() {}, onReset() {} }),
      onClose() {},
      streamsMax: 1,
      held,
      keepaliveSeconds: 1,
      keepaliveTimeoutSeconds: 1,
    });
  });
  const share = LIMITS.http2ConnectionHeldBytesMax - 1;
  const fitting = Math.floor(LIMITS.http2ServerHeldBytesMax / share);
  const answers = connections.map((connection) => connection.hold(share));
  expect(answers).toEqual(connections.map((_, place) => place < fitting));
  expect(fitting).toBeLessThan(6);
  for (const connection of connections) connection.destroy();
});
