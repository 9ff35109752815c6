/**
 * A member that starts among others that don't, so that it never finds a leader, and is told to stop
 * while everything is asked of it: each door answers or refuses, and the member ends in order.
 */
import type {
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
} from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { GATEWAY_PATHS } from "../../node-runner/http/gateway-paths.ts";
import * as rpc from "../../shared/api/gen/etcdserverpb/rpc_pb.js";
import { connect } from "../../shared/client/index.ts";
import { Cluster, MAIN } from "../support/cluster.ts";
import type { Member } from "../support/cluster.ts";
import { errorLines } from "../support/process-log.ts";
import { GrpcChannel } from "../support/rpc-channel.ts";

const PROGRAM = { label: "quorate", command: process.execPath, args: [MAIN] };
const SERVICES = [rpc.KV, rpc.Watch, rpc.Lease, rpc.Cluster, rpc.Maintenance];
const ROUTES = ["/health", "/livez", "/readyz", "/version", "/metrics", "/debug/vars", "/members"];
const METHODS = ["GET", "POST", "OPTIONS", "PUT"];
/** How long anything is waited for; most calls here are never answered. */
const PATIENCE_MILLISECONDS = 500;

const cluster = new Cluster(PROGRAM, { env: { QUORATE_STOP_MILLISECONDS: "60000" } });
const closing: (() => void)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0)) close();
  await cluster.stop();
});

/** Calls of all methods, as those who want a leader make them and as others do. */
function askByGrpc(address: string): Promise<unknown>[] {
  const channel = new GrpcChannel(address);
  closing.push(() => channel.close());
  return SERVICES.flatMap((service) =>
    service.methods.flatMap((method) =>
      ["true", "false"].map((hasleader): Promise<unknown> => {
        const options = { metadata: { hasleader }, timeoutMilliseconds: PATIENCE_MILLISECONDS };
        switch (method.methodKind) {
          case "unary":
            return channel.unary(method as DescMethodUnary, {}, options);
          case "server_streaming": {
            const answers = channel.serverStream(method as DescMethodServerStreaming, {});
            return answers.end(PATIENCE_MILLISECONDS);
          }
          default: {
            const stream = channel.duplex(method as DescMethodBiDiStreaming, options);
            stream.send({});
            return stream.end(PATIENCE_MILLISECONDS);
          }
        }
      }),
    ),
  );
}

/** The same by the JSON gateway, over HTTP and WebSocket. */
function askByGateway(address: string): Promise<unknown>[] {
  return [...GATEWAY_PATHS.keys()].flatMap((path) =>
    ["true", "false"].flatMap((hasLeader) => {
      const headers = { "grpc-metadata-hasleader": hasLeader };
      const signal = AbortSignal.timeout(PATIENCE_MILLISECONDS);
      const posted = fetch(`http://${address}/v3/${path}`, {
        method: "POST",
        body: "{}",
        headers,
        signal,
      });
      const socket = new WebSocket(`ws://${address}/v3/${path}`, { headers });
      socket.on("error", () => undefined);
      socket.on("open", () => socket.send('{"create_request":{}}'));
      closing.push(() => socket.terminate());
      return [posted.then((response) => response.text())];
    }),
  );
}

/** Reads, writes, a lease and a watch by the link. */
function askByLink(address: string): Promise<unknown>[] {
  const options = { endpoints: [`http://${address}`], timeoutMilliseconds: PATIENCE_MILLISECONDS };
  const store = connect(options);
  closing.push(() => store.close());
  store.watch("k").ready.catch(() => undefined);
  return [store.get("k"), store.put("k", "v"), store.lease(60), store.status(), store.members()];
}

function askRoutes(member: Member): Promise<unknown>[] {
  return [`http://${member.address}`, member.peerUrl].flatMap((base) =>
    ROUTES.flatMap((route) =>
      METHODS.map((method) => {
        const signal = AbortSignal.timeout(PATIENCE_MILLISECONDS);
        return fetch(base + route, { method, signal }).then((response) => response.text());
      }),
    ),
  );
}

/** Asks everything; resolves when all is answered, refused or given up. */
async function askAll(member: Member): Promise<void> {
  const { address } = member;
  const asked = [askByGrpc, askByGateway, askByLink].flatMap((ask) => ask(address));
  await Promise.allSettled([...asked, ...askRoutes(member)]);
}

test("without a leader every door answers or refuses, also while the member stops", async () => {
  await cluster.found(3);
  const [member] = cluster.members as [Member];
  await member.launch();
  await member.child.logged("serving client traffic");
  await askAll(member);
  expect(member.child.running).toBe(true);
  const last = askAll(member);
  member.child.kill("SIGTERM");
  await Promise.all([last, askAll(member), member.child.ended()]);
  expect([member.child.exitCode, errorLines(member.child.log)]).toEqual([0, []]);
  expect(member.child.log).not.toContain("the stop took too long and was forced");
});
