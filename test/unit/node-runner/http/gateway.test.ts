/** The JSON gateway: streams that are refused in the moment in which they are opened, and large requests. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { rpcError } from "../../../../shared/api/errors.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { protoServices } from "../../../../shared/peer/proto/methods.ts";
import { createGateway } from "../../../../node-runner/http/gateway.ts";
import { createHttp1Server } from "../../../../node-runner/http2/http1-exchange.ts";
import { MemoryServices } from "../../../support/memory-services.ts";

const services = new MemoryServices();
const { watch } = services;
let hasLeader = false;
const server = createHttp1Server(
  createGateway(
    protoServices(
      Object.assign(services, {
        watch: {
          open: (...asked: Parameters<typeof watch.open>) => {
            if (asked[1].requireLeader && !hasLeader) throw rpcError("noLeader");
            return watch.open(...asked);
          },
        },
      }),
    ),
  ),
);
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

test("a watch that needs a leader hears that there is none; the next one is served", async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const open = (): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}/v3/watch`, {
      method: "POST",
      headers: { "grpc-metadata-hasleader": "true" },
      body: JSON.stringify({ create_request: { key: "YQ==" } }),
    });
  const refused = await open();
  expect(refused.status).toBe(503);
  expect(await refused.json()).toMatchObject({
    error: { code: 14, message: expect.stringContaining("no leader") },
  });
  expect(services.openStreams).toBe(0);
  hasLeader = true;
  const served = await open();
  const reader = served.body?.getReader();
  const first = await reader?.read();
  expect(JSON.parse(new TextDecoder().decode(first?.value))).toMatchObject({
    result: { created: true },
  });
  await reader?.cancel();
  await expect.poll(() => services.openStreams, { timeout: 30_000 }).toBe(0);
});

test("a request may be as long as the member's own limit makes it", async () => {
  const requestBytesMax = 4 * LIMITS.requestBytesMax;
  const large = createHttp1Server(
    createGateway(protoServices(new MemoryServices()), requestBytesMax),
  );
  try {
    large.listen(0, "127.0.0.1");
    await once(large, "listening");
    const { port } = large.address() as AddressInfo;
    const put = (bytes: number): Promise<Response> =>
      fetch(`http://127.0.0.1:${port}/v3/kv/put`, {
        method: "POST",
        body: JSON.stringify({ key: "YQ==", value: Buffer.alloc(bytes).toString("base64") }),
      });
    expect((await put(requestBytesMax)).status).toBe(200);
  } finally {
    large.closeAllConnections();
    large.close();
  }
});
