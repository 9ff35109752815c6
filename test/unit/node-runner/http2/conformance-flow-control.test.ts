/** RFC 9113 section 6.9: windows in both directions, and what happens when they are shut. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ERROR, FLAG, FRAME } from "../../../../node-runner/http2/protocol.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { startEchoServer, type EchoServer } from "../grpc/echo-server.ts";
import {
  CALL,
  POST,
  RawClient,
  call,
  data,
  frame,
  grpcMessage,
  headers,
  replaced,
  settings,
  uint32,
} from "./raw-client.ts";

let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

function windowUpdate(id: number, increment: number): Buffer {
  return frame(FRAME.windowUpdate, 0, id, uint32(increment));
}

/** Sends an echo call in frames of 16 KiB and returns the size of the reply's DATA. */
function largeCall(client: RawClient, id: number, bytes: number): number {
  const body = grpcMessage(Buffer.alloc(bytes, 7));
  client.send(headers(id, CALL));
  for (let at = 0; at < body.length; at += 16_384) {
    const isLast = at + 16_384 >= body.length;
    client.send(data(id, body.subarray(at, at + 16_384), isLast ? FLAG.endStream : 0));
  }
  return body.length;
}

describe("the client's windows", () => {
  test("6.9 a stream's window of 10 octets lets 10 octets through, and the rest after WINDOW_UPDATE", async () => {
    const client = await RawClient.open(server.port, settings([4, 10]));
    const body = "a body that is longer than ten octets";
    client.send(call(1, "Echo", body));
    await client.settled("one");
    expect(client.dataBytes(1)).toBe(10);
    client.send(windowUpdate(1, 5));
    await client.settled("two");
    expect(client.dataBytes(1)).toBe(15);
    client.send(windowUpdate(1, 1000));
    expect(await client.grpcStatus(1)).toBe("0");
    expect(client.dataBytes(1)).toBe(5 + body.length);
    client.close();
  });

  test("6.9.1 the connection's window holds all streams together", async () => {
    const client = await RawClient.open(server.port);
    const total = largeCall(client, 1, 100_000);
    await client.settled("one");
    expect(client.dataBytes(1)).toBe(65_535);
    client.send(call(3));
    await client.settled("two");
    expect(client.dataBytes(3)).toBe(0);
    client.send(windowUpdate(0, 1_000_000), windowUpdate(1, 1_000_000));
    expect(await client.grpcStatus(1)).toBe("0");
    expect(await client.grpcStatus(3)).toBe("0");
    expect(client.dataBytes(1)).toBe(total);
    client.close();
  });

  test("6.9.1 an exhausted stream doesn't hold up another", async () => {
    const client = await RawClient.open(server.port, settings([4, 10]));
    client.send(windowUpdate(0, 1_000_000), call(1, "Echo", "x".repeat(100)), call(3));
    expect(await client.grpcStatus(3)).toBe("0");
    expect(client.dataBytes(1)).toBe(10);
    client.close();
  });

  test("6.9.2 a changed initial window moves open streams, below zero too", async () => {
    const client = await RawClient.open(server.port, settings([4, 20]));
    client.send(call(1, "Echo", "x".repeat(100)));
    await client.settled("one");
    expect(client.dataBytes(1)).toBe(20);
    client.send(settings([4, 5]), windowUpdate(1, 14));
    await client.settled("two");
    expect(client.dataBytes(1)).toBe(20);
    client.send(windowUpdate(1, 2));
    await client.settled("three");
    expect(client.dataBytes(1)).toBe(21);
    client.send(settings([4, 1000]));
    expect(await client.grpcStatus(1)).toBe("0");
    client.close();
  });

  test("6.9.1 a stream's window above 2^31-1 is a stream error", async () => {
    const client = await RawClient.open(server.port);
    client.send(call(1, "Never"), windowUpdate(1, 0x7fff_ffff));
    expect(await client.outcome(1)).toEqual({ kind: "reset", code: ERROR.flowControl });
    client.close();
  });

  test("6.9.2 an initial window that overflows an open stream is a connection error", async () => {
    const client = await RawClient.open(server.port);
    client.send(call(1, "Never"), windowUpdate(1, 0x7fff_0000), settings([4, 0x7fff_ffff]));
    expect(await client.goaway()).toBe(ERROR.flowControl);
    client.close();
  });

  test("6.9 trailers and headers need no window", async () => {
    const client = await RawClient.open(server.port, settings([4, 0]));
    client.send(call(1, "Refuse"));
    expect(await client.grpcStatus(1)).toBe("9");
    client.close();
  });

  test("6.9.1 streams that share a window opened bit by bit all end", async () => {
    const client = await RawClient.open(server.port, settings([4, 1_000_000]));
    const ids = [1, 3, 5, 7];
    const total = ids.reduce((sum, id) => sum + largeCall(client, id, 50_000), 0);
    for (let opened = 65_535; opened < total; opened += 7000) {
      client.send(windowUpdate(0, 7000));
      await client.settled(`${opened}`);
    }
    for (const id of ids) expect(await client.grpcStatus(id)).toBe("0");
    client.close();
  });

  test("4.2 replies come in frames of at most 16 KiB, streams taking turns", async () => {
    const client = await RawClient.open(server.port, settings([4, 1_000_000]));
    largeCall(client, 1, 200_000);
    largeCall(client, 3, 200_000);
    await client.settled("both");
    client.send(windowUpdate(0, 1_000_000));
    await client.grpcStatus(1);
    await client.grpcStatus(3);
    const frames = client.of(FRAME.data);
    expect(Math.max(...frames.map(({ payload }) => payload.length))).toBe(16_384);
    const last = (id: number): number => frames.findLastIndex((frame) => frame.id === id);
    const first = (id: number): number => frames.findIndex((frame) => frame.id === id);
    expect(first(3)).toBeLessThan(last(1));
    client.close();
  });
});

describe("the server's windows", () => {
  test("6.9.1 octets above the stream's window are a stream error", async () => {
    const client = await RawClient.open(server.port);
    // This path's handler never asks for the body, so its window stays as it is.
    const fields = replaced(POST, ":path", "/abort");
    client.send(headers(1, fields));
    const chunk = Buffer.alloc(16_384);
    for (let sent = 0; sent <= LIMITS.http2StreamWindowBytes; sent += chunk.length) {
      client.send(data(1, chunk));
    }
    expect(await client.outcome(1)).toEqual({ kind: "reset", code: ERROR.flowControl });
    client.send(call(3));
    expect(await client.grpcStatus(3)).toBe("0");
    client.close();
  });

  test("6.9.1 octets above the connection's window are a connection error, padding counted", async () => {
    const client = await RawClient.open(server.port);
    const fields = replaced(POST, ":path", "/abort");
    const perStream = LIMITS.http2StreamWindowBytes;
    let id = 1;
    for (let sent = 0; sent <= LIMITS.http2ConnectionWindowBytes; sent += perStream, id += 2) {
      client.send(headers(id, fields));
      for (let at = 0; at < perStream; at += 16_384) client.send(data(id, Buffer.alloc(16_384)));
    }
    expect(await client.goaway()).toBe(ERROR.flowControl);
    client.close();
  });

  test("6.9 consumed octets come back: a body of many windows passes", async () => {
    const client = await RawClient.open(server.port, settings([4, 0x7fff_ffff]));
    client.send(windowUpdate(0, 0x7000_0000));
    for (let round = 0; round < 8; round += 1) {
      const id = 1 + 2 * round;
      largeCall(client, id, 200_000);
      expect(await client.grpcStatus(id)).toBe("0");
    }
    const returned = client
      .of(FRAME.windowUpdate, 0)
      .reduce((sum, { payload }) => sum + payload.readUInt32BE(), 0);
    const initial = LIMITS.http2ConnectionWindowBytes - 65_535;
    expect(returned - initial).toBeGreaterThanOrEqual(LIMITS.http2ConnectionWindowBytes);
    client.close();
  });

  test("6.9 what waited on a stream gives its window back when the stream is reset", async () => {
    const client = await RawClient.open(server.port);
    const fields = replaced(POST, ":path", "/abort");
    const rounds = (3 * LIMITS.http2ConnectionWindowBytes) / 100_000;
    for (let id = 1; id < 2 * rounds; id += 2) {
      client.send(headers(id, fields));
      for (let sent = 0; sent < 100_000; sent += 10_000)
        client.send(data(id, Buffer.alloc(10_000)));
      client.send(frame(FRAME.rstStream, 0, id, uint32(ERROR.cancel)));
      await client.settled(`${id}`);
    }
    client.send(call(99_999));
    expect(await client.grpcStatus(99_999)).toBe("0");
    client.close();
  });

  test("6.9 DATA on a closed stream gives its window back", async () => {
    const client = await RawClient.open(server.port);
    client.send(headers(1, [...CALL, ["connection", "close"]]));
    await client.outcome(1);
    for (let sent = 0; sent < 3 * LIMITS.http2ConnectionWindowBytes; sent += 16_384) {
      client.send(data(1, Buffer.alloc(16_384)));
      if (sent % (16_384 * 16) === 0) await client.settled(`${sent}`);
    }
    client.send(call(3));
    expect(await client.grpcStatus(3)).toBe("0");
    client.close();
  });
});
