/** The gRPC door against grpc-js: an independent client over a real socket. */
import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import type { Client } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEchoServer, type EchoServer } from "./echo-server.ts";
import { chat, echoClient, flow, unary } from "./grpc-js-client.ts";

let server: EchoServer;
let client: Client;

beforeAll(async () => {
  server = await startEchoServer();
  client = echoClient(server.port);
});
afterAll(async () => {
  client.close();
  await server[Symbol.asyncDispose]();
});

/** Waits, turn by turn, for what another process or socket will bring about. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

describe("unary calls", () => {
  test("a reply comes back, from a handler that returns at once and from one that waits", async () => {
    for (const method of ["Echo", "Later"]) {
      const { code, reply } = await unary(client, method, "hello");
      expect(code).toBe(0);
      expect(reply?.toString()).toBe("hello");
    }
  });

  test("an empty message is a message", async () => {
    expect((await unary(client, "Echo", "")).reply).toHaveLength(0);
  });

  test("2000 calls at once on one connection each get their own reply", async () => {
    const texts = Array.from({ length: 2000 }, (_, number) => `call ${number}`);
    const replies = await Promise.all(texts.map((text) => unary(client, "Later", text)));
    expect(replies.map(({ reply }) => reply?.toString())).toEqual(texts);
  });

  test("messages around the frame, the window and the limit pass whole", async () => {
    for (const size of [16_379, 16_380, 65_535, 300_000, 2_097_152]) {
      const request = Buffer.alloc(size, size & 0x7f);
      const { code, reply } = await unary(client, "Echo", request);
      expect(code).toBe(0);
      expect(reply?.equals(request)).toBe(true);
    }
  });

  test("a message above the limit is refused with grpc-go's text", async () => {
    const { code, details } = await unary(client, "Echo", Buffer.alloc(2_097_153));
    expect(code).toBe(8);
    expect(details).toBe("grpc: received message larger than max (2097153 vs. 2097152)");
  });

  test("errors carry code and text, percent-encoded where needed", async () => {
    const { code, details } = await unary(client, "Refuse", "100 % größer\n");
    expect(code).toBe(9);
    expect(details).toBe("refused: 100 % größer\n");
    expect(await unary(client, "Crash", "")).toMatchObject({ code: 2, details: "unexpected" });
    expect(server.unexpected.at(-1)).toBeInstanceOf(TypeError);
  });

  test("unknown services and methods are UNIMPLEMENTED with grpc-go's texts", async () => {
    expect(await unary(client, "/x.Y/Z", "")).toMatchObject({
      code: 12,
      details: "unknown service x.Y",
    });
    expect(await unary(client, "/test.Echo/Nope", "")).toMatchObject({
      code: 12,
      details: "unknown method Nope for service test.Echo",
    });
  });

  test("a message that can't be decoded is INTERNAL with grpc-go's text", async () => {
    expect(await unary(client, "Echo", Uint8Array.of(0xff))).toMatchObject({
      code: 13,
      details: "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data",
    });
  });

  test("metadata reaches the handler", async () => {
    const { reply } = await unary(client, "Metadata", "", { metadata: { token: "secret" } });
    expect(reply?.toString()).toBe("secret");
  });

  test("a deadline ends the call with status 4 and cancels the handler", async () => {
    const before = server.events.cancelled;
    const { code } = await unary(client, "Never", "", { deadline: Date.now() + 50 });
    expect(code).toBe(4);
    await until(() => server.events.cancelled === before + 1);
  });

  test("cancelling by the client is told to the handler, and counts as Canceled once", async () => {
    server.handled.length = 0;
    const closed = server.events.closed;
    // Node's client half-closes before it resets: a method that ends at the half-close would be
    // done by then.
    const call = chat(client, "Stay");
    call.on("error", () => {});
    call.write(Buffer.from("x"));
    await once(call, "data");
    call.cancel();
    await until(() => server.handled.length > 0);
    expect(server.handled).toEqual(["Stay 1"]);
    expect(server.events.closed).toBe(closed + 1);
  });

  test("gzip both ways", async () => {
    const zipping = echoClient(server.port, {
      "grpc.default_compression_algorithm": 2,
      "grpc.use_local_subchannel_pool": 1,
    });
    const request = Buffer.alloc(100_000, "compressible ");
    const { code, reply } = await unary(zipping, "Echo", request);
    zipping.close();
    expect(code).toBe(0);
    expect(reply?.equals(request)).toBe(true);
  });
});

describe("streams", () => {
  test("a bidirectional stream echoes in order and ends after the half-close", async () => {
    const call = chat(client);
    const received: string[] = [];
    call.on("data", (message: Buffer) => received.push(message.toString()));
    const sent = Array.from({ length: 500 }, (_, number) => `message ${number}`);
    for (const text of sent) call.write(Buffer.from(text));
    call.end();
    const [status] = (await once(call, "status")) as [{ code: number }];
    expect(status.code).toBe(0);
    expect(received).toEqual(sent);
  });

  test("a reader that pauses slows the handler down, and still gets everything", async () => {
    const call = flow(client, 200);
    let octets = 0;
    call.pause();
    const before = server.events.drained;
    await unary(client, "Echo", "meanwhile others are served");
    call.on("data", (message: Buffer) => (octets += message.length));
    call.resume();
    const [status] = (await once(call, "status")) as [{ code: number }];
    expect(status.code).toBe(0);
    expect(octets).toBe(200 * 64 * 1024);
    expect(server.events.drained).toBeGreaterThan(before);
  });

  test("large messages both ways on one stream", async () => {
    const call = chat(client);
    const message = Buffer.alloc(1_000_000, 5);
    const received: Buffer[] = [];
    call.on("data", (chunk: Buffer) => received.push(chunk));
    for (let count = 0; count < 5; count += 1) call.write(message);
    call.end();
    await once(call, "status");
    expect(received.map((chunk) => chunk.equals(message))).toEqual([true, true, true, true, true]);
  });
});
