/** The link through the edge: batches by POST, and the TypeScript client by WebSocket. */
import { expect, test } from "vitest";
import { decodeReplyBatch, encodeCallFrame, joinFrames } from "../../shared/wire/link-codec.ts";
import { LINK_VERSION } from "../../shared/wire/link.ts";
import type { LinkReplyFrame } from "../../shared/wire/link.ts";
import { problemOf, withClient } from "./edge.ts";
import type { Edge } from "./edge.ts";

const CBOR = { "content-type": "application/cbor" };

const HELLO = encodeCallFrame({ kind: "hello", version: LINK_VERSION, role: "client", token: "" });

function statusCall(id: number): ReturnType<typeof encodeCallFrame> {
  const request = { method: "status" } as const;
  return encodeCallFrame({
    kind: "call",
    id,
    timeoutMilliseconds: 0,
    requireLeader: false,
    request,
  });
}

async function batch(edge: Edge, body: Uint8Array): Promise<LinkReplyFrame[]> {
  const init = { method: "POST", headers: CBOR, body: Uint8Array.from(body) };
  const response = await edge.fetch("/link", init);
  expect(response.status).toBe(200);
  return decodeReplyBatch(new Uint8Array(await response.arrayBuffer()));
}

export function linkSuite(edgeOf: () => Edge): void {
  test("a batch by POST is answered call by call", async () => {
    const replies = await batch(edgeOf(), joinFrames([HELLO, statusCall(1), statusCall(2)]));
    expect(replies.map(({ kind }) => kind).toSorted()).toEqual(["result", "result", "welcome"]);
  });

  test("what is no batch, or no link, reaches no peer", async () => {
    const edge = edgeOf();
    for (const body of [new Uint8Array([1, 2, 3]), statusCall(1)]) {
      const init = { method: "POST", headers: CBOR, body: Uint8Array.from(body) };
      const problem = await problemOf(await edge.fetch("/link", init), 400);
      expect(problem).toMatchObject({ retryable: false, outcome: "none" });
    }
  });

  test("the client puts, gets, lists and commits", async () => {
    await withClient(edgeOf(), async (store) => {
      const { revision } = await store.put("link/a", "1");
      expect((await store.get("link/a"))?.modRevision).toBe(revision);
      expect((await store.list({ prefix: "link/" })).entries).toHaveLength(1);
      expect((await store.delete("link/a")).deleted).toBe(1);
      expect(await store.get("link/a")).toBeUndefined();
    });
  });

  test("the client's lease holds a key until it is revoked", async () => {
    await withClient(edgeOf(), async (store) => {
      const lease = await store.lease(30);
      await store.put("link/leased", "x", { lease });
      expect((await store.get("link/leased"))?.lease).toBe(lease.id);
      await lease.revoke();
      expect(await store.get("link/leased")).toBeUndefined();
    });
  });

  test("the client watches over the edge's sockets", async () => {
    const edge = edgeOf();
    await withClient(edge, async (store) => {
      if (edge.url === undefined) {
        await problemOf(await edge.refusedUpgrade("/link"), 501);
        return;
      }
      const watch = store.watch({ prefix: "link/w" });
      await watch.ready;
      const { revision } = await store.put("link/w", "seen");
      for await (const event of watch) {
        expect(event).toMatchObject({ type: "put", key: "link/w", revision });
        break;
      }
    });
  });
}
