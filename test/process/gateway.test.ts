/**
 * The JSON gateway of a real process over HTTP/1.1 and HTTP/2, held to Debian's etcd where both
 * answer: the same requests must give the same JSON, ids and terms apart.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Child } from "../support/child.ts";
import { startEtcd, startQuorate, type Cluster } from "../support/cluster.ts";
import {
  base64,
  postCurl,
  postFetch,
  type JsonAnswer,
  type PostJson,
} from "../support/json-api.ts";
import { describeWithTools } from "../support/tools.ts";

const A = base64("a");
const B = base64("b");
const C = base64("c");
const VALUE = base64("value");

let cluster: Cluster;
let address: string;

beforeAll(async () => {
  cluster = await startQuorate();
  address = cluster.addresses[0] as string;
});

afterAll(() => cluster.stop());

/** Transactions in transactions, with a put in the innermost. */
function nested(levels: number): string {
  let text = `{"success":[{"request_put":{"key":"${A}"}}]}`;
  for (let count = 0; count < levels; count += 1) text = `{"success":[{"request_txn":${text}}]}`;
  return text;
}

/** Both sides get these, in this order, on an empty store. */
const SCRIPT: readonly (readonly [path: string, request: object | string])[] = [
  ["/v3/kv/put", { key: A, value: VALUE, some_new_field: [1] }],
  ["/v3/kv/put", { key: A, value: base64("2"), prev_kv: true }],
  ["/v3beta/kv/put", { key: B, value: VALUE, prevKv: true, lease: "0" }],
  ["/v3/kv/range", { key: A }],
  ["/v3/kv/range", { key: A, range_end: C, limit: 1 }],
  ["/v3/kv/range", { key: A, rangeEnd: C, limit: "1", sort_order: "DESCEND", sort_target: "MOD" }],
  ["/v3/kv/range", { key: A, revision: "2" }],
  ["/v3/kv/range", { key: A, range_end: C, count_only: true }],
  ["/v3/kv/range", { key: A, range_end: C, keys_only: true, sort_order: 2, sort_target: 0 }],
  ["/v3/kv/range", { key: base64("absent") }],
  ["/v3/kv/range", {}],
  ["/v3/kv/range", ""],
  ["/v3/kv/range", { key: A, revision: 99 }],
  [
    "/v3/kv/txn",
    {
      compare: [{ key: A, target: "VERSION", result: "EQUAL", version: "2" }],
      success: [
        { requestRange: { key: A } },
        { request_delete_range: { key: B, prev_kv: true } },
        { request_put: { key: C, value: VALUE } },
        { request_txn: { failure: [{ request_put: { key: B } }], compare: [{ key: A }] } },
      ],
      failure: [{ request_put: { key: A } }],
    },
  ],
  ["/v3/kv/txn", { success: [{ request_put: { key: A } }, { request_put: { key: A } }] }],
  ["/v3/kv/txn", nested(127)],
  ["/v3/kv/txn", nested(128)],
  ["/v3/kv/txn", nested(200)],
  ["/v3/kv/deleterange", { key: A, range_end: C, prev_kv: true }],
  ["/v3/kv/deleterange", { key: A }],
  ["/v3/kv/compaction", { revision: 3 }],
  ["/v3/kv/compaction", { revision: "3" }],
  ["/v3/kv/range", { key: A, revision: "2" }],
  ["/v3/lease/grant", { TTL: "600", ID: "77" }],
  ["/v3/kv/put", { key: A, value: VALUE, lease: 77 }],
  ["/v3/lease/keepalive", { ID: "77" }],
  ["/v3/lease/keepalive", '{"ID":"77"}{"ID":78}\n{"ID":"77"}'],
  ["/v3/lease/leases", {}],
  ["/v3/kv/lease/leases", {}],
  ["/v3/lease/revoke", { ID: "77" }],
  ["/v3/kv/lease/revoke", { ID: 77 }],
  ["/v3/lease/timetolive", { ID: 77 }],
  ["/v3/lease/grant", '{"TTL":600,"ID":7587862094345763073}'],
  ["/v3/lease/timetolive", '{"ID":7587862094345763073}'],
  ["/v3/lease/timetolive", '{"ID":7587862094345763072}'],
  ["/v3/lease/revoke", '{"ID":7587862094345763073}'],
  ["/v3/kv/lease/timetolive", { ID: 77, keys: true }],
  ["/v3/cluster/member/list", {}],
];

/** Without what differs between any two clusters; errors as code and text, which every version has. */
function comparable({ status, body }: JsonAnswer): unknown {
  const text = JSON.stringify(body, (name, value: unknown) =>
    ["cluster_id", "member_id", "raft_term", "members"].includes(name) ? undefined : value,
  );
  const plain = JSON.parse(text) as { code?: number; message?: string };
  return plain.code === undefined
    ? { status, body: plain }
    : { status, code: plain.code, message: plain.message };
}

async function transcript(at: string, post: PostJson): Promise<unknown[]> {
  const answers: unknown[] = [];
  for (const [path, request] of SCRIPT) {
    const body = typeof request === "string" ? request : JSON.stringify(request);
    answers.push({ path, body, answer: comparable(await post(at, path, body)) });
  }
  return answers;
}

describeWithTools(["etcd", "curl"], "the referee", () => {
  test.each([
    ["HTTP/1.1", postFetch],
    ["HTTP/2", postCurl],
  ])("answers each request as etcd does (%s)", async (_version, post) => {
    const etcd = await startEtcd();
    const own = await startQuorate();
    try {
      const expected = await transcript(etcd.addresses[0] as string, postFetch);
      expect(await transcript(own.addresses[0] as string, post)).toEqual(expected);
    } finally {
      await Promise.all([etcd.stop(), own.stop()]);
    }
  });
});

describe.each([
  ["HTTP/1.1", postFetch],
  ["HTTP/2", postCurl],
])("over %s", (_version, post) => {
  const send = (path: string, request: object) => post(address, path, JSON.stringify(request));

  test("64-bit numbers are strings, zero values are left out", async () => {
    const { body } = await send("/v3/kv/put", { key: A, value: VALUE });
    const { header } = body as { header: Record<string, unknown> };
    expect(Object.keys(body as object)).toEqual(["header"]);
    expect(header["cluster_id"]).toMatch(/^\d{5,20}$/);
    expect(header["revision"]).toMatch(/^\d+$/);
    expect(header["raft_term"]).toMatch(/^\d+$/);
  });

  test("status and members", async () => {
    const { body: status } = await send("/v3/maintenance/status", {});
    expect(status).toMatchObject({ version: "3.7.1", storageVersion: "3.7.0" });
    const { leader, header } = status as { leader: string; header: { member_id: string } };
    expect(leader).toBe(header.member_id);
    const { body: list } = await send("/v3/cluster/member/list", {});
    const clientURLs = [`http://${address}`];
    expect(list).toMatchObject({ members: [{ ID: leader, name: "m1", clientURLs }] });
  });

  test.each<[string, string]>([
    ["no JSON", "nonsense"],
    ["half an object", '{"key":'],
    ["an array", "[]"],
    ["a million brackets", "[".repeat(1_000_000)],
    ["a number for bytes", '{"key":5}'],
    ["wrong base64", '{"key":"%%%"}'],
    ["no number", '{"key":"YQ==","limit":"x"}'],
    ["a number of more than 64 bits", '{"key":"YQ==","limit":"9223372036854775808"}'],
    ["something after the object", '{"key":"YQ=="}}'],
  ])("%s is an invalid argument (400, code 3)", async (_what, text) => {
    const { status, body } = await post(address, "/v3/kv/range", text);
    expect({ status, body }).toMatchObject({ status: 400, body: { code: 3, details: [] } });
    expect((body as { message: string }).message).toMatch(/^malformed request: ./);
  });

  test("transactions in transactions without end are an invalid argument", async () => {
    const { status, body } = await post(address, "/v3/kv/txn", nested(10_000));
    expect({ status, body }).toMatchObject({ status: 400, body: { code: 3 } });
    expect((body as { message: string }).message).toContain("maximum recursion depth");
  });

  test.each([
    ["/v3/watch", "x", "a JSON object is expected"],
    ["/v3/watch", '{"create_request":', "the JSON ends too early"],
    ["/v3/lease/keepalive", '{"ID":"x"}', "malformed request"],
  ])("%s with %s fails before its first answer", async (path, text, reason) => {
    const { status, body } = await post(address, path, text);
    expect(status).toBe(400);
    const { error } = body as { error: { code: number; message: string } };
    expect(error).toMatchObject({ code: 3, details: [] });
    expect(error.message).toContain(reason);
  });

  test("each gRPC status has its HTTP status", async () => {
    const outcomes = [
      await send("/v3/kv/range", {}),
      await send("/v3/kv/range", { key: A, revision: "999999" }),
      await send("/v3/lease/revoke", { ID: "12345" }),
      await send("/v3/lease/grant", { TTL: "9000000001" }),
      await send("/v3/nothing", {}),
      await send("/v3/", {}),
    ].map(({ status, body }) => [status, (body as { code: number }).code]);
    expect(outcomes).toEqual([
      [400, 3],
      [400, 11],
      [404, 5],
      [400, 11],
      [404, 5],
      [404, 5],
    ]);
    await send("/v3/lease/grant", { TTL: "60", ID: "5" });
    expect(await send("/v3/lease/grant", { TTL: "60", ID: "5" })).toMatchObject({
      status: 400,
      body: { code: 9, message: "etcdserver: lease already exists" },
    });
    await send("/v3/lease/revoke", { ID: "5" });
  });

  test("methods of services that don't exist yet are unimplemented (501)", async () => {
    for (const path of ["/v3/auth/enable", "/v3/lock/lock", "/v3/election/observe"]) {
      expect(await send(path, {})).toMatchObject({ status: 501, body: { code: 12 } });
    }
  });

  test("too large a value is refused in etcd's words", async () => {
    const put = (bytes: number) =>
      send("/v3/kv/put", { key: A, value: Buffer.alloc(bytes).toString("base64") });
    expect(await put(1.5 * 1024 * 1024)).toMatchObject({
      status: 400,
      body: { code: 3, message: "etcdserver: request is too large" },
    });
    expect(await put(1024)).toMatchObject({ status: 200 });
  });
});

test("a huge body is refused before it is read whole, and the next request is served", async () => {
  const value = "A".repeat(16 * 1024 * 1024);
  const huge = await postFetch(address, "/v3/kv/put", JSON.stringify({ key: A, value }));
  expect(huge).toMatchObject({ status: 429, body: { code: 8 } });
  expect((huge.body as { message: string }).message).toMatch(/is longer than \d+ bytes/);
  const put = JSON.stringify({ key: A, value: VALUE });
  expect(await postCurl(address, "/v3/kv/put", put)).toMatchObject({ status: 200 });
});

test("a GET on a method's path is refused (405), and the next request is served", async () => {
  const answer = await fetch(`http://${address}/v3/kv/range`);
  expect(answer.status).toBe(405);
  expect(await answer.json()).toMatchObject({ message: "Method Not Allowed" });
  expect(await postFetch(address, "/v3/kv/range", JSON.stringify({ key: A }))).toMatchObject({
    status: 200,
  });
});

/** The lines of a response as they come. */
async function* linesOf(response: Response): AsyncGenerator<Record<string, unknown>> {
  let pending = "";
  for await (const chunk of response.body ?? []) {
    const lines = (pending + Buffer.from(chunk as Uint8Array).toString("utf8")).split("\n");
    pending = lines.pop() as string;
    for (const line of lines) yield JSON.parse(line) as Record<string, unknown>;
  }
}

test("a watch stays open after its request has ended, and delivers events line by line", async () => {
  const key = base64("watched");
  const giveUp = new AbortController();
  const response = await fetch(`http://${address}/v3/watch`, {
    method: "POST",
    body: JSON.stringify({ createRequest: { key, prevKv: true } }),
    signal: giveUp.signal,
  });
  const lines = linesOf(response);
  expect((await lines.next()).value).toMatchObject({ result: { created: true } });
  for (const value of ["one", "two"]) {
    await postFetch(address, "/v3/kv/put", JSON.stringify({ key, value: base64(value) }));
    const { value: line } = await lines.next();
    expect(line).toMatchObject({ result: { events: [{ kv: { key, value: base64(value) } }] } });
  }
  await postFetch(address, "/v3/kv/deleterange", JSON.stringify({ key }));
  expect((await lines.next()).value).toMatchObject({
    result: { events: [{ type: "DELETE", kv: { key }, prev_kv: { value: base64("two") } }] },
  });
  giveUp.abort();
  await expect(lines.next()).rejects.toThrow();
});

test("a watch over HTTP/2 delivers until its client goes (curl)", async () => {
  const key = base64("watched too");
  await postFetch(address, "/v3/kv/put", JSON.stringify({ key, value: VALUE }));
  const request = JSON.stringify({ create_request: { key, start_revision: "1" } });
  const flags = ["-sSN", "--http2-prior-knowledge", "--data-binary", request];
  const child = await Child.start({
    command: "curl",
    args: [...flags, `http://${address}/v3/watch`],
  });
  const lines = () => child.log.split("\n").slice(0, -1);
  await expect.poll(() => lines().length).toBe(2);
  await child.stop();
  const [created, events] = lines();
  expect(JSON.parse(created as string)).toMatchObject({ result: { created: true } });
  expect(JSON.parse(events as string)).toMatchObject({ result: { events: [{ kv: { key } }] } });
});

test("a watch of a compacted revision is cancelled on the open stream", async () => {
  const put = JSON.stringify({ key: A, value: VALUE });
  const { body } = await postFetch(address, "/v3/kv/put", put);
  const { revision } = (body as { header: { revision: string } }).header;
  await postFetch(address, "/v3/kv/compaction", JSON.stringify({ revision }));
  const giveUp = new AbortController();
  const response = await fetch(`http://${address}/v3/watch`, {
    method: "POST",
    body: JSON.stringify({ create_request: { key: A, start_revision: 1 } }),
    signal: giveUp.signal,
  });
  const lines = linesOf(response);
  expect((await lines.next()).value).toMatchObject({ result: { created: true } });
  expect((await lines.next()).value).toMatchObject({
    result: { canceled: true, compact_revision: revision },
  });
  giveUp.abort();
});
