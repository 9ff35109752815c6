/**
 * RFC 9113 at the connection: preface, frame sizes, SETTINGS, PING, GOAWAY and header blocks in
 * several frames.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ERROR, FLAG, FRAME, PREFACE } from "../../../../node-runner/http2/protocol.ts";
import { startEchoServer, type EchoServer } from "../grpc/echo-server.ts";
import {
  GET,
  RawClient,
  block,
  call,
  data,
  frame,
  headers,
  settings,
  uint32,
} from "./raw-client.ts";

let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

describe("connection errors", () => {
  const { protocol, frameSize, flowControl, compression, enhanceYourCalm } = ERROR;
  const wholeBlock = block(GET);
  const eight = Buffer.alloc(8);
  test.each<[string, number, Buffer[]]>([
    ["4.2 a frame above SETTINGS_MAX_FRAME_SIZE", frameSize, [data(1, Buffer.alloc(16_385))]],
    ["4.2 an oversized SETTINGS", frameSize, [frame(FRAME.settings, 0, 0, Buffer.alloc(16_386))]],
    [
      "4.3 a header block that doesn't decode",
      compression,
      [frame(FRAME.headers, 5, 1, Buffer.of(0xbe))],
    ],
    [
      "4.3 a header block interrupted by another stream's frame",
      protocol,
      [frame(FRAME.headers, 1, 1, wholeBlock), frame(FRAME.priority, 0, 3, Buffer.alloc(5))],
    ],
    [
      "4.3 a header block interrupted by an unknown frame",
      protocol,
      [frame(FRAME.headers, 1, 1, wholeBlock), frame(0x16, 0, 1)],
    ],
    [
      "6.10 CONTINUATION on another stream",
      protocol,
      [frame(FRAME.headers, 1, 1, wholeBlock), frame(FRAME.continuation, 4, 3)],
    ],
    ["6.10 CONTINUATION without HEADERS", protocol, [frame(FRAME.continuation, 4, 1, wholeBlock)]],
    [
      "6.10 CONTINUATION behind a complete block",
      protocol,
      [headers(1, GET), frame(FRAME.continuation, 4, 1)],
    ],
    [
      "6.10 a DATA frame within a header block",
      protocol,
      [frame(FRAME.headers, 0, 1, wholeBlock), data(1, "x")],
    ],
    ["6.2 HEADERS on stream 0", protocol, [headers(0, GET, 1)]],
    ["5.1.1 HEADERS on an even stream", protocol, [headers(2, GET, 1)]],
    [
      "6.2 padding longer than the frame",
      protocol,
      [frame(FRAME.headers, 0xd, 1, Buffer.of(200, 1))],
    ],
    ["6.2 padding flag without its octet", protocol, [frame(FRAME.headers, 0xd, 1)]],
    ["6.1 DATA on stream 0", protocol, [data(0, "x")]],
    [
      "6.1 padding longer than the payload",
      protocol,
      [headers(1, GET), frame(FRAME.data, FLAG.padded, 1, Buffer.of(2, 0))],
    ],
    ["6.3 PRIORITY on stream 0", protocol, [frame(FRAME.priority, 0, 0, Buffer.alloc(5))]],
    ["6.4 RST_STREAM on stream 0", protocol, [frame(FRAME.rstStream, 0, 0, uint32(8))]],
    ["6.4 RST_STREAM on an idle stream", protocol, [frame(FRAME.rstStream, 0, 1, uint32(8))]],
    [
      "6.4 RST_STREAM of five octets",
      frameSize,
      [headers(1, GET), frame(FRAME.rstStream, 0, 1, Buffer.alloc(5))],
    ],
    ["6.5 SETTINGS on a stream", protocol, [frame(FRAME.settings, 0, 1)]],
    [
      "6.5 a SETTINGS ack with a payload",
      frameSize,
      [frame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(6))],
    ],
    [
      "6.5 SETTINGS that is no multiple of six",
      frameSize,
      [frame(FRAME.settings, 0, 0, Buffer.alloc(7))],
    ],
    ["6.5.2 ENABLE_PUSH of 2", protocol, [settings([2, 2])]],
    ["6.5.2 INITIAL_WINDOW_SIZE above 2^31-1", flowControl, [settings([4, 0x8000_0000])]],
    ["6.5.2 MAX_FRAME_SIZE below 2^14", protocol, [settings([5, 16_383])]],
    ["6.5.2 MAX_FRAME_SIZE above 2^24-1", protocol, [settings([5, 0x100_0000])]],
    ["6.6 PUSH_PROMISE by a client", protocol, [frame(FRAME.pushPromise, 4, 1, Buffer.alloc(4))]],
    ["6.7 PING on a stream", protocol, [frame(FRAME.ping, 0, 1, eight)]],
    ["6.7 PING of seven octets", frameSize, [frame(FRAME.ping, 0, 0, eight.subarray(1))]],
    ["6.8 GOAWAY on a stream", protocol, [frame(FRAME.goaway, 0, 1, eight)]],
    ["6.8 GOAWAY that is too short", frameSize, [frame(FRAME.goaway, 0, 0, uint32(0))]],
    [
      "6.9 WINDOW_UPDATE of three octets",
      frameSize,
      [frame(FRAME.windowUpdate, 0, 0, Buffer.alloc(3))],
    ],
    [
      "6.9 WINDOW_UPDATE by 0 on the connection",
      protocol,
      [frame(FRAME.windowUpdate, 0, 0, uint32(0))],
    ],
    ["6.9 WINDOW_UPDATE on an idle stream", protocol, [frame(FRAME.windowUpdate, 0, 1, uint32(1))]],
    [
      "6.9.1 a connection window above 2^31-1",
      flowControl,
      [frame(FRAME.windowUpdate, 0, 0, uint32(0x7fff_ffff))],
    ],
    ["5.1 DATA on an idle stream", protocol, [data(1, "x")]],
    [
      "5.1.1 a stream below one that was opened",
      ERROR.streamClosed,
      [headers(5, GET, 1), headers(3, GET, 1)],
    ],
    [
      "10.5.1 a header block in too many frames",
      enhanceYourCalm,
      [
        frame(FRAME.headers, 0, 1, wholeBlock),
        ...Array.from({ length: 40 }, () => frame(FRAME.continuation, 0, 1)),
      ],
    ],
  ])("%s", async (_name, code, frames) => {
    const client = await RawClient.open(server.port);
    client.send(...frames);
    expect(await client.goaway()).toBe(code);
    await client.ended();
  });

  test("3.4 the first frame must be SETTINGS", async () => {
    const client = await RawClient.open(server.port, frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    expect(await client.goaway()).toBe(ERROR.protocol);
    await client.ended();
  });

  test("3.4 a first SETTINGS that is an ack doesn't count", async () => {
    const client = await RawClient.open(server.port, frame(FRAME.settings, FLAG.ack, 0));
    expect(await client.goaway()).toBe(ERROR.protocol);
    client.close();
  });

  test("3.4 a preface that goes wrong ends the connection", async () => {
    const client = await RawClient.bare(server.port);
    client.send(Buffer.from("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), settings());
    expect(await client.goaway()).toBe(ERROR.protocol);
    await client.ended();
  });
});

describe("what a server answers", () => {
  test("3.4 its preface is SETTINGS, sent first", async () => {
    const client = await RawClient.open(server.port);
    await client.settled("preface");
    expect(client.frames[0]).toMatchObject({ type: FRAME.settings, flags: 0, id: 0 });
    client.close();
  });

  test("3.4 a preface that comes octet by octet is understood, and so are frames", async () => {
    const client = await RawClient.bare(server.port);
    client.socket.setNoDelay(true);
    for (const octet of Buffer.concat([PREFACE, settings(), call(1)])) {
      client.send(Buffer.of(octet));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await client.grpcStatus(1)).toBe("0");
    client.close();
  });

  test("6.5.3 each SETTINGS is acknowledged", async () => {
    const client = await RawClient.open(server.port);
    client.send(settings([3, 100]), settings([4, 70_000]), settings([0x99, 7]));
    await client.settled("settings");
    const acks = client.of(FRAME.settings).filter(({ flags }) => flags === FLAG.ack);
    expect(acks).toHaveLength(4);
    expect(acks.every(({ payload }) => payload.length === 0)).toBe(true);
    client.close();
  });

  test("6.7 a PING is answered with its octets; an ack is not answered", async () => {
    const client = await RawClient.open(server.port);
    client.send(frame(FRAME.ping, FLAG.ack, 0, Buffer.from("unasked!")));
    client.send(frame(FRAME.ping, 0, 0, Buffer.from("01234567")));
    await client.settled("end");
    expect(client.of(FRAME.ping).map(({ payload }) => payload.toString())).toEqual([
      "01234567",
      "end     ",
    ]);
    client.close();
  });

  test("4.1 reserved bits, unknown flags and 5.5 unknown frame types are ignored", async () => {
    const client = await RawClient.open(server.port);
    const ping = frame(FRAME.ping, 0xfe, 0, Buffer.from("flagged!"));
    ping[5] = 0x80;
    client.send(frame(0x42, 0xff, 0, Buffer.from("?")), frame(0xaa, 0, 7), ping, call(1));
    expect(await client.grpcStatus(1)).toBe("0");
    expect(client.of(FRAME.ping)).toHaveLength(1);
    client.close();
  });

  test("6.8 a client's GOAWAY leaves its streams alone", async () => {
    const client = await RawClient.open(server.port);
    client.send(frame(FRAME.goaway, 0, 0, Buffer.alloc(8)), call(1));
    expect(await client.grpcStatus(1)).toBe("0");
    client.close();
  });

  test("4.3 a header block may come in several frames, empty ones included", async () => {
    const client = await RawClient.open(server.port);
    const whole = block([
      [":method", "GET"],
      [":scheme", "http"],
      [":path", "/cut"],
    ]);
    client.send(
      frame(FRAME.headers, FLAG.endStream, 1, whole.subarray(0, 7)),
      frame(FRAME.continuation, 0, 1),
      frame(FRAME.continuation, 0, 1, whole.subarray(7, 20)),
      frame(FRAME.continuation, FLAG.endHeaders, 1, whole.subarray(20)),
    );
    expect(await client.outcome(1)).toMatchObject({ kind: "ended" });
    expect(client.of(FRAME.data, 1)[0]?.payload.toString()).toContain("GET /cut");
    client.close();
  });

  test("6.2 padded HEADERS with a priority are understood", async () => {
    const client = await RawClient.open(server.port);
    const payload = Buffer.concat([Buffer.of(3), Buffer.alloc(5), block(GET), Buffer.alloc(3)]);
    client.send(frame(FRAME.headers, 0x2d, 1, payload));
    expect(await client.outcome(1)).toMatchObject({ kind: "ended" });
    client.close();
  });

  test("7541 4.2 a client that shrinks its header table gets decodable replies, before and after", async () => {
    const client = await RawClient.open(server.port);
    client.send(call(1), call(3));
    expect(await client.grpcStatus(3)).toBe("0");
    client.send(settings([1, 0]), call(5), settings([1, 4096]), call(7));
    expect(await client.grpcStatus(5)).toBe("0");
    expect(await client.grpcStatus(7)).toBe("0");
    client.close();
  });
});
