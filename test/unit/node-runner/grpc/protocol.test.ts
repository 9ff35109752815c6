/**
 * gRPC over HTTP/2, octet by octet: framing, content types, timeouts, compression, half-close and
 * the end of calls.
 */
import { deflateSync, gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FLAG, FRAME } from "../../../../node-runner/http2/protocol.ts";
import {
  CALL,
  RawClient,
  call,
  data,
  grpcMessage,
  headers,
  replaced,
  settings,
  type Fields,
} from "../http2/raw-client.ts";
import { startEchoServer, type EchoServer } from "./echo-server.ts";

let server: EchoServer;
let client: RawClient;
let nextId = -1;

beforeAll(async () => {
  server = await startEchoServer();
  client = await RawClient.open(server.port, settings([4, 0x7fff_ffff]));
});
afterAll(async () => {
  client.close();
  await server[Symbol.asyncDispose]();
});

const END = FLAG.endStream;
const path = (method: string): Fields => replaced(CALL, ":path", `/test.Echo/${method}`);

/** Sends one request and returns the reply's status, text, HTTP status and messages' octets. */
async function exchange(fields: Fields, ...frames: ((id: number) => Buffer)[]) {
  nextId += 2;
  const id = nextId;
  client.send(headers(id, fields), ...frames.map((part) => part(id)));
  await client.outcome(id);
  const replies = client.of(FRAME.headers, id).map((frame) => client.fields(frame));
  const body = Buffer.concat(client.of(FRAME.data, id).map(({ payload }) => payload));
  return {
    http: replies[0]?.get(":status"),
    encoding: replies[0]?.get("grpc-encoding"),
    contentType: replies[0]?.get("content-type"),
    code: replies.at(-1)?.get("grpc-status"),
    text: decodeURIComponent(replies.at(-1)?.get("grpc-message") ?? ""),
    replies: replies.length,
    body,
  };
}

const whole = (bytes: Uint8Array | string) => (id: number) => data(id, bytes, END);
const part = (bytes: Uint8Array | string) => (id: number) => data(id, bytes);

function flagged(flag: number, body: Uint8Array): Buffer {
  const message = grpcMessage(body);
  message[0] = flag;
  return message;
}

describe("framing", () => {
  test("a message may be cut anywhere, prefix included", async () => {
    const message = grpcMessage("cut");
    for (let cut = 0; cut <= message.length; cut += 1) {
      const reply = await exchange(
        CALL,
        part(message.subarray(0, cut)),
        part(message.subarray(cut)),
        whole(""),
      );
      expect(reply).toMatchObject({ code: "0", body: message });
    }
  });

  test("each octet in its own frame, for a stream of messages", async () => {
    const messages = Buffer.concat([grpcMessage("a"), grpcMessage(""), grpcMessage("ccc")]);
    const octets = [...messages].map((octet) => part(Buffer.of(octet)));
    expect(await exchange(path("Chat"), ...octets, whole(""))).toMatchObject({
      code: "0",
      body: messages,
    });
  });

  test("a large message is gathered over many frames", async () => {
    const message = grpcMessage(Buffer.alloc(1_000_000, 3));
    const frames: ((id: number) => Buffer)[] = [];
    for (let at = 0; at < message.length; at += 16_000) {
      frames.push(part(message.subarray(at, at + 16_000)));
    }
    expect(await exchange(path("Metadata"), ...frames, whole(""))).toMatchObject({ code: "0" });
  });

  test.each<[string, string, ((id: number) => Buffer)[], string, string]>([
    ["a unary call without a message", "Echo", [whole("")], "13", "unexpected EOF"],
    ["half a message", "Echo", [whole(grpcMessage("abc").subarray(0, 6))], "13", "unexpected EOF"],
    ["half a prefix", "Echo", [whole(Buffer.alloc(3))], "13", "unexpected EOF"],
    [
      "half a message on a stream",
      "Chat",
      [whole(grpcMessage("abc").subarray(0, 6))],
      "13",
      "unexpected EOF",
    ],
    ["a server stream without a request", "Flow", [whole("")], "13", "unexpected EOF"],
    [
      "two requests of a unary call",
      "Echo",
      [whole(Buffer.concat([grpcMessage("a"), grpcMessage("b")]))],
      "13",
      "a unary call has one request",
    ],
    [
      "two requests of a server stream",
      "Flow",
      [whole(Buffer.concat([grpcMessage("a"), grpcMessage("b")]))],
      "13",
      "a server stream has one request",
    ],
    [
      "a message above the limit, at its prefix",
      "Echo",
      [part(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]))],
      "8",
      "grpc: received message larger than max (4294967295 vs. 2097152)",
    ],
    [
      "an unknown flag",
      "Echo",
      [whole(flagged(2, Buffer.of(1)))],
      "13",
      "grpc: received unexpected payload format 2",
    ],
    [
      "a compressed message without an encoding",
      "Echo",
      [whole(flagged(1, gzipSync("x")))],
      "13",
      "grpc: compressed flag set with identity or empty encoding",
    ],
    [
      "a stream's message that can't be decoded",
      "Chat",
      [whole(grpcMessage(Buffer.of(0xff)))],
      "13",
      "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data",
    ],
  ])("%s is an error", async (_name, method, frames, code, text) => {
    expect(await exchange(path(method), ...frames)).toMatchObject({ code, text, http: "200" });
  });
});

describe("headers", () => {
  const message = whole(grpcMessage("hi"));

  test.each([["application/grpc"], ["application/grpc+proto"], ["application/grpc;charset=utf-8"]])(
    "content-type %s is served",
    async (type) => {
      const reply = await exchange(replaced(CALL, "content-type", type), message);
      expect(reply).toMatchObject({ code: "0", contentType: "application/grpc" });
    },
  );

  test("te may be missing", async () => {
    const fields = CALL.filter(([name]) => name !== "te");
    expect(await exchange(fields, message)).toMatchObject({ code: "0" });
  });

  test("a content-type that only begins like gRPC is 415", async () => {
    const reply = await exchange(replaced(CALL, "content-type", "application/grpc-web"), message);
    expect(reply).toMatchObject({
      http: "415",
      code: "3",
      text: 'invalid gRPC request content-type "application/grpc-web"',
    });
  });

  test("another method than POST is 405", async () => {
    expect(await exchange(replaced(CALL, ":method", "PUT"), message)).toMatchObject({
      http: "405",
      code: "13",
    });
  });

  test("a path without a method is malformed", async () => {
    expect(await exchange(replaced(CALL, ":path", "/nothing"), message)).toMatchObject({
      code: "12",
      text: 'malformed method name: "/nothing"',
    });
  });

  test("an encoding that isn't installed is UNIMPLEMENTED with grpc-go's text", async () => {
    expect(await exchange([...CALL, ["grpc-encoding", "snappy"]], message)).toMatchObject({
      code: "12",
      text: 'grpc: Decompressor is not installed for grpc-encoding "snappy"',
    });
  });

  test.each([["10"], ["S"], ["123456789S"], ["-1S"], ["1.5S"], ["10s"], [""]])(
    "a timeout of %j is malformed",
    async (timeout) => {
      const reply = await exchange([...CALL, ["grpc-timeout", timeout]], message);
      expect(reply).toMatchObject({ http: "400", code: "13" });
      expect(reply.text).toContain("malformed grpc-timeout");
    },
  );

  test.each([["99999999H"], ["1M"], ["10S"], ["5000m"], ["9999999u"], ["99999999n"]])(
    "a timeout of %s is long enough for an echo",
    async (timeout) => {
      expect(await exchange([...CALL, ["grpc-timeout", timeout]], message)).toMatchObject({
        code: "0",
      });
    },
  );

  test("a deadline that passes ends the call, whatever the client does", async () => {
    const cancelled = server.events.cancelled;
    const reply = await exchange([...path("Never"), ["grpc-timeout", "20m"]], message);
    expect(reply).toMatchObject({ code: "4", text: "context deadline exceeded", replies: 1 });
    expect(server.events.cancelled).toBe(cancelled + 1);
  });

  test("a stream's deadline ends it behind its messages", async () => {
    const fields: Fields = [...path("Stay"), ["grpc-timeout", "50m"]];
    const reply = await exchange(fields, part(grpcMessage("one")));
    expect(reply).toMatchObject({ code: "4", replies: 2, body: grpcMessage("one") });
  });

  test("an error before any message is one HEADERS frame; behind messages it is trailers", async () => {
    expect(await exchange(path("Refuse"), message)).toMatchObject({ code: "9", replies: 1 });
    const reply = await exchange(
      path("Chat"),
      part(grpcMessage("a")),
      part(flagged(3, Buffer.of())),
    );
    expect(reply).toMatchObject({ code: "13", replies: 2, body: grpcMessage("a") });
  });

  test("grpc-message is percent-encoded and its ends keep their blanks", async () => {
    const reply = await exchange(path("Refuse"), whole(grpcMessage("é%\r\n\u0000 ")));
    expect(reply.text).toBe("refused: é%\r\n\u0000 ");
  });
});

describe("gzip", () => {
  const fields: Fields = [...CALL, ["grpc-encoding", "gzip"]];

  test("a compressed request gets a compressed reply when that is shorter", async () => {
    const body = Buffer.alloc(10_000, "abc");
    const reply = await exchange(fields, whole(flagged(1, gzipSync(body))));
    expect(reply).toMatchObject({ code: "0", encoding: "gzip" });
    expect(reply.body[0]).toBe(1);
    expect(gunzipSync(reply.body.subarray(5)).equals(body)).toBe(true);
  });

  test("a plain message on a gzip call is fine, and a short reply stays plain", async () => {
    const reply = await exchange(fields, whole(grpcMessage("short")));
    expect(reply).toMatchObject({ code: "0", body: grpcMessage("short") });
  });

  test("a bomb is stopped at the limit", async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000));
    const reply = await exchange(fields, ...cut(flagged(1, bomb)));
    expect(reply).toMatchObject({
      code: "8",
      text: "grpc: received message after decompression larger than max 2097152",
    });
  });

  test.each<[string, Buffer]>([
    ["no gzip", Buffer.from("plain")],
    ["deflate", deflateSync("x")],
    ["cut off", gzipSync("some text").subarray(0, 15)],
  ])("a message that is %s is INTERNAL", async (_name, body) => {
    const reply = await exchange(fields, whole(flagged(1, body)));
    expect(reply.code).toBe("13");
    expect(reply.text).toMatch(/^grpc: failed to decompress the received message: /);
  });

  function cut(message: Buffer): ((id: number) => Buffer)[] {
    const frames = [];
    for (let at = 0; at < message.length; at += 16_000) {
      frames.push(part(message.subarray(at, at + 16_000)));
    }
    return [...frames, whole("")];
  }
});

describe("calls and their observer", () => {
  test("a handler that crashes is UNKNOWN, and is reported", async () => {
    server.unexpected.length = 0;
    expect(await exchange(path("Crash"), whole(grpcMessage("")))).toMatchObject({
      code: "2",
      text: "unexpected",
    });
    expect(server.unexpected).toHaveLength(1);
  });

  test("each call is started and handled once, with its octets", async () => {
    const events: string[] = [];
    await using own = await startEchoServer({
      grpc: {
        observer: {
          started: (info) => events.push(`started ${info.service}/${info.method} ${info.type}`),
          handled: (info, { code, seconds }) =>
            events.push(`handled ${info.method} ${code} ${seconds >= 0}`),
          received: (_info, bytes) => events.push(`received ${bytes}`),
          sent: (_info, bytes) => events.push(`sent ${bytes}`),
        },
      },
    });
    const raw = await RawClient.open(own.port);
    raw.send(call(1, "Echo", "four"));
    await raw.grpcStatus(1);
    raw.send(call(3, "Stay", "two"));
    await raw.settled("stay");
    raw.close();
    while (own.server.connectionCount > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(events).toEqual([
      "started test.Echo/Echo unary",
      "received 4",
      "sent 4",
      "handled Echo 0 true",
      "started test.Echo/Stay bidi_stream",
      "received 3",
      "sent 3",
      "handled Stay 1 true",
    ]);
    expect(own.events).toMatchObject({ halfClosed: 1, closed: 1 });
  });

  test("a paused handler gets nothing, and then everything in order", async () => {
    const log: string[] = [];
    await using own = await startEchoServer({
      grpc: {
        services: {
          "test.Pause": {
            Slow: {
              kind: "bidi",
              decode: (bytes) => Buffer.from(bytes).toString(),
              encode: () => Buffer.alloc(0),
              open: (stream) => ({
                receive(text) {
                  log.push(String(text));
                  stream.pause();
                  setImmediate(() => stream.resume());
                },
                halfClose() {
                  log.push("half-closed");
                  stream.end();
                },
                closed: () => log.push("closed"),
              }),
            },
          },
        },
      },
    });
    const raw = await RawClient.open(own.port);
    const sent = Array.from({ length: 50 }, (_, number) => `message ${number}`);
    const bytes = Buffer.concat(sent.map((text) => grpcMessage(text)));
    raw.send(
      headers(1, replaced(CALL, ":path", "/test.Pause/Slow")),
      data(1, bytes.subarray(0, 333)),
      data(1, bytes.subarray(333), END),
    );
    expect(await raw.grpcStatus(1)).toBe("0");
    expect(log).toEqual([...sent, "half-closed", "closed"]);
    raw.close();
  });
});
