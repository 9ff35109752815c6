/** Peers that refuse, hang, or take a write and never answer. */
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import { decodeCallBatch, encodeReplyFrame, joinFrames } from "../../shared/wire/link-codec.ts";
import type { WriteIdentity } from "../../shared/wire/command.ts";
import { LINK_VERSION } from "../../shared/wire/link.ts";
import { freePorts } from "../support/ports.ts";
import { jsonOf, problemOf } from "./edge.ts";
import type { Edge, StartEdge } from "./edge.ts";
import { FakePeer } from "./fake-peer.ts";

const SHORT_MILLISECONDS = 1500;

/** The most that a slow machine is given to try every peer. */
const LONG_MILLISECONDS = 24_000;

/** Accepts connections, reads what comes, and says nothing. */
function silentPeer(): Promise<FakePeer> {
  return FakePeer.start(createTcpServer((socket) => socket.resume()));
}

/** Answers greetings, on links and the gateway; swallows calls, each of which it notes. */
function swallowingPeer(calls: string[], identities: WriteIdentity[]): Promise<FakePeer> {
  const welcome = encodeReplyFrame({
    kind: "welcome",
    version: LINK_VERSION,
    clusterId: 1n,
    memberId: 1n,
    appliedIndex: 7,
  });
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    if (request.url === "/version") response.end("{}");
    else if (request.url !== "/link") calls.push(request.url ?? "");
    else {
      const frames = decodeCallBatch(Uint8Array.from(Buffer.concat(parts)));
      const made = frames.filter((frame) => frame.kind === "call");
      calls.push(...made.map((frame) => frame.request.method));
      identities.push(...made.flatMap(({ identity }) => identity ?? []));
      if (made.length === 0) response.end(joinFrames([welcome]));
    }
  };
  return FakePeer.start(
    createServer((request, response) => {
      // The edge may give up before all of its request was read.
      answer(request, response).catch(() => response.destroy());
    }),
  );
}

export function faultSuite(start: StartEdge, peersOf: () => readonly string[]): void {
  const open: { stop(): Promise<void> }[] = [];
  afterEach(async () => {
    await Promise.all(open.splice(0).map((each) => each.stop()));
  });
  const holding = async <T extends { stop(): Promise<void> }>(started: Promise<T>): Promise<T> => {
    const value = await started;
    open.push(value);
    return value;
  };
  const startEdge = (peers: readonly string[], milliseconds = SHORT_MILLISECONDS): Promise<Edge> =>
    holding(start(peers, { QUORATE_TIMEOUT_MS: `${milliseconds}` }));

  test("no peer listens: 503 with Retry-After and no effect, for reads and writes", async () => {
    const ports = await freePorts(2);
    const edge = await startEdge(ports.map((port) => `http://127.0.0.1:${port}`));
    const requests: [string, RequestInit][] = [
      ["/kv?key=a", {}],
      ["/kv?prefix=a", {}],
      ["/kv/a", { method: "PUT", body: "x" }],
      ["/kv/a", { method: "DELETE" }],
      ["/txn", { method: "POST", body: "{}" }],
      ["/lease", { method: "POST", body: '{"ttl":5}' }],
      ["/lease/5/keepalive", { method: "POST" }],
      ["/watch?key=a", {}],
      ["/v3/kv/range", { method: "POST", body: "{}" }],
      ["/v3/kv/put", { method: "POST", body: "{}" }],
      ["/healthz", {}],
    ];
    const problems = await Promise.all(
      requests.map(async ([path, init]) => {
        const answer = await edge.fetch(path, init);
        expect([path, answer.status, answer.headers.get("retry-after")]).toEqual([path, 503, "1"]);
        return { path, ...(await problemOf(answer, 503)) };
      }),
    );
    for (const problem of problems) {
      expect(problem).toMatchObject({ retryable: true, outcome: "none" });
    }
  });

  test("peers that take a write and are silent: unknown, and sent again as the same write", async () => {
    const calls: string[] = [];
    const identities: WriteIdentity[] = [];
    const peers = [
      await holding(swallowingPeer(calls, identities)),
      await holding(swallowingPeer(calls, identities)),
    ];
    const urls = peers.map(({ url }) => url);
    /** Asked with more and more time, until this machine gets so many calls through within it. */
    const asked = async (count: number, path: string, init: RequestInit): Promise<Response> => {
      for (let most = SHORT_MILLISECONDS; ; most *= 4) {
        calls.length = 0;
        identities.length = 0;
        const answer = await (await startEdge(urls, most)).fetch(path, init);
        if (calls.length === count || most >= LONG_MILLISECONDS) return answer;
        await answer.body?.cancel();
      }
    };
    const put = await asked(2, "/kv/a", { method: "PUT", body: "x" });
    expect((await problemOf(put, 504)).outcome).toBe("unknown");
    expect(calls).toEqual(["put", "put"]);
    expect(identities.map(({ sequence, floor }) => [sequence, floor])).toEqual([
      [1, 7],
      [1, 7],
    ]);
    expect(identities[1]?.client).toEqual(identities[0]?.client);
    const gateway = await asked(1, "/v3/kv/put", { method: "POST", body: "{}" });
    expect((await problemOf(gateway, 503)).outcome).toBe("unknown");
    expect(calls).toEqual(["/v3/kv/put"]);
  });

  test("a peer that accepts and is silent is passed over, for reads and unsent writes", async () => {
    const silent = await holding(silentPeer());
    const edge = await startEdge([silent.url, ...peersOf()], 8000);
    const got = await edge.fetch("/kv?prefix=nothing-here/");
    expect(await jsonOf(got)).toMatchObject({ count: 0 });
    const other = await startEdge([silent.url, ...peersOf()], 8000);
    const put = await other.fetch("/kv/past-silence?timeout=10000", { method: "PUT", body: "x" });
    await jsonOf(put);
    expect(await (await other.fetch("/kv/past-silence")).text()).toBe("x");
  });
}
