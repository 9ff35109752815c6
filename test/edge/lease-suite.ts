/** Leases, watches and etcd's JSON gateway over the edge's HTTP API. */
import { describe, expect, test } from "vitest";
import { errorText } from "../../shared/api/errors.ts";
import { jsonOf, problemOf, withClient } from "./edge.ts";
import type { Edge } from "./edge.ts";
import { EventSourceReader } from "./event-source.ts";
import type { SentEvent } from "./event-source.ts";
import { watchSocketSuite } from "./watch-socket-suite.ts";

const POST = { method: "POST" };
const PATIENCE = { timeout: 60_000, interval: 50 };

function post(edge: Edge, path: string, body: object): Promise<Response> {
  return edge.fetch(path, { method: "POST", body: JSON.stringify(body) });
}

export function leaseSuite(edgeOf: () => Edge): void {
  test("a lease is granted, kept, shown with its keys and revoked, which deletes them", async () => {
    const edge = edgeOf();
    const granted = await post(edge, "/lease", { ttl: 60 });
    const { id } = await jsonOf<{ id: string }>(granted, 201);
    expect(granted.headers.get("location")).toBe(`/lease/${id}`);
    await jsonOf(await edge.fetch(`/kv/leased?lease=${id}`, { method: "PUT", body: "x" }));
    const held = await edge.fetch("/kv/leased");
    expect(held.headers.get("x-quorate-lease")).toBe(id);
    await held.body?.cancel();
    const kept = await edge.fetch(`/lease/${id}/keepalive`, POST);
    expect(await jsonOf(kept)).toEqual({ id, ttl: 60 });
    const shown = await jsonOf<{ ttl: number }>(await edge.fetch(`/lease/${id}?keys`));
    expect(shown).toMatchObject({ id, grantedTtl: 60, keys: [{ key: "leased" }] });
    expect(shown.ttl).toBeGreaterThan(50);
    await jsonOf(await edge.fetch(`/lease/${id}`, { method: "DELETE" }));
    await problemOf(await edge.fetch("/kv/leased"), 404);
    for (const [path, method] of [
      [`/lease/${id}`, "GET"],
      [`/lease/${id}`, "DELETE"],
      [`/lease/${id}/keepalive`, "POST"],
    ] as const) {
      const problem = await problemOf(await edge.fetch(path, { method }), 404);
      expect(problem).toMatchObject({ title: errorText("leaseNotFound"), outcome: "none" });
    }
  });

  test("a lease of a chosen id; the same id again is a conflict", async () => {
    const edge = edgeOf();
    const grant = { ttl: 60, id: "424242" };
    expect(await jsonOf(await post(edge, "/lease", grant), 201)).toMatchObject({ id: "424242" });
    expect((await problemOf(await post(edge, "/lease", grant), 409)).outcome).toBe("none");
    await jsonOf(await edge.fetch("/lease/424242", { method: "DELETE" }));
  });

  test("an expired lease deletes its key, and the watch says so", async () => {
    const edge = edgeOf();
    const events = new EventSourceReader(await edge.fetch("/watch?key=expiring"));
    // On a machine that stands still for a while a lease may end before a key is under it.
    const putInTime = async (): Promise<number> => {
      const { id } = await jsonOf<{ id: string }>(await post(edge, "/lease", { ttl: 1 }), 201);
      const put = await edge.fetch(`/kv/expiring?lease=${id}`, { method: "PUT", body: "x" });
      await put.body?.cancel();
      return put.status;
    };
    await expect.poll(putInTime, PATIENCE).toBe(200);
    const kinds = (await events.take(3)).map(({ event }) => event);
    expect(kinds).toEqual(["ready", "put", "delete"]);
    await problemOf(await edge.fetch("/kv/expiring"), 404);
    await events.close();
  });
}

/** `keepsHistory`: what the cluster has compacted may still be watched. */
export function watchSuite(edgeOf: () => Edge, { keepsHistory = false } = {}): void {
  const put = async (edge: Edge, key: string, value: string): Promise<number> => {
    const answer = await edge.fetch(`/kv/${key}`, { method: "PUT", body: value });
    return (await jsonOf<{ revision: number }>(answer)).revision;
  };

  test("puts and deletes of a prefix arrive in order, with ids, and others don't", async () => {
    const edge = edgeOf();
    const response = await edge.fetch("/watch?prefix=wa/&previous=true");
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    expect(response.headers.get("cache-control")).toBe("no-store");
    const events = new EventSourceReader(response);
    const [ready] = await events.take(1);
    expect(ready?.event).toBe("ready");
    const first = await put(edge, "wa/1", "a");
    await put(edge, "other", "not watched");
    const second = await put(edge, "wa/1", "b");
    await jsonOf(await edge.fetch("/kv/wa/1", { method: "DELETE" }));
    expect(await events.take(3)).toMatchObject([
      { event: "put", id: `${first}.1`, data: { revision: first, key: "wa/1", value: "a" } },
      { event: "put", id: `${second}.1`, data: { value: "b", previous: { value: "a" } } },
      { event: "delete", id: `${second + 1}.1`, data: { key: "wa/1", previous: { value: "b" } } },
    ]);
    await events.close();
  });

  test("Last-Event-ID resumes after every event, in the middle of a revision too", async () => {
    const edge = edgeOf();
    const start = await put(edge, "wr/0", "0");
    const many = { do: [1, 2, 3].map((n) => ({ put: { key: `wr/${n}`, value: `${n}` } })) };
    await jsonOf(await post(edge, "/txn", many));
    await put(edge, "wr/4", "4");
    await jsonOf(await edge.fetch("/kv?prefix=wr/", { method: "DELETE" }));
    const whole = new EventSourceReader(await edge.fetch(`/watch?prefix=wr/&revision=${start}`));
    const [ready, ...all] = await whole.take(11);
    await whole.close();
    expect(ready?.event).toBe("ready");
    expect(new Set(all.map(({ id }) => id)).size).toBe(10);
    for (const [position, seen] of [ready, ...all.slice(0, -1)].entries()) {
      const resumed = new EventSourceReader(
        await edge.fetch("/watch?prefix=wr/", { headers: { "last-event-id": seen?.id ?? "" } }),
      );
      const [again, ...rest] = await resumed.take(11 - position);
      await resumed.close();
      expect(again).toMatchObject({ event: "ready", id: seen?.id });
      expect(rest).toEqual(all.slice(position));
    }
    // The control: by a revision alone, what was seen of it comes again.
    const revision = all[2]?.data["revision"] as number;
    const again = new EventSourceReader(await edge.fetch(`/watch?prefix=wr/&revision=${revision}`));
    expect((await again.take(2))[1]).toEqual(all[1]);
    await again.close();
  });

  const told = keepsHistory ? "may be whole" : "says so and goes on with what is left";
  test(`a watch of compacted history ${told}`, async () => {
    const edge = edgeOf();
    const first = await put(edge, "wc/a", "1");
    const second = await put(edge, "wc/a", "2");
    const third = await put(edge, "wc/a", "3");
    await withClient(edge, (store) => store.compact(second));
    const watched = async (): Promise<SentEvent[]> => {
      const events = new EventSourceReader(await edge.fetch(`/watch?key=wc/a&revision=${first}`));
      const seen = await events.take(3);
      await events.close();
      return seen;
    };
    const seen = await watched();
    if (keepsHistory && seen[0]?.event === "ready") {
      const [, next, last] = seen;
      expect([next?.data["revision"], last?.data["revision"]]).toEqual([first, second]);
      return;
    }
    // A member that hasn't compacted yet has the history still.
    await expect.poll(watched, PATIENCE).toMatchObject([
      { event: "compacted", data: { compactRevision: second } },
      { event: "put", data: { value: "2" } },
      { event: "put", data: { value: "3", revision: third } },
    ]);
    const read = await edge.fetch(`/kv/wc/a?revision=${first}`);
    expect(await problemOf(read, 410)).toMatchObject({ title: errorText("compacted") });
  });

  test("only=delete leaves puts out", async () => {
    const edge = edgeOf();
    const events = new EventSourceReader(await edge.fetch("/watch?key=wo&only=delete"));
    await events.take(1);
    await put(edge, "wo", "1");
    await jsonOf(await edge.fetch("/kv/wo", { method: "DELETE" }));
    expect(await events.take(1)).toMatchObject([{ event: "delete" }]);
    await events.close();
  });
}

export function gatewaySuite(edgeOf: () => Edge): void {
  const base64 = (text: string): string => Buffer.from(text).toString("base64");

  test("put, range, transaction and delete as etcd's JSON has them", async () => {
    const edge = edgeOf();
    const key = base64("gw/key");
    const put = await post(edge, "/v3/kv/put", { key, value: base64("value") });
    expect(await jsonOf(put)).toHaveProperty("header.revision");
    const range = await post(edge, "/v3/kv/range", { key });
    expect(await jsonOf(range)).toMatchObject({ kvs: [{ key, value: base64("value") }] });
    const txn = await post(edge, "/v3/kv/txn", {
      compare: [{ key, target: "VERSION", version: "1" }],
      success: [{ request_delete_range: { key } }],
    });
    expect(await jsonOf(txn)).toMatchObject({ succeeded: true });
    const status = await post(edge, "/v3/maintenance/status", {});
    expect(await jsonOf(status)).toHaveProperty("leader");
  });

  test("a watch streams through", async () => {
    const edge = edgeOf();
    const key = base64("gw/watched");
    const response = await edge.fetch("/v3/watch", {
      method: "POST",
      body: JSON.stringify({ create_request: { key } }),
    });
    const reader = response.body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    const until = async (wanted: string): Promise<void> => {
      while (!text.includes(wanted)) {
        const read = await reader?.read();
        if (read?.done !== false) throw new Error(`the stream ended: ${text}`);
        text += decoder.decode(read.value, { stream: true });
      }
    };
    await until('"created":true');
    await jsonOf(await post(edge, "/v3/kv/put", { key, value: base64("seen") }));
    await until(base64("seen"));
    await reader?.cancel();
  });

  test("its errors are the peers' own", async () => {
    const edge = edgeOf();
    const answer = await post(edge, "/v3/kv/put", { value: base64("no key") });
    const body = await jsonOf<object>(answer, 400);
    expect(body).toMatchObject({ code: 3, message: errorText("emptyKey") });
    const unknown = await post(edge, "/v3/kv/nothing", {});
    expect(unknown.status).toBe(404);
    await unknown.body?.cancel();
    await problemOf(await edge.fetch("/v3/kv/range"), 405);
  });
}

export function describeApi(edgeOf: () => Edge): void {
  describe("leases", () => leaseSuite(edgeOf));
  describe("watches by server-sent events", () => watchSuite(edgeOf));
  describe("watches by WebSocket", () => watchSocketSuite(edgeOf));
  describe("etcd's JSON gateway", () => gatewaySuite(edgeOf));
}
