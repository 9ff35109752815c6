/**
 * Attacks on the HTTP/2 server, by name. Each must cost the attacker the stream or the connection
 * while memory, queues and handlers stay bounded, and another client is served meanwhile.
 */
import { connect } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { ERROR, FLAG, FRAME, PREFACE } from "../../../../node-runner/http2/protocol.ts";
import { startEchoServer, type EchoServer } from "../grpc/echo-server.ts";
import {
  CALL,
  GET,
  POST,
  RawClient,
  block,
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
/** Served before, during and after each attack. */
let witness: RawClient;
let witnessId = 1;

beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

async function isServed(): Promise<boolean> {
  const id = witnessId;
  witnessId += 2;
  witness.send(call(id, "Later"));
  return (await witness.grpcStatus(id)) === "0";
}

beforeEach(async () => {
  witness = await RawClient.open(server.port);
  witnessId = 1;
  expect(await isServed()).toBe(true);
});
afterEach(async () => {
  expect(await isServed()).toBe(true);
  witness.close();
});

const NEVER = replaced(CALL, ":path", "/test.Echo/Never");
const reset = (id: number): Buffer => frame(FRAME.rstStream, 0, id, uint32(ERROR.cancel));

/**
 * Sends rounds of frames, in step with the server, until it ends the connection; returns the rounds
 * it took.
 */
async function flood(client: RawClient, round: (number: number) => Buffer, roundsMax = 100) {
  for (let number = 0; number < roundsMax; number += 1) {
    if (client.isClosed || client.of(FRAME.goaway).length > 0) return number;
    client.send(round(number));
    if (!(await isServed())) throw new Error("the other client was not served");
  }
  return roundsMax;
}

function repeated(count: number, part: (number: number) => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, number) => part(number)));
}

describe("resets", () => {
  test("rapid reset (CVE-2023-44487): the connection ends, and every handler is cancelled", async () => {
    const client = await RawClient.open(server.port);
    const before = server.events.cancelled;
    let opened = 0;
    await flood(client, (round) =>
      repeated(100, (number) => {
        const id = 1 + 2 * (round * 100 + number);
        opened += 1;
        const message = data(id, grpcMessage(""), FLAG.endStream);
        return Buffer.concat([headers(id, NEVER), message, reset(id)]);
      }),
    );
    expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
    const served = server.events.cancelled - before;
    expect(served).toBeGreaterThan(0);
    expect(served).toBeLessThanOrEqual(LIMITS.http2ResetsBurst + LIMITS.http2ResetsPerSecond * 10);
    expect(opened).toBeLessThan(10_000);
  });

  test("handlers that outlive their streams still count: a client can't pile them up by resets", async () => {
    await using own = await startEchoServer({ grpc: { callsMax: 50 } });
    const client = await RawClient.open(own.port);
    client.send(
      repeated(60, (number) => {
        const id = 1 + 2 * number;
        const message = data(id, grpcMessage(""), FLAG.endStream);
        return Buffer.concat([headers(id, NEVER), message, reset(id)]);
      }),
    );
    client.send(call(201));
    expect(await client.outcome(201)).toEqual({ kind: "reset", code: ERROR.refusedStream });
    expect(own.events.cancelled).toBe(50);
    client.close();
  });

  test.each<[string, (id: number) => Buffer]>([
    ["a window overflow", (id) => frame(FRAME.windowUpdate, 0, id, uint32(0x7fff_ffff))],
    ["a window increment of 0", (id) => frame(FRAME.windowUpdate, 0, id, uint32(0))],
    ["DATA behind the end", (id) => data(id, "late")],
    ["a PRIORITY of the wrong size", (id) => frame(FRAME.priority, 0, id, Buffer.alloc(4))],
    ["HEADERS behind the end", (id) => headers(id, [["x", "1"]], FLAG.endStream)],
  ])("server-provoked resets (MadeYouReset, CVE-2025-8671) by %s", async (_name, provoke) => {
    const client = await RawClient.open(server.port);
    const before = server.events.cancelled;
    await flood(client, (round) =>
      repeated(100, (number) => {
        const id = 1 + 2 * (round * 100 + number);
        const message = data(id, grpcMessage(""), FLAG.endStream);
        return Buffer.concat([headers(id, NEVER), message, provoke(id)]);
      }),
    );
    expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
    const { http2ResetsBurst, http2ResetsPerSecond } = LIMITS;
    expect(server.events.cancelled - before).toBeLessThan(
      http2ResetsBurst + http2ResetsPerSecond * 10,
    );
  });

  test("refused and malformed requests count too", async () => {
    const client = await RawClient.open(server.port);
    await flood(client, (round) =>
      repeated(200, (number) =>
        headers(1 + 2 * (round * 200 + number), [...GET, ["connection", "close"]], FLAG.endStream),
      ),
    );
    expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
  });
});

describe("headers", () => {
  test("CONTINUATION flood (CVE-2024-27316): endless fragments end the connection early", async () => {
    const client = await RawClient.open(server.port);
    client.send(frame(FRAME.headers, FLAG.endStream, 1, block(GET)));
    const rounds = await flood(client, () => frame(FRAME.continuation, 0, 1, Buffer.alloc(10_000)));
    expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
    expect(rounds).toBeLessThan(10);
  });

  test("CONTINUATION flood of empty fragments (CVE-2019-9518)", async () => {
    const client = await RawClient.open(server.port);
    client.send(frame(FRAME.headers, FLAG.endStream, 1, block(GET)));
    const rounds = await flood(client, () => frame(FRAME.continuation, 0, 1));
    expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
    expect(rounds).toBeLessThan(2 * LIMITS.http2ContinuationsMax);
  });

  test("HPACK bomb (CVE-2016-6581): a list that unfolds is refused, and costs no memory", async () => {
    const client = await RawClient.open(server.port);
    const size = Buffer.of(0x7f, 0xa1, 0x1e);
    const field = Buffer.concat([Buffer.of(0x40, 1, 0x79), size, Buffer.alloc(4000, 0x62)]);
    const request = Buffer.of(0x82, 0x86, 0x84);
    client.send(frame(FRAME.headers, 5, 1, Buffer.concat([request, field])));
    await client.outcome(1);
    const before = process.memoryUsage().heapUsed;
    // 16 000 octets on the wire stand for 64 MB.
    const bomb = Buffer.concat([request, Buffer.alloc(16_000, 0xbe)]);
    for (let id = 3; id < 103; id += 2) client.send(frame(FRAME.headers, 5, id, bomb));
    const last = await client.next(({ type, id }) => type === FRAME.headers && id === 101);
    expect(client.fields(last).get(":status")).toBe("431");
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(64 * 1024 * 1024);
    client.close();
  });

  test("headers of many open streams are bounded together", async () => {
    const client = await RawClient.open(server.port);
    const fat = [...POST, ["x", "y".repeat(15_000)]] as const;
    const count = Math.ceil(LIMITS.http2OpenHeaderBytesMax / 15_000) + 10;
    for (let number = 0; number < count; number += 1) client.send(headers(1 + 2 * number, fat));
    const id = 2 * count - 1;
    expect(await client.outcome(id)).toEqual({ kind: "reset", code: ERROR.refusedStream });
    client.close();
  });
});

describe("frames that carry nothing", () => {
  const ping = frame(FRAME.ping, 0, 0, Buffer.alloc(8));
  test.each<[string, Buffer]>([
    ["ping flood (CVE-2019-9512)", ping],
    ["settings flood (CVE-2019-9515)", settings()],
    ["settings flood with a setting", settings([4, 65_535])],
    ["PRIORITY flood", frame(FRAME.priority, 0, 1, Buffer.alloc(5))],
    ["flood of unknown frames", frame(0x77, 0, 0)],
  ])("%s", async (_name, part) => {
    const client = await RawClient.open(server.port);
    const rounds = await flood(client, () => repeated(100, () => part));
    expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
    expect(rounds).toBeLessThan(50);
  });

  test.each<[string, Buffer]>([
    ["empty DATA flood (CVE-2019-9518)", data(1, "")],
    ["DATA flood of padding only", frame(FRAME.data, FLAG.padded, 1, Buffer.of(0))],
  ])("%s", async (_name, part) => {
    const client = await RawClient.open(server.port);
    client.send(headers(1, CALL));
    const rounds = await flood(client, () => repeated(100, () => part));
    expect(await client.goaway()).toBe(ERROR.enhanceYourCalm);
    expect(rounds).toBeLessThan(50);
  });

  test("a Go client's pings, one for each reply, are no flood", async () => {
    const client = await RawClient.open(server.port);
    const count = 3 * LIMITS.http2PingsBurst;
    for (let number = 0; number < count; number += 1) {
      client.send(call(1 + 2 * number), ping);
      if (number % 100 === 99) await client.grpcStatus(1 + 2 * number);
    }
    expect(await client.grpcStatus(2 * count - 1)).toBe("0");
    expect(client.of(FRAME.goaway)).toHaveLength(0);
    client.close();
  });

  test("a flood by a client that doesn't read its answers stops being read", async () => {
    const socket = connect(server.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.pause();
    socket.write(Buffer.concat([PREFACE, settings()]));
    // Calls with replies of 12 KB each: sockets fill, then the server must stop reading, not queue
    // without end.
    const window = frame(FRAME.windowUpdate, 0, 0, uint32(0x7000_0000));
    socket.write(Buffer.concat([settings([4, 0x7fff_ffff]), window]));
    const body = "x".repeat(12_000);
    const count = 4000;
    server.handled.length = 0;
    for (let number = 0; number < count; number += 1) {
      socket.write(call(1 + 2 * number, "Echo", body));
      if (number % 100 === 0) expect(await isServed()).toBe(true);
    }
    const answered = server.handled.filter((line) => line === "Echo 0").length;
    expect(answered).toBeGreaterThan(0);
    expect(answered).toBeLessThan(count - 500);
    expect(socket.writableLength).toBeGreaterThan(1024 * 1024);
    socket.destroy();
  });
});

describe("slow clients", () => {
  test("zero windows (CVE-2019-9517): replies wait, are bounded, and refuse more work", async () => {
    const client = await RawClient.open(server.port, settings([4, 0]));
    server.events.flowed = 0;
    const flowPath = replaced(CALL, ":path", "/test.Echo/Flow");
    const request = grpcMessage(Buffer.alloc(255, 1));
    // All are open before the first reply waits, so that refusing new streams alone would not help.
    const ids = Array.from({ length: 200 }, (_, number) => 1 + 2 * number);
    client.send(...ids.map((id) => headers(id, flowPath)));
    client.send(...ids.map((id) => data(id, request, FLAG.endStream)));
    await client.settled("asked");
    // Each handler has stopped at its stream's mark; all together stop at the connection's.
    const refused = client.of(FRAME.rstStream).length;
    expect(refused).toBeGreaterThan(100);
    const queued = server.events.flowed * 64 * 1024;
    expect(queued).toBeLessThan(LIMITS.http2ConnectionQueueBytesMax + 200 * 64 * 1024);
    client.close();
  });

  test("a window opened octet by octet (CVE-2019-9511) sends no more frames than it was asked for", async () => {
    const client = await RawClient.open(server.port, settings([4, 0]));
    client.send(call(1, "Echo", "x".repeat(1000)));
    client.send(repeated(500, () => frame(FRAME.windowUpdate, 0, 1, uint32(1))));
    await client.settled("dribble");
    expect(client.of(FRAME.data, 1).length).toBeLessThanOrEqual(500);
    expect(client.dataBytes(1)).toBe(500);
    client.close();
  });

  test("a slow reader's stream pauses its handler, and a reset frees it", async () => {
    const client = await RawClient.open(server.port, settings([4, 100]));
    const closed = server.events.closed;
    const request = grpcMessage(Buffer.alloc(255, 1));
    client.send(
      headers(1, replaced(CALL, ":path", "/test.Echo/Flow")),
      data(1, request, FLAG.endStream),
    );
    await client.settled("waiting");
    expect(client.dataBytes(1)).toBe(100);
    client.send(reset(1));
    await client.settled("reset");
    expect(server.events.closed).toBe(closed + 1);
    client.close();
  });

  test("a slow writer's unfinished messages are counted by what has come, not by what they announce", async () => {
    const client = await RawClient.open(server.port);
    const before = process.memoryUsage().arrayBuffers;
    const announced = Buffer.from([0, 0, 0x1f, 0xff, 0xff, 1, 2, 3]);
    for (let id = 1; id < 2000; id += 2) client.send(headers(id, CALL), data(id, announced));
    await client.settled("begun");
    expect(client.of(FRAME.rstStream)).toHaveLength(0);
    const held = process.memoryUsage().arrayBuffers - before;
    expect(held).toBeLessThan(LIMITS.http2ConnectionHeldBytesMax);
    client.close();
  });

  test("unfinished messages past the connection's share are refused with RESOURCE_EXHAUSTED", async () => {
    const client = await RawClient.open(server.port);
    const part = Buffer.alloc(16_000);
    const begin = Buffer.concat([Buffer.from([0, 0, 0x1f, 0xff, 0xff]), part]);
    const share = LIMITS.http2ConnectionHeldBytesMax / (64 * 1024);
    let id = 1;
    for (let number = 0; number < share + 20; number += 1, id += 2) {
      client.send(headers(id, CALL), data(id, begin));
      if (number % 50 === 0) await client.settled(`${number}`);
    }
    expect(await client.grpcStatus(id - 2)).toBe("8");
    // Resets give the share back.
    for (let open = 1; open < 1800; open += 2) client.send(reset(open));
    const message = grpcMessage(part);
    client.send(headers(id, CALL), data(id, message.subarray(0, 100)));
    client.send(data(id, message.subarray(100), FLAG.endStream));
    expect(await client.grpcStatus(id)).toBe("0");
    client.close();
  });

  test("a frame that never ends holds no more than it has announced", async () => {
    const clients: RawClient[] = [];
    const before = process.memoryUsage().arrayBuffers;
    for (let number = 0; number < 50; number += 1) {
      const client = await RawClient.open(server.port);
      client.send(headers(1, CALL), Buffer.from([0, 0x40, 0, FRAME.data, 0, 0, 0, 0, 1, 0]));
      clients.push(client);
    }
    expect(await isServed()).toBe(true);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50 * 64 * 1024);
    for (const client of clients) client.close();
  });
});
