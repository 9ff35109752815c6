/** RFC 9113 at streams: states (section 5), and well-formed requests (section 8). */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ERROR, FLAG, FRAME } from "../../../../node-runner/http2/protocol.ts";
import { startEchoServer, type EchoServer } from "../grpc/echo-server.ts";
import {
  CALL,
  GET,
  POST,
  RawClient,
  call,
  data,
  frame,
  grpcMessage,
  headers,
  replaced,
  uint32,
  type Fields,
} from "./raw-client.ts";

let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer({ http2: { streamsMax: 20 } });
});
afterAll(() => server[Symbol.asyncDispose]());

const END = FLAG.endStream;

/** Sends the frames and, on the same connection, a call that must still be served. */
async function streamOutcome(frames: Buffer[], id = 1) {
  const client = await RawClient.open(server.port);
  client.send(...frames);
  const outcome = await client.outcome(id);
  client.send(call(99));
  expect(await client.grpcStatus(99)).toBe("0");
  client.close();
  return outcome;
}

function without(fields: Fields, name: string): Fields {
  return fields.filter(([field]) => field !== name);
}

describe("malformed requests are stream errors (8.1.1)", () => {
  const length = (value: string): Fields => [...POST, ["content-length", value]];
  test.each<[string, Buffer[]]>([
    ["8.2.1 a name in upper case", [headers(1, [...GET, ["X-Upper", "1"]], END)]],
    ["8.2.1 a name with a space", [headers(1, [...GET, ["a b", "1"]], END)]],
    ["8.2.1 an empty name", [headers(1, [...GET, ["", "1"]], END)]],
    ["8.2.1 a name with a colon", [headers(1, [...GET, ["a:b", "1"]], END)]],
    ["8.2.1 NUL in a value", [headers(1, [...GET, ["x", "a\0b"]], END)]],
    ["8.2.1 line breaks in a value", [headers(1, [...GET, ["x", "a\r\nb: c"]], END)]],
    ["8.2.1 white space around a value", [headers(1, [...GET, ["x", " a"]], END)]],
    ["8.2.2 connection", [headers(1, [...GET, ["connection", "close"]], END)]],
    ["8.2.2 keep-alive", [headers(1, [...GET, ["keep-alive", "5"]], END)]],
    ["8.2.2 proxy-connection", [headers(1, [...GET, ["proxy-connection", "close"]], END)]],
    ["8.2.2 transfer-encoding", [headers(1, [...POST, ["transfer-encoding", "chunked"]])]],
    ["8.2.2 upgrade", [headers(1, [...GET, ["upgrade", "h2c"]], END)]],
    ["8.2.2 te other than trailers", [headers(1, [...GET, ["te", "gzip"]], END)]],
    ["8.3 an unknown pseudo-header", [headers(1, [...GET, [":x", "1"]], END)]],
    ["8.3 a response's pseudo-header", [headers(1, [...GET, [":status", "200"]], END)]],
    ["8.3 a pseudo-header behind a field", [headers(1, [["x", "1"], ...GET], END)]],
    ["8.3 a pseudo-header twice", [headers(1, [...GET, [":path", "/"]], END)]],
    ["8.3.1 no :method", [headers(1, without(GET, ":method"), END)]],
    ["8.3.1 no :scheme", [headers(1, without(GET, ":scheme"), END)]],
    ["8.3.1 no :path", [headers(1, without(GET, ":path"), END)]],
    ["8.3.1 an empty :path", [headers(1, replaced(GET, ":path", ""), END)]],
    ["8.3.1 a :path without slash", [headers(1, replaced(GET, ":path", "x"), END)]],
    ["8.3.1 * with another method than OPTIONS", [headers(1, replaced(GET, ":path", "*"), END)]],
    ["8.3.1 a blank in :path", [headers(1, replaced(GET, ":path", "/ HTTP/1.1"), END)]],
    ["8.3.1 a :method that is no token", [headers(1, replaced(GET, ":method", "G T"), END)]],
    ["8.3.1 host that differs from :authority", [headers(1, [...GET, ["host", "other"]], END)]],
    ["8.3.1 host twice", [headers(1, [...GET, ["host", "test"], ["host", "test"]], END)]],
    [
      "8.4 extended CONNECT, which is not offered",
      [headers(1, [[":method", "CONNECT"], [":protocol", "websocket"], ...GET.slice(1)], END)],
    ],
    ["8.5 CONNECT with a path", [headers(1, [[":method", "CONNECT"], ...GET.slice(1)], END)]],
    ["8.1.1 a body shorter than content-length", [headers(1, length("5")), data(1, "abc", END)]],
    ["8.1.1 a body longer than content-length", [headers(1, length("2")), data(1, "abc", END)]],
    ["8.1.1 content-length and no body", [headers(1, length("2"), END)]],
    [
      "8.1.1 two different content-lengths",
      [headers(1, [...length("2"), ["content-length", "3"]]), data(1, "ab", END)],
    ],
    ["8.1.1 a content-length that is no number", [headers(1, length("2,2")), data(1, "ab", END)]],
    ["8.1.1 a negative content-length", [headers(1, length("-1")), data(1, "ab", END)]],
    ["8.1 trailers without END_STREAM", [headers(1, POST), headers(1, [["x", "1"]])]],
    ["8.1 a pseudo-header in trailers", [headers(1, POST), headers(1, [[":path", "/"]], END)]],
    [
      "8.1.1 trailers behind a body shorter than content-length",
      [headers(1, length("5")), data(1, "abc"), headers(1, [["x", "1"]], END)],
    ],
    [
      "6.9 WINDOW_UPDATE by 0 on a stream",
      [headers(1, POST), frame(FRAME.windowUpdate, 0, 1, uint32(0))],
    ],
  ])("%s", async (_name, frames) => {
    expect(await streamOutcome(frames)).toEqual({ kind: "reset", code: ERROR.protocol });
  });
});

describe("well-formed requests", () => {
  test.each<[string, Buffer[]]>([
    ["a GET", [headers(1, GET, END)]],
    [
      "OPTIONS *",
      [
        headers(
          1,
          [
            [":method", "OPTIONS"],
            [":scheme", "https"],
            [":path", "*"],
          ],
          END,
        ),
      ],
    ],
    [
      "8.3.1 host instead of :authority",
      [headers(1, [...without(GET, ":authority"), ["host", "test"]], END)],
    ],
    ["8.3.1 host equal to :authority", [headers(1, [...GET, ["host", "test"]], END)]],
    ["8.3.1 neither host nor :authority", [headers(1, without(GET, ":authority"), END)]],
    [
      "8.1.1 a body as long as content-length",
      [headers(1, [...POST, ["content-length", "3"]]), data(1, "a"), data(1, "bc", END)],
    ],
    [
      "8.1 trailers with END_STREAM",
      [headers(1, POST), data(1, "a"), headers(1, [["x", "1"]], END)],
    ],
    ["8.2.3 cookies in pieces", [headers(1, [...GET, ["cookie", "a=1"], ["cookie", "b=2"]], END)]],
    [
      "6.1 padded DATA",
      [headers(1, POST), frame(FRAME.data, FLAG.padded | END, 1, Buffer.of(2, 0x61, 0, 0))],
    ],
    [
      "6.1 DATA of padding only",
      [headers(1, POST), frame(FRAME.data, FLAG.padded | END, 1, Buffer.of(0))],
    ],
  ])("%s", async (_name, frames) => {
    expect((await streamOutcome(frames)).kind).toBe("ended");
  });

  test("5.1.1 stream numbers may be skipped", async () => {
    expect((await streamOutcome([headers(7, GET, END), headers(71, GET, END)], 71)).kind).toBe(
      "ended",
    );
  });

  test("8.5 CONNECT is understood and not offered", async () => {
    const client = await RawClient.open(server.port);
    client.send(
      headers(1, [
        [":method", "CONNECT"],
        [":authority", "test:1"],
      ]),
    );
    expect(await client.outcome(1)).toMatchObject({ kind: "ended" });
    expect(client.fields(client.of(FRAME.headers, 1)[0] as never).get(":status")).toBe("501");
    client.close();
  });

  test("8.2.3 cookies are joined by semicolons for the handler", async () => {
    const client = await RawClient.open(server.port);
    const fields = replaced(CALL, ":path", "/test.Echo/Metadata");
    client.send(
      headers(1, [...fields, ["token", "a"], ["token", "b"]]),
      data(1, grpcMessage(""), END),
    );
    expect(await client.grpcStatus(1)).toBe("0");
    expect(client.of(FRAME.data, 1)[0]?.payload.subarray(5).toString()).toBe("a, b");
    client.close();
  });
});

describe("stream states (5.1)", () => {
  test("half-closed (remote): DATA is a stream error of type STREAM_CLOSED", async () => {
    const never = replaced(CALL, ":path", "/test.Echo/Never");
    const frames = [headers(1, never), data(1, grpcMessage(""), END), data(1, "late")];
    expect(await streamOutcome(frames)).toEqual({ kind: "reset", code: ERROR.streamClosed });
  });

  test("half-closed (remote): HEADERS are a stream error of type STREAM_CLOSED", async () => {
    const never = replaced(CALL, ":path", "/test.Echo/Never");
    const frames = [
      headers(1, never),
      data(1, grpcMessage(""), END),
      headers(1, [["x", "1"]], END),
    ];
    expect(await streamOutcome(frames)).toEqual({ kind: "reset", code: ERROR.streamClosed });
  });

  test("half-closed (remote): WINDOW_UPDATE, PRIORITY and RST_STREAM are taken", async () => {
    const client = await RawClient.open(server.port);
    const cancelled = server.events.cancelled;
    client.send(
      call(1, "Never"),
      frame(FRAME.windowUpdate, 0, 1, uint32(10)),
      frame(FRAME.priority, 0, 1, Buffer.alloc(5)),
      frame(FRAME.rstStream, 0, 1, uint32(ERROR.cancel)),
    );
    await client.settled("done");
    expect(client.of(FRAME.rstStream)).toHaveLength(0);
    expect(server.events.cancelled).toBe(cancelled + 1);
    client.close();
  });

  test("closed by both: DATA is a stream error of type STREAM_CLOSED", async () => {
    const client = await RawClient.open(server.port);
    client.send(call(1));
    await client.grpcStatus(1);
    client.send(data(1, "late"));
    const reset = await client.next(({ type }) => type === FRAME.rstStream);
    expect(reset.id).toBe(1);
    expect(reset.payload.readUInt32BE()).toBe(ERROR.streamClosed);
    client.close();
  });

  test("closed by both: HEADERS are a connection error of type STREAM_CLOSED", async () => {
    const client = await RawClient.open(server.port);
    client.send(call(1));
    await client.grpcStatus(1);
    client.send(headers(1, GET, END));
    expect(await client.goaway()).toBe(ERROR.streamClosed);
    client.close();
  });

  test("closed by the client's reset: DATA is a stream error of type STREAM_CLOSED", async () => {
    const frames = [headers(1, POST), frame(FRAME.rstStream, 0, 1, uint32(8)), data(1, "late")];
    expect(await streamOutcome(frames)).toEqual({ kind: "reset", code: ERROR.streamClosed });
  });

  test("closed by either: WINDOW_UPDATE, RST_STREAM and PRIORITY are ignored", async () => {
    const client = await RawClient.open(server.port);
    client.send(call(1));
    await client.grpcStatus(1);
    client.send(
      frame(FRAME.windowUpdate, 0, 1, uint32(1)),
      frame(FRAME.rstStream, 0, 1, uint32(8)),
      frame(FRAME.priority, 0, 1, Buffer.alloc(5)),
      call(3),
    );
    expect(await client.grpcStatus(3)).toBe("0");
    expect(client.of(FRAME.rstStream)).toHaveLength(0);
    client.close();
  });

  test("closed by the server's reset: frames under way are ignored, their window returns, headers still count", async () => {
    const client = await RawClient.open(server.port);
    const indexing = Buffer.concat([
      Buffer.of(0x40, 1),
      Buffer.from("x"),
      Buffer.of(1),
      Buffer.from("1"),
    ]);
    client.send(headers(1, [...POST, ["connection", "close"]]), data(1, "late"), data(1, "later"));
    // Late trailers insert a field into the dynamic table, which the next request uses.
    client.send(frame(FRAME.headers, FLAG.endHeaders | END, 1, indexing));
    const get = Buffer.concat([Buffer.of(0x82, 0x86, 0x84, 0xbe)]);
    client.send(frame(FRAME.headers, FLAG.endHeaders | END, 3, get));
    expect((await client.outcome(3)).kind).toBe("ended");
    expect(client.of(FRAME.rstStream)).toHaveLength(1);
    client.close();
  });

  test("5.1.2 streams above SETTINGS_MAX_CONCURRENT_STREAMS are refused, and a closed one makes room", async () => {
    const client = await RawClient.open(server.port);
    for (let id = 1; id <= 39; id += 2) client.send(call(id, "Never"));
    client.send(call(41));
    expect(await client.outcome(41)).toEqual({ kind: "reset", code: ERROR.refusedStream });
    client.send(frame(FRAME.rstStream, 0, 1, uint32(8)), call(43));
    expect(await client.grpcStatus(43)).toBe("0");
    client.close();
  });

  test("6.5.2 the announced limit is the configured one", async () => {
    const client = await RawClient.open(server.port);
    await client.settled("start");
    const announced = client.of(FRAME.settings)[0]?.payload ?? Buffer.alloc(0);
    const pairs = new Map<number, number>();
    for (let at = 0; at < announced.length; at += 6) {
      pairs.set(announced.readUInt16BE(at), announced.readUInt32BE(at + 2));
    }
    expect(pairs.get(3)).toBe(20);
    client.close();
  });

  test("6.3 PRIORITY of four octets is a stream error; on an idle stream it is fine", async () => {
    const client = await RawClient.open(server.port);
    client.send(
      frame(FRAME.priority, 0, 9, Buffer.alloc(5)),
      headers(11, POST),
      frame(FRAME.priority, 0, 11, Buffer.alloc(4)),
    );
    expect(await client.outcome(11)).toEqual({ kind: "reset", code: ERROR.frameSize });
    expect(client.of(FRAME.rstStream)).toHaveLength(1);
    client.close();
  });

  test("8.1 a reply that ends before its request asks the client to stop, without an error", async () => {
    const client = await RawClient.open(server.port);
    client.send(headers(1, replaced(CALL, ":path", "/no.Service/Method")));
    expect(await client.grpcStatus(1)).toBe("12");
    const reset = await client.next(({ type, id }) => type === FRAME.rstStream && id === 1);
    expect(reset.payload.readUInt32BE()).toBe(ERROR.none);
    client.send(data(1, "still sending", END), call(3));
    expect(await client.grpcStatus(3)).toBe("0");
    expect(client.of(FRAME.rstStream)).toHaveLength(1);
    client.close();
  });

  test("10.5.1 a header list above the announced size is answered with 431", async () => {
    const client = await RawClient.open(server.port);
    // Twenty indexed copies of a field of 4000 octets exceed the list, not the block.
    const field = Buffer.concat([
      Buffer.of(0x40, 1),
      Buffer.from("y"),
      Buffer.of(0x7f, 0xa1, 0x1e),
      Buffer.alloc(4000, 0x62),
    ]);
    const bomb = Buffer.concat([Buffer.of(0x82, 0x86, 0x84), field, Buffer.alloc(20, 0xbe)]);
    client.send(frame(FRAME.headers, FLAG.endHeaders | END, 3, bomb));
    const reply = await client.next(({ type, id }) => type === FRAME.headers && id === 3);
    expect(client.fields(reply).get(":status")).toBe("431");
    client.send(call(5));
    expect(await client.grpcStatus(5)).toBe("0");
    client.close();
  });
});
