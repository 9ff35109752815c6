/**
 * One port for both protocols: prior knowledge, HTTP/1.1, upgrades, TLS with ALPN, and the graceful
 * end.
 */
import { once } from "node:events";
import { Agent, get, request as request1, createServer } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { get as getSecure } from "node:https";
import { connect, createServer as createNetServer, type AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createHttp1Server } from "../../../../node-runner/http2/http1-exchange.ts";
import { ERROR, FLAG, FRAME, readUint32 } from "../../../../node-runner/http2/protocol.ts";
import { startEchoServer, type EchoServer } from "../grpc/echo-server.ts";
import { CERTIFICATE, KEY } from "./certificate.ts";
import { GET, POST, RawClient, call, data, frame, headers, replaced } from "./raw-client.ts";

let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

async function textOf(response: AsyncIterable<unknown>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** Sends octets as they are and returns what comes back until the server closes. */
async function rawText(port: number, ...parts: string[]): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  for (const part of parts) {
    socket.write(part, "latin1");
    await new Promise((resolve) => setImmediate(resolve));
  }
  return textOf(socket);
}

describe("one port", () => {
  test("HTTP/1.1 and HTTP/2 reach the same handler", async () => {
    const post = request1({ port: server.port, path: "/a?b=c", method: "POST" });
    post.end("body");
    const [response] = (await once(post, "response")) as [AsyncIterable<unknown>];
    expect(await textOf(response)).toBe("1.1 POST /a?b=c body");

    const client = await RawClient.open(server.port);
    client.send(headers(1, replaced(POST, ":path", "/a?b=c")), data(1, "body", FLAG.endStream));
    await client.outcome(1);
    const body = client.of(FRAME.data, 1).map(({ payload }) => payload.toString());
    expect(body.join("")).toBe("2.0 POST /a?b=c body");
    client.close();
  });

  test("Node's own HTTP/2 client is served, large replies included", async () => {
    const session = connectHttp2(`http://127.0.0.1:${server.port}`);
    const stream = session.request({ ":path": "/large" });
    expect((await textOf(stream)).length).toBe(1024 * 1024);
    const head = session.request({ ":path": "/x", ":method": "HEAD" });
    expect(await textOf(head)).toBe("");
    session.close();
  });

  test("an HTTP/1.1 request that comes octet by octet is understood", async () => {
    const whole = "PROPFIND /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const octets = whole.split("");
    expect(await rawText(server.port, ...octets)).toContain("1.1 PROPFIND /slow");
  });

  test("requests in a pipeline behind the first are answered in order", async () => {
    const first = "GET /1 HTTP/1.1\r\nhost: x\r\n\r\n";
    const second = "GET /2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const text = await rawText(server.port, first + second);
    expect(text.indexOf("GET /1")).toBeGreaterThan(0);
    expect(text.indexOf("GET /2")).toBeGreaterThan(text.indexOf("GET /1"));
  });

  test("a body above the handler's limit is refused over both protocols", async () => {
    const post = request1({ port: server.port, path: "/", method: "POST" });
    post.end(Buffer.alloc(100_001));
    const [response] = (await once(post, "response")) as [{ statusCode: number; resume(): void }];
    expect(response.statusCode).toBe(413);
    response.resume();
    const session = connectHttp2(`http://127.0.0.1:${server.port}`);
    const stream = session.request({ ":path": "/", ":method": "POST" });
    stream.on("error", () => {});
    stream.end(Buffer.alloc(100_001));
    const [head] = (await once(stream, "response")) as [{ ":status": number }];
    expect(head[":status"]).toBe(413);
    session.destroy();
  });

  test("a WebSocket upgrade reaches the HTTP/1.1 server with its head", async () => {
    const http1 = createServer();
    http1.on("upgrade", (request, socket, head: Buffer) => {
      socket.end(`HTTP/1.1 101 Switching Protocols\r\n\r\n${request.url} ${head.toString()}`);
    });
    await using own = await startEchoServer({ http2: { http1 } });
    const upgrade =
      "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nfirst";
    expect(await rawText(own.port, upgrade)).toContain("/ws first");
  });

  test("the h2c upgrade that RFC 9113 removed is ignored: the request is served as HTTP/1.1", async () => {
    const text = await rawText(
      server.port,
      "GET /up HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings, close\r\n" +
        "upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    expect(text).toContain("200 OK");
    expect(text).toContain("1.1 GET /up");
  });

  test("so it is where WebSockets are taken", async () => {
    const http1 = createHttp1Server((request, response) =>
      response.end(`served ${request.target}`),
    );
    http1.on("upgrade", (_request, socket) =>
      socket.end("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    );
    await using own = await startEchoServer({ http2: { http1 } });
    for (const [upgrade, answer] of [
      ["h2c", "served /up"],
      ["WebSocket", "101 Switching"],
    ]) {
      const head = `GET /up HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, close\r\nupgrade: ${upgrade}\r\n\r\n`;
      expect(await rawText(own.port, head)).toContain(answer);
    }
  });

  test("100-continue is answered over HTTP/2 before the body is awaited", async () => {
    const client = await RawClient.open(server.port);
    client.send(headers(1, [...POST, ["expect", "100-continue"]]));
    const interim = await client.next(({ type, id }) => type === FRAME.headers && id === 1);
    expect(client.fields(interim).get(":status")).toBe("100");
    client.send(data(1, "now", FLAG.endStream));
    expect((await client.outcome(1)).kind).toBe("ended");
    client.close();
  });
});

describe("slow HTTP/1.1", () => {
  test("headers that don't end in time are answered with 408", async () => {
    const http1 = createServer({ headersTimeout: 50, connectionsCheckingInterval: 10 });
    await using own = await startEchoServer({ http2: { http1 } });
    expect(await rawText(own.port, "GET / HTTP/1.1\r\nhost: x\r\n")).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe("h1/h2 smuggling", () => {
  test("an HTTP/2 preface behind an HTTP/1.1 request is no HTTP/2", async () => {
    const text = await rawText(
      server.port,
      "GET /1 HTTP/1.1\r\nhost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    );
    expect(text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(text).not.toMatch(/[^\r\n -~]/);
  });

  test.each([
    [
      "both content-length and transfer-encoding",
      "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ],
    ["two content-lengths", "content-length: 3\r\ncontent-length: 30\r\n\r\nabc"],
    ["a chunked coding that is not last", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"],
    ["a header name with a blank", "content-length : 3\r\n\r\nabc"],
  ])("HTTP/1.1 with %s is refused", async (_name, rest) => {
    const text = await rawText(server.port, `POST / HTTP/1.1\r\nhost: x\r\n${rest}`);
    expect(text).toMatch(/^HTTP\/1\.1 400/);
    expect(text).not.toContain("smuggled");
  });
});

describe("TLS", () => {
  test("ALPN chooses: h2 for gRPC clients, http/1.1 for others", async () => {
    await using secure = await startEchoServer({ tls: { cert: CERTIFICATE, key: KEY } });
    const session = connectHttp2(`https://127.0.0.1:${secure.port}`, { ca: CERTIFICATE });
    expect(await textOf(session.request({ ":path": "/tls" }))).toBe("2.0 GET /tls ");
    session.close();
    const old = getSecure({ port: secure.port, path: "/old", ca: CERTIFICATE, agent: false });
    const [response] = (await once(old, "response")) as [AsyncIterable<unknown>];
    expect(await textOf(response)).toBe("1.1 GET /old ");
  });

  test("a client that speaks plain HTTP to a TLS port is disconnected, and others are served", async () => {
    await using secure = await startEchoServer({ tls: { cert: CERTIFICATE, key: KEY } });
    await rawText(secure.port, "GET / HTTP/1.1\r\n\r\n").catch(() => "");
    const session = connectHttp2(`https://127.0.0.1:${secure.port}`, { ca: CERTIFICATE });
    expect(await textOf(session.request({ ":path": "/x" }))).toBe("2.0 GET /x ");
    session.close();
  });
});

describe("one port with TLS and without", () => {
  const http2 = { takesPlain: true };
  const tls = { cert: CERTIFICATE, key: KEY };

  test("serves HTTP/1.1 and HTTP/2 to both kinds of callers", async () => {
    await using both = await startEchoServer({ tls, http2 });
    for (const [scheme, options] of [
      ["http", {}],
      ["https", { ca: CERTIFICATE }],
    ] as const) {
      const session = connectHttp2(`${scheme}://127.0.0.1:${both.port}`, options);
      expect(await textOf(session.request({ ":path": "/h2" }))).toBe("2.0 GET /h2 ");
      session.close();
    }
    const secure = getSecure({ port: both.port, path: "/s", ca: CERTIFICATE, agent: false });
    const [response] = (await once(secure, "response")) as [AsyncIterable<unknown>];
    expect(await textOf(response)).toBe("1.1 GET /s ");
    const plain = await rawText(
      both.port,
      "GET /p HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    expect(plain).toContain("1.1 GET /p");
  });

  test("takes a handshake that comes octet by octet, and refuses what is none", async () => {
    const refused: string[] = [];
    const onRefused = (_socket: unknown, reason: string): void => void refused.push(reason);
    await using both = await startEchoServer({ tls, http2: { ...http2, onRefused } });
    const proxy = createNetServer((caller) => {
      const server = connect(both.port, "127.0.0.1").setNoDelay(true);
      caller.on("data", (chunk) => {
        for (const octet of chunk) server.write(Buffer.of(octet));
      });
      server.pipe(caller);
      for (const socket of [caller, server]) {
        socket
          .on("error", () => undefined)
          .on("close", () => {
            caller.destroy();
            server.destroy();
          });
      }
    });
    proxy.listen(0, "127.0.0.1");
    await once(proxy, "listening");
    const { port } = proxy.address() as AddressInfo;
    const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: CERTIFICATE });
    expect(await textOf(session.request({ ":path": "/slow" }))).toBe("2.0 GET /slow ");
    session.destroy();
    proxy.close();
    await rawText(both.port, "\x16\x03\x01\x00\x02no").catch(() => "");
    await expect.poll(() => refused.length).toBe(1);
  });

  test("closes with callers of both kinds connected", async () => {
    const both = await startEchoServer({ tls, http2 });
    const sessions = [
      connectHttp2(`http://127.0.0.1:${both.port}`),
      connectHttp2(`https://127.0.0.1:${both.port}`, { ca: CERTIFICATE }),
    ];
    const closed = sessions.map((session) => once(session, "close"));
    for (const session of sessions) await textOf(session.request({ ":path": "/" }));
    await both.server.close(100);
    await Promise.all(closed);
  });
});

describe("graceful end (6.8)", () => {
  test("streams under way are finished, late ones refused, then the connection closes", async () => {
    await using own = await startEchoServer();
    const client = await RawClient.open(own.port);
    client.send(headers(1, POST));
    await client.settled("open");
    const closed = own.server.close(5000);
    const first = await client.next(({ type }) => type === FRAME.goaway);
    expect(readUint32(first.payload, 0)).toBe(0x7fff_ffff);
    expect(readUint32(first.payload, 4)).toBe(ERROR.none);
    client.send(call(3));
    expect(await client.grpcStatus(3)).toBe("0");
    const ping = await client.next(({ type, flags }) => type === FRAME.ping && flags === 0);
    client.send(frame(FRAME.ping, FLAG.ack, 0, ping.payload), call(5));
    expect(await client.outcome(5)).toEqual({ kind: "reset", code: ERROR.refusedStream });
    expect(readUint32(client.of(FRAME.goaway)[1]?.payload ?? Buffer.alloc(8), 0)).toBe(3);
    client.send(data(1, "the end", FLAG.endStream));
    expect((await client.outcome(1)).kind).toBe("ended");
    await client.ended();
    await closed;
  });

  test("idle connections of both protocols close at once", async () => {
    const own = await startEchoServer();
    const client = await RawClient.open(own.port);
    const agent = new Agent({ keepAlive: true });
    const first = get({ port: own.port, path: "/", agent });
    const [response] = (await once(first, "response")) as [AsyncIterable<unknown>];
    await textOf(response);
    await client.settled("idle");
    const closed = own.server.close(60_000);
    const ping = await client.next(({ type, flags }) => type === FRAME.ping && flags === 0);
    client.send(frame(FRAME.ping, FLAG.ack, 0, ping.payload));
    await client.ended();
    await closed;
    agent.destroy();
  });

  test("what outlasts the grace is destroyed", async () => {
    const own = await startEchoServer();
    const client = await RawClient.open(own.port);
    client.send(call(1, "Never"), headers(3, GET));
    await client.settled("open");
    await own.server.close(20);
    await client.ended();
    expect(own.events.cancelled).toBe(1);
  });

  test("a server that was never reached closes", async () => {
    const own = await startEchoServer({ http2: { http1: createHttp1Server(() => {}) } });
    await own.server.close(0);
    expect(own.server.connectionCount).toBe(0);
  });
});
