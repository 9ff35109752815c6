/** The proxy that makes a distance: bytes take their time each way, and stay in order whatever it is. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TcpProxy } from "../../support/tcp-proxy.ts";

const DELAY_MILLISECONDS = 40;
let echo: Server;
let proxy: TcpProxy;

beforeEach(async () => {
  echo = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  await once(echo.listen(0, "127.0.0.1"), "listening");
  proxy = await TcpProxy.start(`127.0.0.1:${(echo.address() as AddressInfo).port}`);
});
afterEach(async () => {
  await proxy.stop();
  echo.close();
});

/** Sends lines and waits for all echoes; how many milliseconds that took. */
async function exchange(socket: Socket, lines: readonly string[]): Promise<number> {
  const began = performance.now();
  let heard = "";
  const all = lines.join("");
  const done = new Promise<void>((resolve) => {
    socket.on("data", (chunk: Buffer) => {
      heard += chunk.toString();
      if (heard.length >= all.length) resolve();
    });
  });
  for (const line of lines) {
    socket.write(line);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await done;
  expect(heard).toBe(all);
  socket.removeAllListeners("data");
  return performance.now() - began;
}

async function dial(): Promise<Socket> {
  const socket = connect(proxy.port, "127.0.0.1").setNoDelay();
  await once(socket, "connect");
  return socket;
}

const lines = Array.from({ length: 200 }, (_, number) => `line ${number}\n`);

test("an answer takes a round trip, the first of a connection another for the handshake", async () => {
  proxy.delayMilliseconds = DELAY_MILLISECONDS;
  const began = performance.now();
  const socket = await dial();
  await exchange(socket, lines);
  // A clock of whole milliseconds may round each of the ways down.
  expect(performance.now() - began).toBeGreaterThan(4 * DELAY_MILLISECONDS - 4);
  expect(await exchange(socket, lines)).toBeGreaterThan(2 * DELAY_MILLISECONDS - 2);
  socket.destroy();
});

test("order holds when the distance shrinks while bytes are under way", async () => {
  proxy.delayMilliseconds = DELAY_MILLISECONDS;
  const socket = await dial();
  const early = exchange(socket, lines);
  await new Promise((resolve) => setTimeout(resolve, DELAY_MILLISECONDS / 4));
  proxy.delayMilliseconds = 0;
  await early;
  await exchange(socket, lines);
  socket.destroy();
});
