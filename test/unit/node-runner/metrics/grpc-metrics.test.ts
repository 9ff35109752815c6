/** What gRPC's metrics show, of calls by an independent client over a real socket. */
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { createGrpcMetrics } from "../../../../node-runner/metrics/grpc-metrics.ts";
import { LIMITS } from "../../../../shared/base/limits.ts";
import { startEchoServer } from "../grpc/echo-server.ts";
import { echoClient, unary } from "../grpc/grpc-js-client.ts";

/** The metrics' lines of one name: value by what stands before it. */
async function linesOf(registry: Registry, name: string): Promise<Record<string, number>> {
  const lines = (await registry.metrics()).split("\n").filter((line) => line.startsWith(name));
  return Object.fromEntries(
    lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice(name.length, space), Number(line.slice(space + 1))];
    }),
  );
}

const labels = (method: string, type: string): string =>
  `grpc_method="${method}",grpc_service="test.Echo",grpc_type="${type}"`;

test("each method shows from the start, for every code, and counts what comes", async () => {
  const registry = new Registry();
  const observer = createGrpcMetrics({ registry, extensive: false });
  await using server = await startEchoServer({ grpc: { observer } });
  const handled = await linesOf(registry, "grpc_server_handled_total");
  expect(new Set(Object.values(handled))).toEqual(new Set([0]));
  expect(handled).toHaveProperty([`{grpc_code="Unavailable",${labels("Chat", "bidi_stream")}}`]);
  expect(handled).toHaveProperty([`{grpc_code="OK",${labels("Echo", "unary")}}`]);
  const started = await linesOf(registry, "grpc_server_started_total");
  expect(Object.keys(handled)).toHaveLength(17 * Object.keys(started).length);

  const client = echoClient(server.port);
  await unary(client, "Echo", "");
  client.close();
  expect(await linesOf(registry, "grpc_server_handled_total")).toEqual({
    ...handled,
    [`{grpc_code="OK",${labels("Echo", "unary")}}`]: 1,
  });
});

test("calls are counted by the client's API version, of which there are few", async () => {
  const registry = new Registry();
  const observer = createGrpcMetrics({ registry, extensive: false });
  await using server = await startEchoServer({ grpc: { observer } });
  const client = echoClient(server.port);
  const call = (version: string) =>
    unary(client, "Echo", "", { metadata: { "client-api-version": version } });
  await unary(client, "Echo", "");
  for (let count = 0; count < 3; count += 1) await call("3.7");
  const row = (version: string, type: string) => `{client_api_version="${version}",type="${type}"}`;
  const name = "etcd_server_client_requests_total";
  expect(await linesOf(registry, name)).toEqual({
    [row("unknown", "unary")]: 1,
    [row("3.7", "unary")]: 3,
    [row("unknown", "stream")]: 0,
  });

  const others = 2 * LIMITS.clientVersionsMax;
  for (let count = 0; count < others; count += 1) await call(`made-up ${count}`);
  client.close();
  const counts = await linesOf(registry, name);
  expect(Object.keys(counts)).toHaveLength(LIMITS.clientVersionsMax + 1);
  expect(counts[row("3.7", "unary")]).toBe(3);
  expect(Object.values(counts).reduce((sum, each) => sum + each)).toBe(4 + others);
});
