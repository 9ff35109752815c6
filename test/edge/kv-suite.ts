/** Keys, ranges and transactions over the edge's HTTP API. */
import { describe, expect, test } from "vitest";
import { answered, jsonOf, problemOf } from "./edge.ts";
import { errorText } from "../../shared/api/errors.ts";
import type { Edge } from "./edge.ts";

interface Kv {
  readonly key: string;
  readonly value: string;
  readonly keyBase64?: string;
  readonly valueBase64?: string;
  readonly modRevision: number;
}

interface Listing {
  readonly revision: number;
  readonly count: number;
  readonly more: boolean;
  readonly cursor?: string;
  readonly kvs: readonly Kv[];
}

export function kvSuite(edgeOf: () => Edge): void {
  describe("one key", () => keySuite(edgeOf));
  describe("compare-and-set by ETag", () => conditionSuite(edgeOf));
  describe("ranges", () => rangeSuite(edgeOf));
  describe("transactions", () => txnSuite(edgeOf));
}

function keySuite(edgeOf: () => Edge): void {
  test("put, get and delete by query; the ETag is the revision of the change", async () => {
    const edge = edgeOf();
    const put = await edge.fetch("/kv?key=one", { method: "PUT", body: "first" });
    const { revision } = await jsonOf<{ revision: number }>(put);
    expect(put.headers.get("etag")).toBe(`"${revision}"`);
    const got = await edge.fetch("/kv?key=one");
    expect([got.status, await got.text()]).toEqual([200, "first"]);
    expect(got.headers.get("etag")).toBe(`"${revision}"`);
    expect(got.headers.get("x-quorate-create-revision")).toBe(`${revision}`);
    expect(got.headers.get("x-quorate-version")).toBe("1");
    expect(got.headers.get("cache-control")).toBe("no-store");
    const unchanged = await edge.fetch("/kv?key=one", {
      headers: { "if-none-match": `"${revision}"` },
    });
    expect([unchanged.status, await unchanged.text()]).toEqual([304, ""]);
    const deleted = await edge.fetch("/kv?key=one", { method: "DELETE" });
    expect(await jsonOf(deleted)).toEqual({ deleted: 1, revision: revision + 1 });
    const missing = await problemOf(await edge.fetch("/kv?key=one"), 404);
    expect(missing).toMatchObject({ outcome: "none", revision: revision + 1 });
    const again = await jsonOf(await edge.fetch("/kv?key=one", { method: "DELETE" }));
    expect(again).toMatchObject({ deleted: 0 });
  });

  test.each([
    ["a/b", "a%2Fb"],
    ["a/b/c", "a/b/c"],
    ["sp ace", "sp%20ace"],
    ["q?x#y&z=1", "q%3Fx%23y%26z%3D1"],
    ["plus+", "plus%2B"],
    ["per%cent", "per%25cent"],
    ["grüße/€", "gr%C3%BC%C3%9Fe%2F%E2%82%AC"],
    ["..dots/.", "..dots%2F."],
  ])("key %j is one key in the path, the query and a listing", async (key, path) => {
    const edge = edgeOf();
    await jsonOf(await edge.fetch(`/kv/${path}`, { method: "PUT", body: key }));
    const byPath = await edge.fetch(`/kv/${path}`);
    expect(await byPath.text()).toBe(key);
    const byQuery = await edge.fetch(`/kv?key=${encodeURIComponent(key)}`);
    expect(await byQuery.text()).toBe(key);
    const listed = await edge.fetch(`/kv?prefix=${encodeURIComponent(key)}`);
    expect((await jsonOf<Listing>(listed)).kvs.map((kv) => kv.key)).toContain(key);
    const deleted = await edge.fetch(`/kv/${path}`, { method: "DELETE" });
    expect(await jsonOf(deleted)).toMatchObject({ deleted: 1 });
  });

  test("keys and values of any bytes come back as they were, as base64 in JSON", async () => {
    const edge = edgeOf();
    const value = Uint8Array.from({ length: 256 }, (_, index) => index);
    await jsonOf(await edge.fetch("/kv/bin-%00%FF%FE", { method: "PUT", body: value }));
    const got = await edge.fetch("/kv?key=bin-%00%ff%fe");
    expect(new Uint8Array(await got.arrayBuffer())).toEqual(value);
    const [kv] = (await jsonOf<Listing>(await edge.fetch("/kv?prefix=bin-"))).kvs;
    expect(kv?.keyBase64).toBe(Buffer.from("bin-\0\xff\xfe", "latin1").toString("base64"));
    expect(kv?.valueBase64).toBe(Buffer.from(value).toString("base64"));
    const key = encodeURIComponent(kv?.keyBase64 ?? "");
    const byBase64 = await edge.fetch(`/kv?encoding=base64&key=${key}`);
    expect(new Uint8Array(await byBase64.arrayBuffer())).toEqual(value);
    const byHex = await edge.fetch("/kv?encoding=hex&key=62696e2d00fffe");
    expect(byHex.status).toBe(200);
    await byHex.body?.cancel();
  });

  test("an empty value is a value; an old revision can be read", async () => {
    const edge = edgeOf();
    const put = await edge.fetch("/kv/empty", { method: "PUT", body: "" });
    const { revision } = await jsonOf<{ revision: number }>(put);
    await jsonOf(await edge.fetch("/kv/empty", { method: "PUT", body: "now" }));
    const old = await edge.fetch(`/kv/empty?revision=${revision}`);
    expect([old.status, await old.text()]).toEqual([200, ""]);
    const stale = await edge.fetch("/kv/empty?serializable=true");
    expect(["", "now"]).toContain(await stale.text());
  });
}

function conditionSuite(edgeOf: () => Edge): void {
  test("If-None-Match: * creates once", async () => {
    const edge = edgeOf();
    const headers = { "if-none-match": "*" };
    const created = await edge.fetch("/kv/cas-new", { method: "PUT", body: "mine", headers });
    const { revision } = await jsonOf<{ revision: number }>(created, 201);
    const second = await edge.fetch("/kv/cas-new", { method: "PUT", body: "theirs", headers });
    expect(second.headers.get("etag")).toBe(`"${revision}"`);
    const problem = await problemOf(second, 412);
    expect(problem.outcome).toBe("none");
    expect(problem.current).toMatchObject({ value: "mine", modRevision: revision });
    const kept = await edge.fetch("/kv/cas-new");
    expect(await kept.text()).toBe("mine");
  });

  test("If-Match changes and deletes only what was seen, and tells what is there", async () => {
    const edge = edgeOf();
    const put = (body: string, match?: string): Promise<Response> =>
      edge.fetch("/kv/cas", {
        method: "PUT",
        body,
        headers: match === undefined ? {} : { "if-match": match },
      });
    const first = (await put("1")).headers.get("etag") ?? "";
    const second = (await put("2", first)).headers.get("etag") ?? "";
    expect(second).not.toBe(first);
    const late = await problemOf(await put("3", first), 412);
    expect(late.current).toMatchObject({ value: "2" });
    const remove = (match: string): Promise<Response> =>
      edge.fetch("/kv/cas", { method: "DELETE", headers: { "if-match": match } });
    await problemOf(await remove(first), 412);
    expect(await jsonOf(await remove(second))).toMatchObject({ deleted: 1 });
    expect((await problemOf(await put("4", second), 412)).current).toBeNull();
    expect((await problemOf(await put("4", "*"), 412)).current).toBeNull();
  });

  test("of many writers that saw the same revision one wins", async () => {
    const edge = edgeOf();
    const start = await edge.fetch("/kv/race", { method: "PUT", body: "start" });
    const etag = start.headers.get("etag") ?? "";
    await start.body?.cancel();
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, writer) =>
        edge.fetch("/kv/race", { method: "PUT", body: `${writer}`, headers: { "if-match": etag } }),
      ),
    );
    for (const answer of answers) await answer.body?.cancel();
    const statuses = answers.map((answer) => answer.status).toSorted((a, b) => a - b);
    expect(statuses).toEqual([200, ...Array<number>(7).fill(412)]);
    const winner = answers.findIndex((answer) => answer.status === 200);
    expect(await (await edge.fetch("/kv/race")).text()).toBe(`${winner}`);
  });
}

function rangeSuite(edgeOf: () => Edge): void {
  const seed = async (edge: Edge, prefix: string, count: number): Promise<string[]> => {
    const keys = Array.from({ length: count }, (_, index) => `${prefix}${index}`);
    const txn = { do: keys.map((key) => ({ put: { key, value: `v-${key}` } })) };
    await jsonOf(await edge.fetch("/txn", { method: "POST", body: JSON.stringify(txn) }));
    return keys;
  };

  test("by prefix, by from and to, keys only, counted, and deleted", async () => {
    const edge = edgeOf();
    const keys = await seed(edge, "rg/", 9);
    const list = async (query: string): Promise<Listing> =>
      jsonOf<Listing>(await edge.fetch(`/kv?${query}`));
    const whole = await list("prefix=rg/");
    expect(whole.kvs.map((kv) => kv.key)).toEqual(keys);
    expect(whole).toMatchObject({ count: 9, more: false });
    const part = await list("from=rg/3&to=rg/6");
    expect(part.kvs.map((kv) => kv.key)).toEqual(["rg/3", "rg/4", "rg/5"]);
    const down = await list("prefix=rg/&order=descend&limit=2");
    expect(down.kvs.map((kv) => kv.key)).toEqual(["rg/8", "rg/7"]);
    const bare = await list("prefix=rg/&keysOnly=true&limit=1");
    expect(bare.kvs[0]).not.toHaveProperty("value");
    expect(await list("prefix=rg/&countOnly=true")).toMatchObject({ count: 9, kvs: [] });
    const gone = await edge.fetch("/kv?from=rg/2&to=rg/4", { method: "DELETE" });
    expect(await jsonOf(gone)).toMatchObject({ deleted: 2 });
    expect((await list("prefix=rg/")).count).toBe(7);
  });

  test("a cursor goes through a range at one revision, whatever is written meanwhile", async () => {
    const edge = edgeOf();
    const keys = await seed(edge, "pg/", 10);
    const seen: string[] = [];
    let cursor: string | undefined;
    let first: number | undefined;
    do {
      const rest: string = cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const page = await jsonOf<Listing>(await edge.fetch(`/kv?prefix=pg/&limit=3${rest}`));
      first ??= page.revision;
      expect(page.revision).toBe(first);
      seen.push(...page.kvs.map((kv) => kv.key));
      cursor = page.cursor;
      await jsonOf(await edge.fetch(`/kv/pg/9${seen.length}`, { method: "PUT", body: "new" }));
    } while (cursor !== undefined);
    expect(seen).toEqual(keys);
  });

  test("NDJSON: a line an entry, and a last one that says it is complete", async () => {
    const edge = edgeOf();
    const keys = await seed(edge, "nd/", 20);
    const response = await edge.fetch("/kv?prefix=nd/&format=ndjson");
    expect(response.headers.get("content-type")).toBe("application/x-ndjson");
    const lines = (await response.text()).trimEnd().split("\n");
    const parsed = lines.map((line) => JSON.parse(line) as { key?: string });
    expect(parsed.at(-1)).toEqual({ complete: true, count: 20 });
    const sorted = keys.toSorted();
    expect(parsed.slice(0, -1).map((entry) => entry.key)).toEqual(sorted);
    const accept = { accept: "application/x-ndjson" };
    const none = await edge.fetch("/kv?prefix=nd/none", { headers: accept });
    expect(JSON.parse(await none.text())).toEqual({ complete: true, count: 0 });
  });

  test("a reader may leave an NDJSON stream in the middle", async () => {
    const edge = edgeOf();
    const response = await edge.fetch("/kv?all&format=ndjson");
    await response.body?.cancel();
    expect((await answered(() => edge.fetch("/healthz"))).status).toBe(200);
  });
}

function txnSuite(edgeOf: () => Edge): void {
  const commit = (edge: Edge, txn: object, query = ""): Promise<Response> =>
    edge.fetch(`/txn${query}`, { method: "POST", body: JSON.stringify(txn) });

  test("if, do and else at one revision", async () => {
    const edge = edgeOf();
    const txn = {
      if: [{ key: "tx/a", target: "version", is: "=", value: 0 }],
      do: [{ put: { key: "tx/a", value: "1" } }, { put: { key: "tx/b", value: "2" } }],
      else: [{ get: { prefix: "tx/" } }, { delete: { key: "tx/b", previous: true } }],
    };
    const first = await jsonOf<{ revision: number }>(await commit(edge, txn));
    expect(first).toMatchObject({ succeeded: true, results: [{ put: {} }, { put: {} }] });
    const b = await edge.fetch("/kv/tx/b");
    expect(b.headers.get("etag")).toBe(`"${first.revision}"`);
    await b.body?.cancel();
    const second = await jsonOf<{ results: { get?: Listing }[] }>(await commit(edge, txn));
    expect(second).toMatchObject({ succeeded: false });
    expect(second.results[0]?.get?.kvs.map((kv) => kv.key)).toEqual(["tx/a", "tx/b"]);
    expect(second.results[1]).toMatchObject({ delete: { deleted: 1, previous: [{ value: "2" }] } });
  });

  test("conditions on value, mod and lease; nested transactions; bytes as base64", async () => {
    const edge = edgeOf();
    const base64 = Buffer.from([0, 255]).toString("base64");
    await jsonOf(await commit(edge, { do: [{ put: { keyBase64: base64, valueBase64: base64 } }] }));
    const nested = {
      if: [
        { keyBase64: base64, target: "value", is: "=", valueBase64: base64 },
        { keyBase64: base64, target: "mod", is: ">", value: 1 },
        { keyBase64: base64, target: "lease", is: "=", value: "0" },
      ],
      do: [{ txn: { do: [{ delete: { keyBase64: base64 } }] } }],
    };
    const answer = await jsonOf(await commit(edge, nested));
    expect(answer).toMatchObject({
      succeeded: true,
      results: [{ txn: { succeeded: true, results: [{ delete: { deleted: 1 } }] } }],
    });
  });

  test("a transaction that writes a key twice is refused with etcd's text and has no effect", async () => {
    const edge = edgeOf();
    const twice = { do: [1, 2].map((value) => ({ put: { key: "tx/dup", value: `${value}` } })) };
    const problem = await problemOf(await commit(edge, twice), 400);
    expect(problem).toMatchObject({
      title: errorText("duplicateKey"),
      retryable: false,
      outcome: "none",
    });
    await problemOf(await edge.fetch("/kv/tx/dup"), 404);
  });
}
